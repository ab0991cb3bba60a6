"""Scenes of the procedural world: the content of a picture, before it is drawn or asked about.

A scene is drawn from a seed alone, so a split is a range of seeds. Every label of the laptop study
(captions, questions, answers) comes from the scene, never from the pixels.

There are five kinds of scene; each serves some of the sixteen benchmarks:

======== ============================================================= =========================
kind     what it shows                                                 asked about
======== ============================================================= =========================
objects  one to four things in the cells of a 2 x 2 layout             counts, relations, attributes
pair     two things, left and right, alike but for one attribute       fine differences
chart    three or four bars of distinct colours on a baseline          values, highest, lowest
sign     one printed word on a coloured plate                          the word
digit    one handwritten digit (scikit-learn's, 1797 of them)          the digit
======== ============================================================= =========================
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["objects", "pair", "chart", "sign", "digit"]
KINDS: tuple[Kind, ...] = ("objects", "pair", "chart", "sign", "digit")

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star")
TEXTURES = ("plain", "striped")
SIZES = (1, 2, 3)  # drawn size; the world's perspective makes a bigger thing a nearer one
WORDS = ("stop", "cafe", "park", "taxi", "milk", "zoo", "book", "gym")
DIGITS = (0, 1, 2, 3, 4, 5)
BAR_HEIGHTS = (1, 2, 3, 4, 5)

Split = Literal["train", "development", "test", "probe"]
SPLITS: tuple[Split, ...] = ("train", "development", "test", "probe")


@dataclass(frozen=True)
class Thing:
    """One object: its attributes and its cell of the 2 x 2 layout (row 0 is the top, col 0 the left)."""

    shape: str
    colour: str
    texture: str
    size: int
    row: int
    col: int


@dataclass(frozen=True)
class Bar:
    """One bar of a chart, in its place from the left; ``height`` is the value it shows."""

    colour: str
    height: int


@dataclass(frozen=True)
class Scene:
    """One picture's content. ``handwriting`` is the row of scikit-learn's digits that is drawn."""

    id: str
    kind: Kind
    seed: int
    things: tuple[Thing, ...] = ()
    bars: tuple[Bar, ...] = ()
    word: str | None = None
    plate: str | None = None
    digit: int | None = None
    handwriting: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; `scene_from_json` is its inverse."""
        return asdict(self)

    def content(self) -> tuple[Any, ...]:
        """What the scene shows, without its id and seed: scenes of equal content differ only in jitter."""
        return (
            self.kind,
            self.things,
            self.bars,
            self.word,
            self.plate,
            self.digit,
            self.handwriting,
        )


def scene_from_json(row: dict[str, Any]) -> Scene:
    """Rebuild a scene from `Scene.to_json`."""
    things = tuple(Thing(**thing) for thing in row["things"])
    bars = tuple(Bar(**bar) for bar in row["bars"])
    return Scene(**{**row, "things": things, "bars": bars})
