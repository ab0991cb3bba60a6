"""The forward pass: pictures to features, visual tokens into their places, losses at the answers only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from encoder_roles.data.packing import PackedBatch, Sample, pack
from encoder_roles.data.pictures import by_size, read_picture
from encoder_roles.training.batches import Batches
from encoder_roles.training.ranks import Place

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from encoder_roles.models.vlm import MultiEncoderVLM


DUMMY = 32  # pixels of a picture that stands for none


def picture_features(model: MultiEncoderVLM, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
    """Pre-projector features (B, G, G, D) of every encoder for uint8 pictures of any sizes, in order."""
    places, parts = [], []
    for group, pixels in by_size(pictures):
        places.extend(group)
        parts.append(model.features(pixels))
    if len(parts) == 1:
        return parts[0]
    order = torch.tensor(places).argsort()
    return {name: torch.cat([part[name] for part in parts])[order] for name in (parts[0] if parts else ())}


def read_features(model: MultiEncoderVLM, paths: Sequence[Path]) -> dict[str, Tensor]:
    """`picture_features` of picture files."""
    return picture_features(model, [read_picture(path) for path in paths])


def read_tokens(model: MultiEncoderVLM, paths: Sequence[Path]) -> Tensor:
    """Visual tokens (pictures, visual tokens, hidden) of picture files; of none, those of a grey dummy."""
    pictures = [read_picture(path) for path in paths] or [
        torch.full((3, DUMMY, DUMMY), 128, dtype=torch.uint8)
    ]
    return model.visual_tokens(picture_features(model, pictures))


def answer_losses(language_model: PreTrainedModel, batch: PackedBatch, visual: Tensor) -> Tensor:
    """Cross-entropy of every learnt token of a packed batch.

    ``visual`` are the visual tokens (pictures, visual tokens, hidden), pictures in the order of
    ``batch.pictures``; a batch without pictures has those of a dummy, which are used nowhere but take part in
    the backward pass. The model must use packed attention. Logits are computed for the learnt tokens only.
    Returns (learnt,).
    """
    model: Any = language_model
    embeddings = model.get_input_embeddings()(batch.ids)
    if visual.numel():
        tokens = visual.flatten(0, 1)[: len(batch.visual)].to(embeddings)
        embeddings = embeddings.index_copy(0, batch.visual, tokens)
    hidden = model.base_model(
        inputs_embeds=embeddings[None],
        position_ids=batch.positions[None],
        blocks=batch.blocks,
        use_cache=False,
    ).last_hidden_state[0]
    return batch.losses(model.get_output_embeddings()(hidden.index_select(0, batch.predicting)))


class AnswerModel(nn.Module):
    """All that has weights in a stage; its forward pass is a packed batch's summed loss.

    Args:
        parts: the modules by name, `language_model` among them.
        visual: turns the pictures of a batch, in its order, into visual tokens (pictures, visual tokens,
            hidden); from cached features in align, from pixels in tune. For a batch without pictures it gives
            those of a dummy, so that every part takes part in every step and no process waits for another.
    """

    def __init__(self, parts: Mapping[str, nn.Module], visual: Callable[[tuple[str, ...]], Tensor]) -> None:
        super().__init__()
        self.parts, self.visual = nn.ModuleDict(dict(parts)), visual

    def forward(self, batch: PackedBatch) -> Tensor:
        """Sum of the cross-entropies of the learnt tokens, a scalar."""
        language_model: Any = self.parts["language_model"]
        return answer_losses(language_model, batch, self.visual(batch.pictures)).sum()


class AnswerTask:
    """The task of both stages (`loop.Task`): packed captions and questions about pictures.

    Of a step's batch this process computes its rank's share, in ``accumulation`` micro batches.
    """

    def __init__(
        self, title: str, batches: Batches, visual_tokens: int, accumulation: int, place: Place
    ) -> None:
        self.title, self.steps, self.batches = title, len(batches), batches
        self.visual_tokens, self.accumulation, self.place = visual_tokens, accumulation, place

    def micro_batches(self, step: int) -> list[PackedBatch]:
        """This rank's micro batches of a step."""
        return [self._pack(self._samples(step, number), step) for number in range(self.accumulation)]

    def first(self) -> tuple[PackedBatch, int]:
        """The first micro batch, and how many samples it holds."""
        samples = self._samples(0, 0)
        return self._pack(samples, 0), len(samples)

    def _samples(self, step: int, number: int) -> list[Sample]:
        parts = self.place.ranks * self.accumulation
        return self.batches.share(step, self.place.rank * self.accumulation + number, parts)

    def _pack(self, samples: list[Sample], step: int) -> PackedBatch:
        if samples:
            return pack(samples, self.visual_tokens)
        return pack(self.batches[step][:1], self.visual_tokens).unlearnt()

    def describe(self, step: int) -> str:
        """The pictures of the step's batch, for error messages."""
        pictures = [picture for sample in self.batches[step] for picture in sample.pictures]
        return f"{len(pictures)} pictures, {', '.join(pictures[:4])} ..."
