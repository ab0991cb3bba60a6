"""What lmms-eval's registry reads from this package's entry point `lmms_eval.models`.

Apart from the model itself, because lmms-eval loads every plugin when it starts, whatever model is asked for.
"""

from __future__ import annotations

from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> ModelManifest:
    """The name `encoder_roles`, and the class that answers to it."""
    return ModelManifest(
        model_id="encoder_roles", simple_class_path="encoder_roles.evaluation.adapter.EncoderRoles"
    )
