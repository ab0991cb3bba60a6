"""Skills: the questions about a scene, each with its answer and the wrong answers.

Skills do not depend on benchmarks: the module `questions` puts their asks into the sixteen formats. Every
answer comes from the scene. Things are named by colour for two reasons: colours are distinct in a scene, and
language models of this size do not learn relations between named shapes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from encoder_roles.world.captions import PICTURE_WORDS, place_of
from encoder_roles.world.sampling import Rng, pick
from encoder_roles.world.scenes import COLOURS, DIGITS, SHAPES, TEXTURES, WORDS, Kind, Scene, Thing

CORNERS = {"circle": 0, "triangle": 3, "square": 4, "star": 5}
TOPICS = {
    "stop": "traffic",
    "taxi": "traffic",
    "cafe": "food",
    "milk": "food",
    "park": "nature",
    "zoo": "nature",
    "book": "school",
    "gym": "school",
}
PLACES = tuple(f"{row}-{col}" for row in ("top", "bottom") for col in ("left", "right"))
SIDES = ("left", "right")
LEVELS = ("above", "below")
NUMBERS = tuple(str(i) for i in range(10))
ADDENDS = (1, 2, 3)


@dataclass(frozen=True)
class Ask:
    """One question about one scene.

    `wrong` holds the other possible answers, all of them false. `claim` is a yes/no question with `{}` in the
    answer's place.
    """

    question: str
    answer: str
    wrong: tuple[str, ...]
    claim: str = ""


@dataclass(frozen=True)
class Skill:
    """A kind of question: the kinds of scene that it fits, and the function that makes its asks of one."""

    name: str
    kinds: tuple[Kind, ...]
    asks: Callable[[Scene], list[Ask]]

    def draw(self, scene: Scene, rng: Rng) -> Ask | None:
        """One ask; each answer that the scene allows is equally likely. None if the scene allows no ask."""
        if scene.kind not in self.kinds:
            return None
        by_answer: dict[str, list[Ask]] = {}
        for ask in self.asks(scene):
            by_answer.setdefault(ask.answer, []).append(ask)
        return pick(rng, pick(rng, list(by_answer.values()))) if by_answer else None


def _ask(question: str, answer: str | int, pool: tuple[str, ...], claim: str = "") -> Ask:
    wrong = tuple(option for option in pool if option != str(answer))
    return Ask(question, str(answer), wrong, claim)


def _attribute(
    question: str, value: Callable[[Thing], str | int], pool: tuple[str, ...], claim: str = ""
) -> Callable[[Scene], list[Ask]]:
    """Asks about one attribute of each thing; COLOUR and PLACE in the texts name the thing."""

    def asks(scene: Scene) -> list[Ask]:
        attribute_asks = []
        for thing in scene.things:
            place = SIDES[thing.col] if scene.kind == "pair" else place_of(thing)
            texts = [t.replace("COLOUR", thing.colour).replace("PLACE", place) for t in (question, claim)]
            attribute_asks.append(_ask(texts[0], value(thing), pool, texts[1]))
        return attribute_asks

    return asks


def _colour_by_shape(scene: Scene) -> list[Ask]:
    shapes = [thing.shape for thing in scene.things]
    return [
        _ask(f"What colour is the {thing.shape}?", thing.colour, COLOURS, f"Is the {thing.shape} {{}}?")
        for thing in scene.things
        if shapes.count(thing.shape) == 1
    ]


def _presence(scene: Scene) -> list[Ask]:
    """One ask per colour in the scene; the absent colours are the wrong answers."""
    present = tuple(thing.colour for thing in scene.things)
    absent = tuple(colour for colour in COLOURS if colour not in present)
    return [Ask("Which colour is there?", colour, absent, "Is there a {} thing?") for colour in present]


def _biggest(scene: Scene) -> Thing | None:
    """The biggest thing of a scene with more than one; None if it has one thing only."""
    return max(scene.things, key=lambda thing: thing.size) if len(scene.things) > 1 else None


def _biggest_colour(scene: Scene) -> list[Ask]:
    thing = _biggest(scene)
    question, claim = "What colour is the biggest thing?", "Is the biggest thing {}?"
    return [_ask(question, thing.colour, COLOURS, claim)] if thing else []


def _nearest_colour(scene: Scene) -> list[Ask]:
    """In the world's perspective the biggest thing is the nearest; wrong answers are the other things."""
    thing = _biggest(scene)
    others = tuple(other.colour for other in scene.things)
    return [_ask("Which thing is nearest?", thing.colour, others)] if thing else []


