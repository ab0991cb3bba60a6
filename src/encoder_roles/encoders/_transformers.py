"""Makes transformers importable with any torchvision, and quiet. Import it before transformers.

Its progress bars and reports would only fill logs: weights that do not fit are a StudyError.
"""

from __future__ import annotations

from encoder_roles.encoders import _torchvision  # isort: skip  # noqa: F401  # must come first
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()
