"""Masking: in a model trained with all encoders, the projector inputs of the removed ones are replaced.

The predecessor of this study (arXiv 2507.03262) replaces an encoder's output by a zero tensor of the same
shape. `drop` leaves the encoder out of the connector. The other operators keep the input closer to the
distribution that the connector was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import Operator


@dataclass(frozen=True)
class Calibration:
    """Statistics of one encoder's projector input on calibration pictures, which are training pictures.

    Attributes:
        mean, std: per channel over all tokens of all pictures (D,).
        donors: the inputs themselves (N, G, G, D), for `shuffle`; None for other operators.
    """

    mean: Tensor
    std: Tensor
    donors: Tensor | None = None


class CalibrationSums:
    """One encoder's calibration, from batches of its projector input, summed in fp64."""

    def __init__(self, keep_donors: bool = False) -> None:
        self.tokens = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0
        self._donors: list[Tensor] | None = [] if keep_donors else None

    def add(self, block: Tensor) -> None:
        """Add a batch (B, ..., D)."""
        rows = block.detach().flatten(0, -2).double()
        self._sum = self._sum + rows.sum(0)
        self._squares = self._squares + rows.square().sum(0)
        self.tokens += rows.shape[0]
        if self._donors is not None:
            self._donors.append(block.detach())

    def result(self) -> Calibration:
        """The calibration of what was added."""
        mean = torch.as_tensor(self._sum) / self.tokens
        std = (torch.as_tensor(self._squares) / self.tokens - mean.square()).clamp(min=0).sqrt()
        bank = None if self._donors is None else torch.cat(self._donors)
        return Calibration(mean.float(), std.float(), bank)


def calibrate(batches: Iterable[Mapping[str, Tensor]], keep_donors: bool = False) -> dict[str, Calibration]:
    """Calibrations of all encoders from batches of projector inputs (B, G, G, D), summed in fp64."""
    sums: dict[str, CalibrationSums] = {}
    for batch in batches:
        for encoder, block in batch.items():
            sums.setdefault(encoder, CalibrationSums(keep_donors)).add(block)
    return {encoder: of.result() for encoder, of in sums.items()}


def mask_features(
    inputs: Mapping[str, Tensor],
    kept: frozenset[str],
    operator: Operator,
    calibrations: Mapping[str, Calibration] | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Projector inputs in which `operator` has replaced or dropped every encoder outside `kept`.

    Args:
        inputs: encoder -> projector input (B, G, G, D), from `projector_inputs`.
        kept: the mask, that is the encoders whose input stays.
        operator: the replacement. zero: zeros. drop: nothing, see `models.connector`. mean: each channel's
            mean over the calibration pictures. shuffle: the input of a calibration picture, drawn for each
            picture, the same one for all replaced encoders. noise: normal noise with each channel's
            calibration mean and standard deviation, drawn for each token.
        calibrations: needed by all operators except zero and drop.
        generator: needed by shuffle and noise, which draw picture by picture, so that answers do not depend
            on the batches of pictures.

    Raises:
        StudyError: `kept` names an encoder that is not in `inputs`, or what the operator needs is missing.
    """
    if unknown := sorted(kept - inputs.keys()):
        raise StudyError(f"mask: {unknown} to be kept, but the model has {list(inputs)}")
    removed = [encoder for encoder in inputs if encoder not in kept]
    if operator == "drop":
        return {encoder: block for encoder, block in inputs.items() if encoder in kept}
    if operator == "zero":
        replaced = {encoder: torch.zeros_like(inputs[encoder]) for encoder in removed}
    elif calibrations is None or (operator != "mean" and generator is None):
        raise StudyError(
            f"mask: operator {operator!r} needs calibration pictures (and a generator, unless it is mean)"
        )
    elif operator == "mean":
        replaced = {e: calibrations[e].mean.to(inputs[e]).expand_as(inputs[e]) for e in removed}
    else:
        draw = _shuffled if operator == "shuffle" else _noise
        replaced = draw({e: inputs[e] for e in removed}, calibrations, generator)
    return {encoder: replaced.get(encoder, block) for encoder, block in inputs.items()}


def _shuffled(
    inputs: dict[str, Tensor], calibrations: Mapping[str, Calibration], generator: torch.Generator | None
) -> dict[str, Tensor]:
    banks = {}
    for encoder in inputs:
        bank = calibrations[encoder].donors
        if bank is None:
            raise StudyError(
                "mask: operator 'shuffle' needs calibrations with donors (calibrate(keep_donors=True))"
            )
        banks[encoder] = bank
    if not inputs:
        return {}
    pictures = len(next(iter(inputs.values())))
    count = len(next(iter(banks.values())))
    chosen = torch.cat([torch.randint(count, (1,), generator=generator) for _ in range(pictures)])
    return {encoder: bank[chosen].to(inputs[encoder]) for encoder, bank in banks.items()}


def _noise(
    inputs: dict[str, Tensor], calibrations: Mapping[str, Calibration], generator: torch.Generator | None
) -> dict[str, Tensor]:
    drawn: dict[str, list[Tensor]] = {encoder: [] for encoder in inputs}
    for picture in range(len(next(iter(inputs.values()))) if inputs else 0):
        for encoder, block in inputs.items():
            drawn[encoder].append(torch.randn(block[picture].shape, generator=generator))
    return {
        encoder: calibrations[encoder].mean.to(block)
        + calibrations[encoder].std.to(block) * torch.stack(drawn[encoder]).to(block)
        for encoder, block in inputs.items()
    }
