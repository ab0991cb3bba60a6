"""Linear probes of frozen features: a readout per skill, fitted on train and measured on development scenes.

Its inputs are the connector's: the encoder's tokens on the common grid, each normalised. It is ridge
regression in closed form. A stronger probe would learn its own features and solve this world even from
an untrained network, but the gate measures how directly the features show a skill.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, one_hot

from encoder_roles.encoders.encoder import Encoder
from encoder_roles.models.grid import resample_grid
from encoder_roles.world.drawing import draw_many
from encoder_roles.world.sampling import sample_scenes
from encoder_roles.world.scenes import (
    BAR_HEIGHTS,
    COLOURS,
    DIGITS,
    SHAPES,
    SIZES,
    TEXTURES,
    WORDS,
    Kind,
    Scene,
    Split,
)

GRID = 4
ATTRIBUTES = ("shape", "colour", "texture")
SEEDS: dict[Split, int] = {"train": 9001, "development": 9002}
PICTURES: dict[Split, int] = {"train": 1000, "development": 500}
RIDGE = 0.01  # of the mean squared length of a row
RESAMPLES = 500
LEVEL = 0.95  # of the intervals

View = Literal["cell", "whole", "mean", "halves"]
ProbeQuestion = tuple[
    int, int, int
]  # the readout, the cell of the layout (for the view "cell"), the class of the answer


@dataclass(frozen=True)
class Skill:
    """One skill: its kind of scene, the view of the readout, the number of answers, the questions.

    Views: cell is the tokens of one cell of the 2 x 2 layout; whole is all tokens; mean is their mean; halves
    is the means of the left and right half with their absolute difference. An ordered answer is predicted as
    one number and rounded.
    """

    kind: Kind
    view: View
    answers: int
    ask: Callable[[Scene], Iterator[ProbeQuestion]]
    ordered: bool = False


def _ask_attribute(attribute: str, values: Sequence[object]) -> Callable[[Scene], Iterator[ProbeQuestion]]:
    def ask(scene: Scene) -> Iterator[ProbeQuestion]:
        for thing in scene.things:
            yield 0, 2 * thing.row + thing.col, values.index(getattr(thing, attribute))

    return ask


def _ask_count(scene: Scene) -> Iterator[ProbeQuestion]:
    yield 0, 0, len(scene.things) - 1


def _ask_biggest(scene: Scene) -> Iterator[ProbeQuestion]:
    if len(scene.things) > 1:
        biggest = max(scene.things, key=lambda thing: thing.size)
        yield 0, 0, 2 * biggest.row + biggest.col


def _ask_left_right(scene: Scene) -> Iterator[ProbeQuestion]:
    for thing in scene.things:
        yield COLOURS.index(thing.colour), 0, thing.col


def _ask_pair(scene: Scene) -> Iterator[ProbeQuestion]:
    left, right = scene.things
    for place, attribute in enumerate(ATTRIBUTES):
        yield place, 0, int(getattr(left, attribute) == getattr(right, attribute))


def _ask_word(scene: Scene) -> Iterator[ProbeQuestion]:
    yield 0, 0, WORDS.index(str(scene.word))


def _ask_digit(scene: Scene) -> Iterator[ProbeQuestion]:
    yield 0, 0, DIGITS.index(int(str(scene.digit)))


def _ask_highest(scene: Scene) -> Iterator[ProbeQuestion]:
    yield 0, 0, COLOURS.index(max(scene.bars, key=lambda bar: bar.height).colour)


def _ask_value(scene: Scene) -> Iterator[ProbeQuestion]:
    for bar in scene.bars:
        yield COLOURS.index(bar.colour), 0, BAR_HEIGHTS.index(bar.height)


SKILLS: dict[str, Skill] = {
    "colour": Skill("objects", "cell", len(COLOURS), _ask_attribute("colour", COLOURS)),
    "shape": Skill("objects", "cell", len(SHAPES), _ask_attribute("shape", SHAPES)),
    "texture": Skill("objects", "cell", len(TEXTURES), _ask_attribute("texture", TEXTURES)),
    "size": Skill("objects", "cell", len(SIZES), _ask_attribute("size", SIZES)),
    "count": Skill("objects", "mean", 4, _ask_count, ordered=True),
    "biggest": Skill("objects", "whole", 4, _ask_biggest),
    "left_right": Skill("objects", "whole", 2, _ask_left_right),
    "pair": Skill("pair", "halves", 2, _ask_pair),
    "word": Skill("sign", "whole", len(WORDS), _ask_word),
    "digit": Skill("digit", "whole", len(DIGITS), _ask_digit),
    "highest_bar": Skill("chart", "whole", len(COLOURS), _ask_highest),
    "bar_value": Skill("chart", "whole", len(BAR_HEIGHTS), _ask_value, ordered=True),
}


@dataclass(frozen=True)
class Reading:
    """Accuracy of a readout on development questions, in percent, with its interval over pictures."""

    value: float
    low: float
    high: float
    n: int


def probe(encoder: Encoder, skills: Sequence[str]) -> dict[str, Reading]:
    """Fit a readout per skill on the frozen encoder's features, and measure it on the development split."""
    readings = {}
    for kind in dict.fromkeys(SKILLS[skill].kind for skill in skills):
        scenes = {split: _pictures(kind, split)[0] for split in PICTURES}
        tokens = {split: _tokens(encoder, _pictures(kind, split)[1]) for split in PICTURES}
        for skill in skills:
            if SKILLS[skill].kind == kind:
                readings[skill] = _read(SKILLS[skill], scenes, tokens)
    return {skill: readings[skill] for skill in skills}


