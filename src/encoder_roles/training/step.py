"""One forward pass of packed questions: visual tokens into their places, losses at the answers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from encoder_roles.data.packing import PackedBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def answer_losses(language_model: PreTrainedModel, batch: PackedBatch, visual: Tensor) -> Tensor:
    """Cross-entropy of every learnt token of a packed batch.

    ``visual`` are the visual tokens (pictures, visual tokens, hidden), pictures in the order of ``batch.pictures``.
    Logits are computed for the learnt tokens only. Returns (learnt,).
    """
    embed: Any = language_model.get_input_embeddings()
    head: Any = language_model.get_output_embeddings()
    embeddings = embed(batch.ids)
    if len(batch.visual):
        flat = embeddings.flatten(0, 1).index_copy(0, batch.visual, visual.flatten(0, 1))
        embeddings = flat.view_as(embeddings)
    hidden = language_model.base_model(
        inputs_embeds=embeddings, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    ).last_hidden_state
    return batch.losses(head(hidden.flatten(0, 1).index_select(0, batch.predicting)))
