"""The five encoders by name: objective, recipe, library, and the skills each is meant to be good at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from encoder_roles.study import EncoderSpec, StudyError
from encoder_roles.world.pretraining.loop import Objective, Recipe
from encoder_roles.world.pretraining.pictures import MEAN, STD


@dataclass(frozen=True)
class Pretraining:
    """One encoder's pretraining. `skills`: each intended skill and its gate, the least accuracy, percent."""

    module: str
    objective: str
    library: Literal["transformers", "open_clip"]
    skills: dict[str, float]

    @property
    def recipe(self) -> Recipe:
        """The recipe that stands beside the objective."""
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


ENCODERS: dict[str, Pretraining] = {
    "clip": Pretraining("clip", "Clip", "transformers", {"shape": 60.0}),
    "siglip": Pretraining("siglip", "Siglip", "transformers", {"word": 80.0, "digit": 80.0}),
    "dinov2": Pretraining("dinov2", "Dinov2", "transformers", {"texture": 70.0, "left_right": 85.0}),
    "convnext": Pretraining("convnext", "ConvNext", "open_clip", {"highest_bar": 85.0, "bar_value": 80.0}),
    "sam": Pretraining("sam", "Sam", "transformers", {"count": 85.0, "biggest": 70.0}),
}


def pretraining_of(encoder: str) -> Pretraining:
    """The row of one encoder. Raises StudyError if it has none."""
    if encoder not in ENCODERS:
        raise StudyError(
            f"encoder {encoder!r}: no pretraining is known for it (known: {', '.join(ENCODERS)})"
        )
    return ENCODERS[encoder]
