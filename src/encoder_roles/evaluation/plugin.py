"""The entry point `lmms_eval.models` of this package, which lmms-eval's registry reads.

It is a module of its own because lmms-eval loads every plugin when it starts, for any model.
"""

from __future__ import annotations

from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> list[ModelManifest]:
    """The names of this package's models, and their classes."""
    return [
        ModelManifest(
            model_id="encoder_roles", simple_class_path="encoder_roles.evaluation.adapter.EncoderRoles"
        ),
        ModelManifest(
            model_id="image_text_to_text",
            chat_class_path="encoder_roles.evaluation.image_text_to_text.ImageTextToText",
        ),
    ]
