"""Resampling from every encoder's native grid to the connector's, so that subsets differ only in encoders."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from encoder_roles.encoders.encoder import Encoder


def grid_features(encoder: Encoder, pixels: Tensor, grid: int) -> Tensor:
    """Normalised pixels (B, 3, p, p) -> the encoder's features (B, grid, grid, D), pre-projector.

    Every level is resampled from its own grid; the levels are concatenated in the channels.
    """
    levels = [resample_grid(level, grid) for level in encoder.levels(pixels)]
    return levels[0] if len(levels) == 1 else torch.cat(levels, dim=-1)


def resample_grid(features: Tensor, grid: int) -> Tensor:
    """Area-weighted resampling of a feature grid (B, h, w, D) to (B, grid, grid, D).

    Each output token is the mean of the input tokens that its cell covers, weighted by the covered area. For
    an integer ratio this is a block mean or a repetition; for equal grids it is the identity. The mean over
    the picture is preserved. It is computed by two small matrix products, which are deterministic on every
    device.
    """
    batch, height, width, channels = features.shape
    if height != grid:
        rows = _overlaps(height, grid).to(features)
        features = torch.matmul(rows, features.reshape(batch, height, width * channels))
    if width != grid:
        columns = _overlaps(width, grid).to(features)
        features = torch.matmul(columns, features.reshape(batch * grid, width, channels))
    return features.reshape(batch, grid, grid, channels)


@lru_cache(maxsize=64)
def _overlaps(size: int, grid: int) -> Tensor:
    """(grid, size): the fraction of output cell i that input cell j covers. Rows sum to 1."""
    inner = torch.arange(size, dtype=torch.float64) / size
    outer = torch.arange(grid, dtype=torch.float64)[:, None] / grid
    low = torch.maximum(inner, outer)
    high = torch.minimum(inner + 1 / size, outer + 1 / grid)
    shares = (high - low).clamp(min=0) * grid
    shares[shares < 1e-9] = 0  # the cells only touch
    return shares / shares.sum(dim=1, keepdim=True)
