"""Makes transformers importable with any torchvision, and quiet. Import it before transformers.

Its progress bars and reports would only fill logs: weights that do not fit are a StudyError.
"""

from __future__ import annotations

from logging import ERROR, getLogger

from encoder_roles.encoders import _torchvision  # isort: skip  # noqa: F401  # must come first
from transformers.utils import logging

# transformers looks for DeepSpeed, which on a CPU prints on stdout that it sees no GPU. DeepSpeed sets its
# logger's level when it is imported, so a level set here would be lost.
getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= ERROR)
logging.disable_progress_bar()
logging.set_verbosity_error()
