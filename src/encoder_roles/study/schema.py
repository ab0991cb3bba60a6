"""config.schema.json: the keys of a config for editors, generated from the settings (`make schema`).

The schema checks names, types and ranges. It requires no key, because a study overrides single keys of
config.yaml. Missing keys and the checks between sections are reported when a config is loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from encoder_roles.provenance import write_text
from encoder_roles.study.config import VARIANT_KEYS, Study
from encoder_roles.study.names import BENCHMARKS, JOBS, OVERLAYS

DIALECT = "http://json-schema.org/draft-07/schema#"  # the newest that all editors understand
Schema = dict[str, Any]


def config_schema() -> Schema:
    """The JSON schema of config.yaml and of the studies that override it."""
    schema = _without(Study.model_json_schema(), "title", "required")
    definitions = schema["$defs"]
    study: Schema = definitions.pop("Study")  # the root; a variant is a part of it
    keys = study["properties"]
    keys["variants"] = {"type": "object", "description": keys["variants"]["description"]} | {
        "additionalProperties": {
            "type": "object",
            "description": "What the variant changes; {} for the study as it is.",
            "properties": {key: keys[key] for key in VARIANT_KEYS},
            "additionalProperties": False,
        }
    }
    keys["jobs"]["additionalProperties"] = False
    keys["jobs"]["properties"] = {
        name: {"$ref": "#/$defs/JobRequest", "description": f"{purpose[0].upper()}{purpose[1:]}."}
        for name, purpose in JOBS.items()
    }
    keys["scores"]["anyOf"].insert(0, {"type": "string"})
    evaluation = definitions["EvaluationSettings"]["properties"]
    for key, names in (("benchmarks", BENCHMARKS), ("overlays", OVERLAYS)):
        evaluation[key]["anyOf"] = [{"const": "all"}, {"type": "array", "items": {"enum": list(names)}}]
    head = {"$schema": DIALECT, "title": "A study of encoder-roles"}
    return head | study | {"$defs": definitions}


def schema_text() -> str:
    """The text of config.schema.json."""
    return json.dumps(config_schema(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema to a file, or with --check compare the file with the settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of date")
    arguments = parser.parse_args()
    if not arguments.check:
        write_text(arguments.file, schema_text())
    elif not arguments.file.is_file() or arguments.file.read_text(encoding="utf-8") != schema_text():
        sys.exit(f"{arguments.file}: out of date with the settings; run `make schema`")


def _without(schema: Schema, *keywords: str) -> Schema:
    """A schema without some keywords, at every level; the names of properties are no keywords."""
    kept: Schema = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            kept[key] = {name: _without(inner, *keywords) for name, inner in value.items()}
        elif key not in keywords:
            kept[key] = _inside(value, *keywords)
    return kept


def _inside(value: Any, *keywords: str) -> Any:
    if isinstance(value, dict):
        return _without(value, *keywords)
    if isinstance(value, list):
        return [_inside(entry, *keywords) for entry in value]
    return value


if __name__ == "__main__":
    main()
