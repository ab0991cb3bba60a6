"""`verify`: is a study what its manifest says, and was it made by the present code, config and locks?"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encoder_roles.manifest.code import code_key
from encoder_roles.manifest.write import below, digests, kept_files, present_code
from encoder_roles.provenance import sha256_of
from encoder_roles.study.config import load_study
from encoder_roles.study.names import StudyError

SHOWN = 3  # outputs or keys named in one line


def verify(*, configs: tuple[Path, ...], manifest: Path | None = None) -> None:
    """Check a study against its manifest: a line for every fault, exit code 1 if there is one.

    Faults: a file is missing, changed or made by no rule; an input has changed; a result was made by other
    code, another config or another environment than the present ones, or nothing says by what.

    Args:
        configs: config.yaml and the study that overrides it, if any.
        manifest: its manifest; results/<study>/manifest.json if not given.
    """
    study = load_study(*configs)
    manifest = manifest or Path("results") / study.study / "manifest.json"
    found = read_manifest(manifest)
    faults = [
        *config_faults(found["config"], study.model_dump(mode="json"), configs),
        *input_faults(found["inputs"]),
        *file_faults(found, manifest.parent),
        *job_faults(found),
    ]
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        raise StudyError(f"{manifest}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}, see above")
    print(f"{manifest}: {len(found['files'])} files of {len(found['jobs'])} jobs verified")


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest. Raises StudyError if there is none, or it is damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: not written yet; `make paper` writes it when everything is made") from None
    except ValueError as error:
        raise StudyError(f"{path}: not JSON ({error}); remove it and run `make paper`") from None
    if missing := [key for key in ("files", "jobs", "inputs", "config") if key not in found]:
        raise StudyError(f"{path}: has no {missing[0]!r}; remove it and run `make paper`")
    return found


def config_faults(made: dict[str, Any], present: dict[str, Any], configs: tuple[Path, ...]) -> Iterator[str]:
    """Settings with another value than the results were made with."""
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


def input_faults(inputs: dict[str, str]) -> Iterator[str]:
    """Files outside the results, read by the workflow, that have changed since."""
    for name, sha256 in inputs.items():
        if not (path := Path(name)).is_file():
            yield f"{path}: an input of the study is missing"
        elif sha256_of(path) != sha256:
            yield f"{path}: an input has changed since the results were made; `make paper`"


def file_faults(manifest: dict[str, Any], results: Path) -> Iterator[str]:
    """Files that are missing, have changed, or that no rule would make."""
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
    found = dict(zip(same, digests([there[name] for name in same]).values(), strict=True))
    for name in kept:
        if name not in found:
            yield f"{results / name}: changed: {sizes[name]} bytes, {files[name]['size']} when it was made"
        elif found[name] != files[name]["sha256"]:
            yield f"{results / name}: changed: its SHA-256 is not what {files[name]['rule']} wrote"
    for name in sorted(there.keys() - files.keys()):
        yield f"{results / name}: orphaned: no rule of this study makes it; remove it"


def remade(entry: dict[str, Any]) -> str:
    """What to do about a lost file. While what was made of it is there, `make paper` sees nothing to do."""
    return f"{entry['rule']} makes it: snakemake --cores all --forcerun {entry['rule']} -- paper"


def job_faults(manifest: dict[str, Any]) -> Iterator[str]:
    """Results made by other code or in another environment than now: a line for each rule and fault."""
    outputs: dict[tuple[str, str], list[str]] = {}
    for job in manifest["jobs"]:
        if fault := job_fault(job, manifest):
            outputs.setdefault((job["rule"], fault), []).extend(job["outputs"])
    for (rule, fault), names in outputs.items():
        remedy = f"snakemake --cores all --forcerun {rule} -- paper"
        yield f"{', '.join(names[:SHOWN])}{and_more(names)} ({rule}): {fault}; {remedy}"


def job_fault(job: dict[str, Any], manifest: dict[str, Any]) -> str | None:
    """What is wrong with who made a job's outputs; None if nothing is."""
    if job["rule"] in manifest["unrecorded"]:
        return None
    if (made := job["made_by"]) is None:
        return "nothing says which code and environment made it (its log is gone)"
    lock = Path("envs") / made["environment"]
    if not lock.is_file() or sha256_of(lock) != made["lock_sha256"]:
        return f"made in another environment than {lock} of now"
    code = present_code(made["module"], made["script"])
    if code_key(code) != made["code"]:
        before = manifest["code"].get(made["code"])
        if before is None:
            return "made by other code than the present"
        changed = [name for name in sorted(before.keys() | code.keys()) if before.get(name) != code.get(name)]
        return f"made by other code than the present: {', '.join(changed[:SHOWN])}{and_more(changed)} differ"
    return None


def and_more(names: list[str]) -> str:
    """How many names a line leaves out."""
    return f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
