"""The forward pass: pictures to features, features to visual tokens, losses of the answers' tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from encoder_roles.data.packing import PackedBatch, Sample, pack
from encoder_roles.data.picture_store import PictureStore
from encoder_roles.data.pictures import PictureReader
from encoder_roles.encoders.framing import frame_picture
from encoder_roles.training.attention import attention_inputs
from encoder_roles.training.batches import Batches
from encoder_roles.training.distributed import ProcessRank

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from encoder_roles.models.vlm import MultiEncoderVLM


DUMMY = torch.full((3, 32, 32), 128, dtype=torch.uint8)  # computed where a batch has no picture


class Visual(Protocol):
    """A source of visual tokens."""

    def begin(self, pictures: Iterable[str]) -> None:
        """Start to read pictures that will be needed."""

    def __call__(self, pictures: Sequence[str]) -> Tensor:
        """Visual tokens (pictures, visual tokens, hidden), in order; without pictures, those of a dummy."""


class PictureTokens:
    """Visual tokens that the encoders compute from picture files; without pictures, those of a grey dummy.

    Args:
        model: the model; the blind model reads no file.
        folder: the folder of the pictures.
        store: the same pictures, framed; without it every file is decoded.
    """

    def __init__(self, model: MultiEncoderVLM, folder: Path, store: PictureStore | None = None) -> None:
        self.model, self.folder = model, folder
        self.reader = PictureReader(model.frames, store)

    def begin(self, pictures: Iterable[str]) -> None:
        """See `Visual`."""
        if self.model.encoders:
            self.reader.begin([self.folder / picture for picture in pictures])

    def __call__(self, pictures: Sequence[str]) -> Tensor:
        """See `Visual`."""
        if not self.model.encoders:
            return self.model.project({}, len(pictures))
        framed = self.reader.read([self.folder / picture for picture in pictures])
        framed = framed or [frame_picture(DUMMY, self.model.frames)]
        return self.model.visual_tokens(self.model.framed_features(framed))


def answer_losses(language_model: PreTrainedModel, batch: PackedBatch, visual: Tensor) -> Tensor:
    """Cross-entropy (learnt,) of every learnt token of a packed batch.

    ``visual`` are the visual tokens (pictures, visual tokens, hidden), in the order of ``batch.pictures``.
    A batch without pictures has those of a dummy: no token depends on them, but the backward pass reaches
    them. The model must use packed attention. Logits are computed only for the learnt tokens.
    """
    model: Any = language_model
    embeddings = model.get_input_embeddings()(batch.ids)
    if visual.numel():
        tokens = visual.flatten(0, 1)[: len(batch.visual)].to(embeddings)
        embeddings = embeddings.index_copy(0, batch.visual, tokens)
    hidden = model.base_model(
        inputs_embeds=embeddings[None],
        position_ids=batch.positions[None],
        use_cache=False,
        **attention_inputs(language_model, batch),
    ).last_hidden_state[0]
    return batch.losses(model.get_output_embeddings()(hidden.index_select(0, batch.predicting)))


class AnswerModel(nn.Module):
    """All parts of a stage that have weights; the forward pass gives the summed loss of a packed batch.

    Args:
        parts: the modules by name, `language_model` among them.
        visual: the source of visual tokens. For a batch without pictures it gives those of a dummy, so that
            every part is computed in every step and no process waits for another.
    """

    def __init__(self, parts: Mapping[str, nn.Module], visual: Visual) -> None:
        super().__init__()
        self.parts, self.visual = nn.ModuleDict(dict(parts)), visual

    def forward(self, batch: PackedBatch) -> Tensor:
        """Sum of the cross-entropies of the learnt tokens, a scalar."""
        language_model: Any = self.parts["language_model"]
        return answer_losses(language_model, batch, self.visual(batch.pictures)).sum()


class AnswerTask:
    """The task of both stages (`loop.Task`): packed captions and questions about pictures.

    This process computes its share of a step's batch, in ``accumulation`` micro batches. ``visual`` starts to
    read a step's pictures while the step before is computed. ``rounding`` is that of `packing.pack`.
    """

    def __init__(
        self,
        title: str,
        batches: Batches,
        visual_tokens: int,
        accumulation: int,
        process: ProcessRank,
        visual: Visual,
        rounding: int = 1,
    ) -> None:
        self.title, self.steps, self.batches, self.visual = title, len(batches), batches, visual
        self.visual_tokens, self.accumulation, self.process = visual_tokens, accumulation, process
        self.rounding = rounding
        self.following: dict[int, list[PackedBatch]] = {}  # the next step -> its micro batches

    def micro_batches(self, step: int) -> list[PackedBatch]:
        """This process's micro batches of a step."""
        batches = self.following.pop(step, None) or self._packed(step)
        self.following = {step + 1: self._packed(step + 1)} if step + 1 < self.steps else {}
        for batch in itertools.chain(batches, *self.following.values()):
            self.visual.begin(batch.pictures)
        return batches

    def _packed(self, step: int) -> list[PackedBatch]:
        return [self._pack(self._samples(step, number), step) for number in range(self.accumulation)]

    def first(self) -> tuple[PackedBatch, int]:
        """The first micro batch, and its number of samples."""
        samples = self._samples(0, 0)
        return self._pack(samples, 0), len(samples)

    def _samples(self, step: int, number: int) -> list[Sample]:
        parts = self.process.world_size * self.accumulation
        return self.batches.share(step, self.process.rank * self.accumulation + number, parts)

    def _pack(self, samples: list[Sample], step: int) -> PackedBatch:
        if samples:
            return pack(samples, self.visual_tokens, self.rounding)
        return pack(self.batches[step][:1], self.visual_tokens, self.rounding).unlearnt()

    def describe(self, step: int) -> str:
        """The pictures of the step's batch, for error messages."""
        pictures = [picture for sample in self.batches[step] for picture in sample.pictures]
        return f"{len(pictures)} pictures, {', '.join(pictures[:4])} ..."