def _horizontal(scene: Scene) -> list[Ask]:
    return [
        _ask(
            f"Is the {a.colour} thing left or right of the {b.colour} thing?",
            SIDES[a.col > b.col],
            SIDES,
            f"Is the {a.colour} thing {{}} of the {b.colour} thing?",
        )
        for a, b in itertools.permutations(scene.things, 2)
        if a.col != b.col
    ]


def _vertical(scene: Scene) -> list[Ask]:
    return [
        _ask(
            f"Is the {a.colour} thing above or below the {b.colour} thing?",
            LEVELS[a.row > b.row],
            LEVELS,
            f"Is the {a.colour} thing {{}} the {b.colour} thing?",
        )
        for a, b in itertools.permutations(scene.things, 2)
        if a.row != b.row
    ]


def _depth(scene: Scene) -> list[Ask]:
    return [
        Ask(
            f"Which thing is nearer the {a.colour} thing or the {b.colour} thing?",
            max(a, b, key=lambda thing: thing.size).colour,
            (min(a, b, key=lambda thing: thing.size).colour,),
        )
        for a, b in itertools.permutations(scene.things, 2)
        if a.size != b.size
    ]


def _distance(scene: Scene) -> list[Ask]:
    """Which of two things is closer to a third: the one beside it or the one on its diagonal."""

    def is_beside(a: Thing, b: Thing) -> bool:
        return a.row == b.row or a.col == b.col

    return [
        Ask(
            f"Which thing is closer to the {a.colour} thing the {b.colour} thing or the {c.colour} thing?",
            (b if is_beside(a, b) else c).colour,
            ((c if is_beside(a, b) else b).colour,),
        )
        for a, b, c in itertools.permutations(scene.things, 3)
        if is_beside(a, b) != is_beside(a, c)
    ]


def _same(attribute: str) -> Callable[[Scene], list[Ask]]:
    def asks(scene: Scene) -> list[Ask]:
        left, right = scene.things
        answer = "yes" if getattr(left, attribute) == getattr(right, attribute) else "no"
        return [_ask(f"Do the two things have the same {attribute}?", answer, ("yes", "no"))]

    return asks


def _bar_value(scene: Scene) -> list[Ask]:
    values = NUMBERS[1:6]
    return [
        _ask(
            f"What is the value of the {b.colour} bar?",
            b.height,
            values,
            f"Is the value of the {b.colour} bar {{}}?",
        )
        for b in scene.bars
    ]


def _extreme_bar(word: str, choose: Callable[..., int]) -> Callable[[Scene], list[Ask]]:
    def asks(scene: Scene) -> list[Ask]:
        height = choose(bar.height for bar in scene.bars)
        colour = next(bar.colour for bar in scene.bars if bar.height == height)
        return [_ask(f"Which bar is {word}?", colour, COLOURS, f"Is the {word} bar {{}}?")]

    return asks


def _bar_difference(scene: Scene) -> list[Ask]:
    return [
        _ask(
            f"What is the difference of the {a.colour} bar and the {b.colour} bar?",
            abs(a.height - b.height),
            NUMBERS[1:5],
        )
        for a, b in itertools.permutations(scene.bars, 2)
    ]


def _bar_sum(scene: Scene) -> list[Ask]:
    return [
        _ask(
            f"What is the sum of the {a.colour} bar and the {b.colour} bar?", a.height + b.height, NUMBERS[3:]
        )
        for a, b in itertools.permutations(scene.bars, 2)
    ]


def _topic(scene: Scene) -> list[Ask]:
    topics = tuple(dict.fromkeys(TOPICS.values()))
    return [_ask("What is the topic of the word?", TOPICS[str(scene.word)], topics)]


def _digit_plus(scene: Scene) -> list[Ask]:
    digit = int(scene.digit or 0)
    return [_ask(f"What is the digit plus {addend}?", digit + addend, NUMBERS[1:9]) for addend in ADDENDS]


