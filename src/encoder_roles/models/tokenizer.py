"""Reads a tokenizer exactly as its tokenizer.json defines it.

AutoTokenizer of transformers 5 chooses a class by the model's type and rebuilds the tokenizer from its
vocabulary. Next to a Qwen2 model it silently turns a word-level tokenizer into byte-level BPE without merges,
which has no words.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers

from encoder_roles.study.names import StudyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_FILE = "tokenizer.json"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in a folder. Raises StudyError if it is missing or damaged."""
    from transformers import PreTrainedTokenizerFast

    if not (folder / TOKENIZER_FILE).is_file():
        raise StudyError(f"{folder / TOKENIZER_FILE}: no such file; the folder holds no fast tokenizer")
    try:
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{folder}: the tokenizer cannot be loaded: {' '.join(str(error).split())}"
        ) from error
    return tokenizer
