"""Processes that begin with all that is imported here: an import of torch and transformers takes seconds."""

from __future__ import annotations

import multiprocessing

import torch

# Where torch may use CUDA, a process cannot be forked.
CONTEXT = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
