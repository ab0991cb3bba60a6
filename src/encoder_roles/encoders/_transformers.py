"""transformers, importable beside any torchvision, and quiet: import this before it, in every process.

Its progress bars and its reports of weights that do not fit say nothing here: what does not fit is an error of ours.
"""

from __future__ import annotations

from encoder_roles.encoders import _torchvision  # isort: skip  # noqa: F401  # must come first
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()