@functools.cache
def _pictures(kind: Kind, split: Split) -> tuple[list[Scene], Tensor]:
    """The scenes of a probe and their pictures, uint8 (n, 3, 96, 96)."""
    scenes = sample_scenes(SEEDS[split], split, kind, PICTURES[split])
    return scenes, torch.from_numpy(draw_many(scenes)).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def _tokens(encoder: Encoder, pictures: Tensor) -> Tensor:
    """Tokens of the pictures, each normalised: (n, GRID, GRID, D)."""
    chunks = []
    for some in pictures.split(250):
        features = resample_grid(encoder(encoder.preprocess(some)), GRID)
        chunks.append(layer_norm(features, features.shape[-1:]))
    return torch.cat(chunks)


def _read(skill: Skill, scenes: dict[Split, list[Scene]], tokens: dict[Split, Tensor]) -> Reading:
    questions = {
        split: [(n, *q) for n, scene in enumerate(scenes[split]) for q in skill.ask(scene)]
        for split in scenes
    }
    right, cluster = [], []
    for readout in sorted({question[1] for question in questions["train"]}):
        rows = {split: [q for q in questions[split] if q[1] == readout] for split in questions}
        seen = {split: _view(skill.view, tokens[split], rows[split]) for split in rows}
        answers = {split: torch.tensor([q[3] for q in rows[split]]) for split in rows}
        predicted = _answer(skill, seen["train"], answers["train"], seen["development"])
        right.append((predicted == answers["development"]).numpy() * 100.0)
        for number, *_ in rows["development"]:
            scene = scenes["development"][number]  # two pictures of one handwriting are not independent
            cluster.append(number if scene.handwriting is None else scene.handwriting)
    scored = np.concatenate(right)
    low, high = _interval(scored, np.array(cluster))
    return Reading(float(scored.mean()), low, high, len(scored))


def _view(view: View, tokens: Tensor, rows: list[tuple[int, int, int, int]]) -> Tensor:
    """The readout's inputs for each row: double (rows, inputs)."""
    chosen = tokens[torch.tensor([row[0] for row in rows])]
    if view == "whole":
        return chosen.flatten(1).double()
    if view == "mean":
        return chosen.mean((1, 2)).double()
    half = GRID // 2
    if view == "halves":
        left, right = chosen[:, :, :half].mean((1, 2)), chosen[:, :, half:].mean((1, 2))
        return torch.cat([left, right, (left - right).abs()], 1).double()
    cells = chosen.reshape(-1, 2, half, 2, half, chosen.shape[-1]).transpose(2, 3).flatten(3).flatten(1, 2)
    return cells[torch.arange(len(rows)), torch.tensor([row[2] for row in rows])].double()


def _answer(skill: Skill, seen: Tensor, answers: Tensor, unseen: Tensor) -> Tensor:
    """The readout's answer for each row of `unseen`, after fitting on `seen` and `answers`."""
    if skill.ordered:
        return (
            _ridge(seen, answers[:, None].double(), unseen)[:, 0].round().clamp(0, skill.answers - 1).long()
        )
    return _ridge(seen, one_hot(answers, skill.answers).double(), unseen).argmax(1)


def _ridge(seen: Tensor, target: Tensor, unseen: Tensor) -> Tensor:
    """Scores of `unseen` by ridge regression of `target` on `seen`, in the cheaper of its two forms."""
    mean, middle = seen.mean(0), target.mean(0)
    x, y = seen - mean, target - middle
    penalty = RIDGE * float((x**2).sum(1).mean()) * len(x) / min(x.shape)
    if x.shape[0] < x.shape[1]:
        gram = x @ x.T + penalty * torch.eye(len(x), dtype=x.dtype)
        weights = x.T @ torch.linalg.solve(gram, y)
    else:
        gram = x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(gram, x.T @ y)
    scores: Tensor = (unseen - mean) @ weights + middle
    return scores


def _interval(scores: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of the mean, resampled over clusters."""
    _, inverse = np.unique(cluster, return_inverse=True)
    sums, counts = np.bincount(inverse, scores), np.bincount(inverse)
    rows = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[rows].sum(1) / counts[rows].sum(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
