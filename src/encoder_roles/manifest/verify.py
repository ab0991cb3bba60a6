"""`verify`: whether a study matches its manifest, and the current code, config and locks made it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from encoder_roles.manifest.code import code_key
from encoder_roles.manifest.job import HASHED_FROM
from encoder_roles.manifest.write import below, kept_files, present_code
from encoder_roles.provenance import digests, sha256_of
from encoder_roles.study.config import load_study
from encoder_roles.study.names import StudyError

SHOWN = 3  # outputs or keys in one line


def verify(*, configs: tuple[Path, ...], manifest: Path | None = None, quick: bool = False) -> None:
    """Check a study against its manifest: one line per fault, and exit code 1 if there is one.

    Faults: a file is missing, changed or made by no rule; an input has changed; other code, another config or
    another environment than the current ones made a result, or no record says what made it.

    Args:
        configs: config.yaml and the study that overrides it, if any.
        manifest: the manifest; default: results/<study>/manifest.json.
        quick: read no file of 1 MiB or more, but compare its size, and its time with the manifest's. This
            misses bytes that a disk or a person changed without a trace, so it is not the default.
    """
    study = load_study(*configs)
    manifest = manifest or Path("results") / study.study / "manifest.json"
    entries = read_manifest(manifest)
    faults = [
        *config_faults(entries["config"], study.model_dump(mode="json"), configs),
        *input_faults(entries, quick),
        *file_faults(entries, manifest.parent, quick),
        *job_faults(entries, manifest.parent),
    ]
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        raise StudyError(
            f"{manifest}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}, listed above"
        )
    how = "verified by size and time" if quick else "verified"
    print(f"{manifest}: {len(entries['files'])} files of {len(entries['jobs'])} jobs {how}")


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest. Raises StudyError if it is missing or damaged."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: not written yet; `make paper` writes it at its end") from None
    except ValueError as error:
        raise StudyError(f"{path}: not JSON ({error}); remove it and run `make paper`") from None
    if missing := [key for key in ("files", "jobs", "inputs", "config") if key not in manifest]:
        raise StudyError(f"{path}: has no {missing[0]!r}; remove it and run `make paper`")
    return manifest


def config_faults(made: dict[str, Any], present: dict[str, Any], configs: tuple[Path, ...]) -> Iterator[str]:
    """Settings whose value has changed since the results were made."""
    before, now = flat(made), flat(present)
    differing = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if differing:
        named = ", ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in differing[:SHOWN])
        where = " + ".join(map(str, configs))
        yield f"made with another config than {where}: {named}{and_more(differing)}; `make paper`"


def flat(value: Any, key: str = "") -> dict[str, str]:
    """A nested object as dotted key -> JSON of the value."""
    if not isinstance(value, dict):
        return {key: json.dumps(value)}
    return {k: v for name, part in value.items() for k, v in flat(part, f"{key}.{name}".lstrip(".")).items()}


def is_untouched(file: Path, manifest: dict[str, Any]) -> bool:
    """Whether a file is large and older than the manifest, so that a quick check does not read it."""
    facts = file.stat()
    written = datetime.fromisoformat(manifest["written"]).timestamp()
    return facts.st_size >= HASHED_FROM and facts.st_mtime <= written + 1  # `written` has whole seconds


def input_faults(manifest: dict[str, Any], quick: bool) -> Iterator[str]:
    """Inputs of the workflow outside the results that have changed since."""
    for name, sha256 in manifest["inputs"].items():
        if not (path := Path(name)).is_file():
            yield f"{path}: an input of the study is missing"
        elif quick and is_untouched(path, manifest):
            continue
        elif sha256_of(path) != sha256:
            yield f"{path}: an input has changed since the results were made; `make paper`"


def file_faults(manifest: dict[str, Any], results: Path, quick: bool) -> Iterator[str]:
    """Files that are missing or changed, or that no rule makes."""
    files = manifest["files"]
    there = {below(path, results): path for path in kept_files(results)}
    for missing in manifest["missing"]:
        yield f"{results / missing['output']}: missing when the manifest was written; {remade(missing)}"
    for name, entry in files.items():
        if name not in there:
            yield f"{results / name}: missing; {remade(entry)}"
    kept = [name for name in files if name in there]
    sizes = {name: there[name].stat().st_size for name in kept}
    same = [name for name in kept if sizes[name] == files[name]["size"]]
    read = [name for name in same if not (quick and is_untouched(there[name], manifest))]
    hashes = {name: files[name]["sha256"] for name in same}
    hashes |= dict(zip(read, digests([there[name] for name in read]).values(), strict=True))
    for name in kept:
        if name not in hashes:
            yield f"{results / name}: changed: {sizes[name]} bytes, {files[name]['size']} when it was made"
        elif hashes[name] != files[name]["sha256"]:
            yield f"{results / name}: changed: its SHA-256 is not what {files[name]['rule']} wrote"
    for name in sorted(there.keys() - files.keys()):
        if name in manifest["orphans"]:
            yield f"{results / name}: orphaned: no rule of this study makes it; remove it"
        else:  # variants are often made later
            yield f"{results / name}: newer than the manifest; `make paper` writes the manifest again"


def remade(entry: dict[str, Any]) -> str:
    """How to make a lost file again. Snakemake alone does nothing while later outputs exist."""
    return f"{entry['rule']} makes it; `make paper` or `encoder-roles repair` makes it again, and no others"


def job_faults(manifest: dict[str, Any], results: Path) -> Iterator[str]:
    """Results of other code or another environment than the current ones: one line per rule and fault.

    The remedy names exactly the outputs at fault, or the rule if those are all of its outputs.
    """
    outputs: dict[tuple[str, str], list[str]] = {}
    for job in manifest["jobs"]:
        if fault := job_fault(job, manifest):
            outputs.setdefault((job["rule"], fault), []).extend(job["outputs"])
    for (rule, fault), names in outputs.items():
        every = [name for job in manifest["jobs"] if job["rule"] == rule for name in job["outputs"]]
        forced = rule if len(names) == len(every) else " ".join(str(results / name) for name in names)
        remedy = f"snakemake --cores all --forcerun {forced} -- paper"
        yield f"{', '.join(names[:SHOWN])}{and_more(names)} ({rule}): {fault}; {remedy}"


def job_fault(job: dict[str, Any], manifest: dict[str, Any]) -> str | None:
    """Why a job's outputs are not those of the current code and environment; None if they are."""
    if job["rule"] in manifest["unrecorded"]:
        return None
    if (made := job["made_by"]) is None:
        return "no record of its code and environment (its log is gone)"
    lock = Path("envs") / made["environment"]
    if not lock.is_file() or sha256_of(lock) != made["lock_sha256"]:
        return f"made in another environment than the current {lock}"
    code = present_code(made["module"], made["script"])
    if code_key(code) != made["code"]:
        before = manifest["code"].get(made["code"])
        if before is None:
            return "made by other code than the current"
        changed = [name for name in sorted(before.keys() | code.keys()) if before.get(name) != code.get(name)]
        return f"made by other code than the current: {', '.join(changed[:SHOWN])}{and_more(changed)} differ"
    return None


def and_more(names: list[str]) -> str:
    """The number of names that a line leaves out."""
    return f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
