"""Staging: check a pretrained source, and copy it to where later stages read it."""

from __future__ import annotations

import shutil
from pathlib import Path

from encoder_roles.encoders.loading import SPEC_FILE, load_source
from encoder_roles.encoders.sizes import TOLERANCE, NetworkSize, measure_network
from encoder_roles.provenance import PICKLED, atomic_folder, sha256_of, write_json
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec, Published
from encoder_roles.study.stages import read_settings

CHECKSUMS = "SHA256SUMS"
NOT_COPIED = frozenset({CHECKSUMS, "README.md", "gates.csv"})  # they describe the source


def stage_encoder(*, settings: Path, source: Path, output: Path) -> None:
    """Copy an encoder's source folder to `output`, and add encoder.json, its specification with the width.

    Args:
        settings: settings/encoder_<name>.json.
        source: the folder of the pretrained encoder: pinned, fetched, or made by the DAG.
        output: encoders/<name>, in the library's own format.

    Raises:
        StudyError: the source is missing, damaged, differs from its SHA256SUMS or has no safetensors; or its
            network cannot give the requested layers at the requested pixels, or is not the published one.
    """
    spec = read_settings(settings, EncoderSpec)
    name = output.name
    with atomic_folder(output) as folder:
        copy_source(source, folder)
        encoder = load_source(name, spec, folder)
        size = measure_network(name, spec, encoder.library_config)  # also checks layers and pixels
        if spec.published is not None:
            check_published(name, size, spec.published)
        sizes = {"width": encoder.width, "widths": list(encoder.widths)}
        write_json(folder / SPEC_FILE, spec.model_dump(mode="json") | sizes)


def check_published(name: str, size: NetworkSize, published: Published) -> None:
    """Raise StudyError unless the size of the encoder's network is the published one."""
    if abs(size.parameters - published.parameters) > TOLERANCE * published.parameters:
        raise StudyError(
            f"encoder {name}: its network has {size.parameters:,} parameters, but the published one "
            f"{published.parameters:,}; correct the source, or published.parameters"
        )
    for key in ("width", "grid"):
        expected, measured = getattr(published, key), getattr(size, key)
        if expected is not None and measured != expected:
            raise StudyError(
                f"encoder {name}: its {key} is {measured} at this layer and these pixels, but "
                f"published.{key} is {expected}; correct the one that is wrong"
            )


def copy_source(source: Path, folder: Path) -> None:
    """Copy a source's files, except pickled weights, and check them against its SHA256SUMS if it has one."""
    if not source.is_dir():
        raise StudyError(f"{source}: no such folder; run `make sources`, or correct `source` in the config")
    files = sorted(p for p in source.rglob("*") if p.is_file() and p.name not in NOT_COPIED)
    kept = [p for p in files if p.suffix not in PICKLED]
    if not any(p.suffix == ".safetensors" for p in kept):
        pickled = ", ".join(p.name for p in files if p.suffix in PICKLED)
        reason = (
            f"only {pickled}, and pickled weights are not read: `encoder-roles convert-checkpoint`"
            if pickled
            else "none"
        )
        raise StudyError(f"{source}: needs weights as safetensors, has {reason}; convert or fetch them")
    check_sums(source, kept)
    for file in kept:
        target = folder / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def check_sums(source: Path, files: list[Path]) -> None:
    """Check files against the source's SHA256SUMS (lines `hash  name`), which must list all weights."""
    sums = source / CHECKSUMS
    if not sums.is_file():
        return
    expected = {}
    for number, line in enumerate(sums.read_text().splitlines(), start=1):
        digest, _, name = line.partition(" ")
        if len(digest) != 64 or not name.strip(" *"):
            raise StudyError(f"{sums}: line {number} is not `<sha256>  <name>`")
        expected[name.strip(" *")] = digest
    if missing := sorted(name for name in expected if not (source / name).is_file()):
        raise StudyError(
            f"{source / missing[0]}: listed in {CHECKSUMS}, but missing; fetch or make the source again"
        )
    for file in files:
        name = file.relative_to(source).as_posix()
        if name not in expected and file.suffix == ".safetensors":
            raise StudyError(
                f"{file}: weights that {CHECKSUMS} does not list; fetch or make the source again"
            )
        if name in expected and sha256_of(file) != expected[name]:
            raise StudyError(
                f"{file}: its SHA-256 is not the one in {CHECKSUMS}; fetch or make the source again"
            )
