"""The one way a tokenizer is read: exactly as its tokenizer.json says.

transformers 5's AutoTokenizer picks a class by the model's type and rebuilds the tokenizer from its
vocabulary: beside a Qwen2 model a word-level tokenizer comes back as byte-level BPE without merges, silently,
and knows no word.
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
    """The tokenizer of a folder. Raises StudyError if there is none, or it is damaged."""
    from transformers import PreTrainedTokenizerFast

    if not (folder / TOKENIZER_FILE).is_file():
        raise StudyError(f"{folder / TOKENIZER_FILE}: no such file; the folder holds no fast tokenizer")
    try:
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise StudyError(f"{folder}: no tokenizer to load: {' '.join(str(error).split())}") from error
    return tokenizer
