"""The forward pass: pictures to features, visual tokens into their places, losses at the answers only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from encoder_roles.data.packing import PackedBatch, pack
from encoder_roles.data.pictures import by_size, read_picture
from encoder_roles.training.attention import use_packed_attention
from encoder_roles.training.batches import Batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from encoder_roles.models.vlm import MultiEncoderVLM


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


def answer_losses(language_model: PreTrainedModel, batch: PackedBatch, visual: Tensor) -> Tensor:
    """Cross-entropy of every learnt token of a packed batch.

    ``visual`` are the visual tokens (pictures, visual tokens, hidden), pictures in the order of
    ``batch.pictures``. The model must use packed attention. Logits are computed for the learnt tokens only.
    Returns (learnt,).
    """
    model: Any = language_model
    embeddings = model.get_input_embeddings()(batch.ids)
    if len(batch.visual):
        embeddings = embeddings.index_copy(0, batch.visual, visual.flatten(0, 1))
    hidden = model.base_model(
        inputs_embeds=embeddings[None],
        position_ids=batch.positions[None],
        blocks=batch.blocks,
        use_cache=False,
    ).last_hidden_state[0]
    return batch.losses(model.get_output_embeddings()(hidden.index_select(0, batch.predicting)))


class AnswerTask:
    """The task of both stages (`loop.Task`): mean loss of packed captions and questions about pictures.

    ``visual`` turns the pictures of a batch, in its order, into visual tokens (pictures, visual_tokens,
    hidden): from cached features in align, from pixels in tune.
    """

    def __init__(
        self,
        title: str,
        batches: Batches,
        language_model: PreTrainedModel,
        visual_tokens: int,
        visual: Callable[[tuple[str, ...]], Tensor],
    ) -> None:
        self.title, self.steps, self.batches = title, len(batches), batches
        self.language_model, self.visual_tokens, self.visual = language_model, visual_tokens, visual
        use_packed_attention(language_model)

    def loss(self, step: int) -> Tensor:
        """Mean cross-entropy of the step's learnt tokens, a scalar."""
        batch = pack(self.batches[step], self.visual_tokens)
        return answer_losses(self.language_model, batch, self.visual(batch.pictures)).mean()

    def describe(self, step: int) -> str:
        """The pictures of the step's batch, for error messages."""
        pictures = [picture for sample in self.batches[step] for picture in sample.pictures]
        return f"{len(pictures)} pictures, {', '.join(pictures[:4])} ..."
