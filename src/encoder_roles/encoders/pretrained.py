"""Strict reading of a `save_pretrained` folder of transformers, for encoders and language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from encoder_roles.encoders.weights import check_names
from encoder_roles.study.names import StudyError


def load_pretrained(
    kind: Any,
    folder: Path,
    unused: tuple[str, ...] = (),
    renamed: dict[str, str] | None = None,
    config: Any = None,
) -> Any:
    """A network of class `kind` with the weights of a folder, fp32: every weight in its shape, and no other.

    Args:
        kind: a transformers model class (or an Auto class).
        folder: its `save_pretrained` folder, with safetensors.
        unused: prefixes of weights that the file may hold but the network does not read.
        renamed: regular expressions in the file's names -> their replacements in the network's names.
        config: the network's config; by default the folder's config.json.

    Raises:
        StudyError: a file or a weight is missing, unexpected, of the wrong shape or damaged.
    """
    if not list(folder.glob("model*.safetensors")):
        raise StudyError(f"{folder}: no model.safetensors; weights are read from safetensors files only")
    try:
        network, report = kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            key_mapping=renamed,
            ignore_mismatched_sizes=True,  # the report has them; below they are errors
        )
    except SafetensorError as error:
        raise StudyError(
            f"{folder}: truncated or damaged safetensors file ({error}); fetch it again"
        ) from None
    except (OSError, ValueError) as error:  # a shard is missing, or the config does not fit `kind`
        raise StudyError(f"{folder}: cannot be loaded: {' '.join(str(error).split())}") from None
    for name, actual, expected in sorted(report["mismatched_keys"]):
        raise StudyError(
            f"{folder}: weight {name!r} has shape {list(actual)}, the network's is {list(expected)}; "
            "config and weights differ"
        )
    extra = [name for name in report["unexpected_keys"] if not name.startswith(unused)]
    check_names(report["missing_keys"], extra, folder)
    return network.eval()


def plain_config(config: Any) -> dict[str, Any]:
    """A transformers config as JSON that describes only the network, not its folder or library version."""
    plain: dict[str, Any] = config.to_dict()
    for key in ("_name_or_path", "architectures", "transformers_version", "dtype"):
        plain.pop(key, None)
    return plain
