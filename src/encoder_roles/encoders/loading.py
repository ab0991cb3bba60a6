"""Loads an encoder from a staged folder; a library is imported only if an encoder needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from encoder_roles.encoders.encoder import Encoder
from encoder_roles.encoders.framing import Frame
from encoder_roles.encoders.weights import read_json
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec

SPEC_FILE = "encoder.json"


def read_spec(folder: Path) -> tuple[EncoderSpec, tuple[int, ...]]:
    """The EncoderSpec and the widths of its levels, from a staged folder's encoder.json.

    Raises StudyError if the file is missing or damaged.
    """
    row = read_json(folder / SPEC_FILE)
    try:
        widths = tuple(int(width) for width in row.pop("widths", [row["width"]]))
        if sum(widths) != row.pop("width"):
            raise StudyError(f"{folder / SPEC_FILE}: width is not the sum of the widths; stage again")
        return EncoderSpec.model_validate(row), widths
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(f"{folder / SPEC_FILE}: not an encoder's specification: {error}") from None


def read_frame(folder: Path) -> Frame:
    """The frame of a staged encoder. Its network is loaded only where the frame depends on the patches.

    Raises StudyError as `load_encoder` does.
    """
    spec, _ = read_spec(folder)
    return load_encoder(folder).frame if spec.aspect == "keep" else Frame.of(spec, patch=1)


def load_encoder(folder: Path) -> Encoder:
    """The encoder of a staged folder `encoders/<name>`, in evaluation mode; its name is the folder's.

    Raises:
        StudyError: a file or a weight is missing, unexpected, of the wrong shape or damaged.
    """
    spec, widths = read_spec(folder)
    encoder = load_source(folder.name, spec, folder)
    if encoder.widths != widths:
        raise StudyError(
            f"{folder / SPEC_FILE}: width is {_sum(widths)}, but the network's is {_sum(encoder.widths)}; "
            "stage again"
        )
    return encoder


def _sum(widths: tuple[int, ...]) -> str:
    return " + ".join(map(str, widths))


def load_source(name: str, spec: EncoderSpec, folder: Path) -> Encoder:
    """The encoder `name` from a folder in the format of its library."""
    if spec.library == "transformers":
        from encoder_roles.encoders import vision_transformers

        return vision_transformers.load(name, spec, folder).eval()
    from encoder_roles.encoders import timm_trunks

    load = timm_trunks.load if spec.library == "timm" else timm_trunks.load_open_clip
    return load(name, spec, folder).eval()


def build_encoder(name: str, spec: EncoderSpec, library_config: dict[str, Any]) -> Encoder:
    """The encoder that a `library_config` describes, without weights."""
    if spec.library == "transformers":
        from encoder_roles.encoders import vision_transformers

        return vision_transformers.build(name, spec, library_config).eval()
    from encoder_roles.encoders import timm_trunks

    return timm_trunks.build(name, spec, library_config).eval()


def build_network(name: str, spec: EncoderSpec, library_config: dict[str, Any]) -> Any:
    """The complete vision network of the library, nothing cut off, without weights."""
    if spec.library == "transformers":
        from encoder_roles.encoders import vision_transformers

        return vision_transformers.network(library_config, f"encoder {name}")
    from encoder_roles.encoders import timm_trunks

    return timm_trunks.network(spec, library_config, f"encoder {name}")