def _one(
    question: str, value: Callable[[Scene], str | int | None], pool: tuple[str, ...], claim: str = ""
) -> Callable[[Scene], list[Ask]]:
    return lambda scene: [_ask(question, str(value(scene)), pool, claim)]


_OBJECTS: tuple[Kind, ...] = ("objects",)
_PAIR: tuple[Kind, ...] = ("pair",)
_CHART: tuple[Kind, ...] = ("chart",)
_SIGN: tuple[Kind, ...] = ("sign",)
_DIGIT: tuple[Kind, ...] = ("digit",)
_ALL: tuple[Kind, ...] = ("objects", "pair", "chart", "sign", "digit")
_PICTURES = tuple(PICTURE_WORDS.values())
_DIGIT_WORDS = tuple(str(digit) for digit in DIGITS)

SKILLS: dict[str, Skill] = {
    skill.name: skill
    for skill in (
        Skill(
            "picture",
            _ALL,
            _one(
                "What does the picture show?",
                lambda s: PICTURE_WORDS[s.kind],
                _PICTURES,
                "Does the picture show {}?",
            ),
        ),
        Skill(
            "count",
            _OBJECTS,
            _one("How many things are there?", lambda s: len(s.things), NUMBERS[1:5], "Are there {} things?"),
        ),
        Skill("presence", _OBJECTS, _presence),
        Skill(
            "shape",
            _OBJECTS,
            _attribute(
                "What shape is the COLOUR thing?", lambda t: t.shape, SHAPES, "Is the COLOUR thing {}?"
            ),
        ),
        Skill(
            "texture",
            _OBJECTS,
            _attribute(
                "What texture is the COLOUR thing?", lambda t: t.texture, TEXTURES, "Is the COLOUR thing {}?"
            ),
        ),
        Skill("place", _OBJECTS, _attribute("Where is the COLOUR thing?", place_of, PLACES)),
        Skill(
            "colour_at",
            _OBJECTS,
            _attribute(
                "What colour is the PLACE thing?", lambda t: t.colour, COLOURS, "Is the PLACE thing {}?"
            ),
        ),
        Skill("colour_of", _OBJECTS, _colour_by_shape),
        Skill(
            "corners",
            _OBJECTS,
            _attribute(
                "How many corners has the COLOUR thing?",
                lambda t: CORNERS[t.shape],
                tuple(str(c) for c in CORNERS.values()),
            ),
        ),
        Skill("biggest", _OBJECTS, _biggest_colour),
        Skill("nearest", _OBJECTS, _nearest_colour),
        Skill("horizontal", _OBJECTS, _horizontal),
        Skill("vertical", _OBJECTS, _vertical),
        Skill("depth", _OBJECTS, _depth),
        Skill("distance", _OBJECTS, _distance),
        Skill("same_shape", _PAIR, _same("shape")),
        Skill("same_colour", _PAIR, _same("colour")),
        Skill("same_texture", _PAIR, _same("texture")),
        Skill("side_shape", _PAIR, _attribute("What shape is the PLACE thing?", lambda t: t.shape, SHAPES)),
        Skill(
            "side_colour", _PAIR, _attribute("What colour is the PLACE thing?", lambda t: t.colour, COLOURS)
        ),
        Skill(
            "side_texture",
            _PAIR,
            _attribute("What texture is the PLACE thing?", lambda t: t.texture, TEXTURES),
        ),
        Skill("bar_value", _CHART, _bar_value),
        Skill("highest_bar", _CHART, _extreme_bar("highest", max)),
        Skill("lowest_bar", _CHART, _extreme_bar("lowest", min)),
        Skill("bar_difference", _CHART, _bar_difference),
        Skill("bar_sum", _CHART, _bar_sum),
        Skill("word", _SIGN, _one("What word is written?", lambda s: s.word, WORDS, "Is the word {}?")),
        Skill("plate", _SIGN, _one("What colour is the plate?", lambda s: s.plate, COLOURS)),
        Skill("topic", _SIGN, _topic),
        Skill(
            "digit",
            _DIGIT,
            _one("What digit is written?", lambda s: s.digit, _DIGIT_WORDS, "Is the digit {}?"),
        ),
        Skill("digit_plus", _DIGIT, _digit_plus),
    )
}
