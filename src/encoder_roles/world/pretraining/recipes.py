"""The five encoders by name: objective, recipe, library, and the skills that are their gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec
from encoder_roles.world.pretraining.loop import Objective, Recipe
from encoder_roles.world.pretraining.pictures import MEAN, STD


@dataclass(frozen=True)
class Pretraining:
    """One encoder's pretraining; `skills` are its gates."""

    module: str
    objective: str
    library: Literal["transformers", "open_clip"]
    skills: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe in the objective's module."""
        recipe: Recipe = import_module(f"{__package__}.{self.module}").RECIPE
        return recipe

    @property
    def build(self) -> Callable[[], Objective]:
        """The objective's class."""
        built: Callable[[], Objective] = getattr(
            import_module(f"{__package__}.{self.module}"), self.objective
        )
        return built

    @property
    def spec(self) -> EncoderSpec:
        """How the saved encoder is read."""
        mean, std = (MEAN,) * 3, (STD,) * 3
        return EncoderSpec(
            library=self.library, source=self.module, pixels=self.recipe.pixels, mean=mean, std=std
        )


# Points by which a skill must exceed the upper end of the untrained network's interval: accuracy that an
# untrained network reaches is no effect of pretraining.
MARGIN = 5.0
ENCODERS: dict[str, Pretraining] = {
    "clip": Pretraining("clip", "Clip", "transformers", ("shape",)),
    "siglip": Pretraining("siglip", "Siglip", "transformers", ("word", "digit")),
    "dinov2": Pretraining("dinov2", "Dinov2", "transformers", ("left_right",)),
    "convnext": Pretraining("convnext", "ConvNext", "open_clip", ("highest_bar", "bar_value", "texture")),
    "sam": Pretraining("sam", "Sam", "transformers", ("count",)),
}


def pretraining_of(encoder: str) -> Pretraining:
    """The row of one encoder. Raises StudyError if it has none."""
    if encoder not in ENCODERS:
        raise StudyError(
            f"encoder {encoder!r}: no pretraining is known for it (known: {', '.join(ENCODERS)})"
        )
    return ENCODERS[encoder]
