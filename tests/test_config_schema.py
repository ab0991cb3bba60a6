"""config.schema.json: what editors complete and check agrees with what the package accepts."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from encoder_roles.study.names import JOBS
from encoder_roles.study.schema import schema_text

ROOT = Path(__file__).resolve().parent.parent
SCHEMA_FILE = ROOT / "config.schema.json"
SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
CONFIGS = [
    ROOT / "config.yaml",
    *sorted(path for path in (ROOT / "studies").glob("*.yaml") if ".lock" not in path.name),
]
CONFIG: dict[str, Any] = yaml.safe_load(CONFIGS[0].read_text(encoding="utf-8"))


def faults(config: Any) -> list[str]:
    """The messages of all faults of a config."""
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(config)]


def mappings(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all mappings in a config, without those whose keys are free."""
    if isinstance(config, dict) and path[-1:] not in (("library_config",), ("by_encoder",)):
        yield path
        for key, value in config.items():
            yield from mappings(value, (*path, key))


def described(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Every property of a schema by its path, with its description or that of its definition."""
    for name, value in schema.get("properties", {}).items():
        definition = SCHEMA["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
        yield f"{path}.{name}", value.get("description") or definition.get("description", "")
        yield from described(value, f"{path}.{name}")
    for name, value in schema.get("$defs", {}).items():
        yield from described(value, name)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from described(schema["additionalProperties"], f"{path}.*")


def test_the_schema_is_the_one_that_the_settings_give() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run `make schema`"
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_a_schema_out_of_date_fails_the_check_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("{}\n")
    command = [sys.executable, "-m", "encoder_roles.study.schema", "--check", str(tmp_path / "old.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path / 'old.json'}: out of date with the settings; run `make schema`\n"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_of_the_repository_names_the_schema_and_follows_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    name = text.partition("\n")[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / name).resolve() == SCHEMA_FILE
    assert faults(yaml.safe_load(text)) == []


@pytest.mark.parametrize("path", list(mappings({key: CONFIG[key] for key in CONFIG if key != "encoders"})))
def test_a_misspelt_key_of_any_section_is_a_fault(path: tuple[str, ...]) -> None:
    config = copy.deepcopy(CONFIG)
    section = config
    for key in path:
        section = section[key]
    section["misspelt"] = 1
    assert any("'misspelt' was unexpected" in fault for fault in faults(config))


@pytest.mark.parametrize(
    "config",
    [
        {"seeds": [0.5]},
        {"encoders": {"clip": {"pixel": 48}}},
        {"encoders": {"clip": {"layer": "last"}}},
        {"training": {"tune": {"learning_rates": {"by_encoder": {"sam": 2}}}}},
        {"evaluation": {"benchmarks": ["vqa"]}},
        {"jobs": {"train_tune": {"minutes": 0}}},
        {"variants": {"other": {"masks": {}}}},
        {"variants": {"other": {"connector": {"kind": "qformer"}}}},
    ],
    ids=str,
)
def test_a_wrong_value_is_a_fault(config: dict[str, Any]) -> None:
    assert faults(config)


@pytest.mark.parametrize("config", [{}, {"scores": "table.csv"}, {"scores": {"file": "table.csv"}}], ids=str)
def test_a_study_may_change_as_little_as_it_likes(config: dict[str, Any]) -> None:
    assert faults(config) == []


def test_every_property_is_described_in_a_sentence() -> None:
    properties = dict(described(SCHEMA))
    assert len(properties) > 120
    assert {f".jobs.{job}" for job in JOBS} < set(properties)
    assert [path for path, text in properties.items() if len(text) < 15 or not text.endswith(".")] == []
