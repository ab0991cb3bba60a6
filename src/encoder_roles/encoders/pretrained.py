"""Reading a `save_pretrained` folder of transformers strictly, for encoders and language models alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from encoder_roles.encoders.weights import check_names
from encoder_roles.study.names import StudyError


def load_pretrained(
    kind: Any, folder: Path, unused: tuple[str, ...] = (), renamed: dict[str, str] | None = None
) -> Any:
    """The network `kind` with a folder's weights, fp32: every one there, in its shape, and nothing else.

    Args:
        kind: a transformers model class (or an Auto class).
        folder: its `save_pretrained` folder, with safetensors.
        unused: beginnings of the names of weights that the file may hold and the network does not read.
        renamed: regular expressions of the file's names -> what stands for them in the network's.

    Raises:
        StudyError: a file or a weight is missing, unexpected, of the wrong shape or damaged.
    """
    if not list(folder.glob("model*.safetensors")):
        raise StudyError(f"{folder}: no model.safetensors; weights are read from safetensors files only")
    try:
        network, report = kind.from_pretrained(
            folder,
            dtype=torch.float32,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            key_mapping=renamed,
            ignore_mismatched_sizes=True,  # they are in the report, and refused below by name
        )
    except SafetensorError as error:
        raise StudyError(
            f"{folder}: truncated or damaged safetensors file ({error}); fetch it again"
        ) from None
    except (OSError, ValueError) as error:  # a shard is missing; the config fits no network of this kind
        raise StudyError(f"{folder}: cannot be loaded: {' '.join(str(error).split())}") from None
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise StudyError(
            f"{folder}: weight {name!r} has shape {list(found)}, the network's is {list(expected)}; "
            "config and weights differ"
        )
    extra = [name for name in report["unexpected_keys"] if not name.startswith(unused)]
    check_names(report["missing_keys"], extra, folder)
    return network.eval()


def plain_config(config: Any) -> dict[str, Any]:
    """A transformers config as JSON: what the network is, not where it was read from or by which version."""
    kept: dict[str, Any] = config.to_dict()
    for key in ("_name_or_path", "architectures", "transformers_version", "dtype"):
        kept.pop(key, None)
    return kept
