"""Draw a scene as 96 x 96 RGB pixels, which the scene alone determines and which show all of its facts.

Jitter (places, shades, fonts, stripes) comes from the seed of the scene, so a scene always gives the same
picture. Shapes are drawn `OVERSAMPLING` times as large and averaged down, which gives antialiased edges and
positions between pixels.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from encoder_roles.study.names import StudyError
from encoder_roles.world.scenes import COLOURS, Scene, Thing

PIXELS = 96
OVERSAMPLING = 3
CELL = PIXELS // 2

RGB: dict[str, tuple[int, int, int]] = {
    "red": (250, 40, 46),
    "green": (44, 190, 76),
    "blue": (50, 104, 250),
    "yellow": (250, 230, 60),
    "purple": (172, 62, 214),
    "orange": (250, 144, 30),
}
RADII = {1: 8.5, 2: 13.0, 3: 18.5}  # pixels; the jitter never makes two sizes equal
RADIUS_JITTER = 0.8
SHIFT = 4.0  # pixels from the middle of the cell, at most; neighbours still never touch
# extents in radii: all four shapes have about the same area, so that the shape does not reveal the size
SQUARE, TRIANGLE, STAR, STAR_INNER = 0.88, 1.2, 1.2, 0.62
STRIPE_PERIOD = 8  # pixels: four dark, four light
# Brightness of a plain thing, and how far a striped thing's dark and light stripes lie below and above it.
# The means differ by less than brightness varies. With equal means, no encoder of this size learns stripes at
# all; with dark stripes alone, an untrained network recognises the texture by the mean.
BRIGHTNESS, DARKER, LIGHTER = (0.64, 0.80), 0.36, 0.18
PRINT = 0.86  # brightness of bars and plates

FONTS = ("DejaVuSans-Bold.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSerif-Bold.ttf")
FONT_SIZES = (34, 42)  # smallest and largest type; a word too wide for the picture takes a smaller one
WORD_WIDTH = 92
PLATE_MARGIN = 6  # minimum rows of plate above and below the word
DIGIT_PIXELS = (52, 80)

BASELINE = 88  # pixel row on which the bars stand
UNIT = 16  # pixels of height per unit of value
AXIS = 9  # pixel column of the value axis
BAR_WIDTH = 15

Colour = tuple[int, int, int]


def draw(scene: Scene) -> np.ndarray:
    """The picture of a scene, uint8 (96, 96, 3). Raises StudyError if its kind cannot be drawn."""
    return np.array(_paint(scene).picture)


def segment(scene: Scene) -> np.ndarray:
    """The map of the picture's items, uint8 (96, 96): 0 is background, i + 1 the i-th thing or bar.

    A sign's plate and a digit's sheet are one item each: the box, without regard to the writing on it.
    """
    return np.array(_paint(scene).segments)


class _Canvas:
    """A picture and the map of the items pasted into it."""

    def __init__(self, background: Colour) -> None:
        self.picture = Image.new("RGB", (PIXELS, PIXELS), background)
        self.segments = Image.new("L", (PIXELS, PIXELS), 0)
        self._items = 0

    def paste(self, colour: Colour, place: tuple[int, int], mask: Image.Image) -> None:
        """Paste a new item of one colour; `mask` is its coverage."""
        self._items += 1
        self.picture.paste(colour, place, mask)
        self.segments.paste(self._items, place, mask.point(_OVER_HALF))


_OVER_HALF = [0] * 128 + [255] * 128


def _paint(scene: Scene) -> _Canvas:
    rng = np.random.default_rng(scene.seed)
    canvas = _Canvas(_background(rng))
    if scene.kind == "objects":
        _draw_objects(canvas, scene, rng)
    elif scene.kind == "pair":
        _draw_pair(canvas, scene, rng)
    elif scene.kind == "chart":
        _draw_chart(canvas, scene, rng)
    elif scene.kind == "sign":
        _draw_sign(canvas, scene, rng)
    elif scene.kind == "digit":
        _draw_digit(canvas, scene, rng)
    else:
        raise StudyError(f"scene {scene.id}: kind {scene.kind!r} has no drawing")
    return canvas


def draw_many(scenes: list[Scene]) -> np.ndarray:
    """The pictures of several scenes, uint8 (n, 96, 96, 3)."""
    pictures = np.empty((len(scenes), PIXELS, PIXELS, 3), np.uint8)
    for index, scene in enumerate(scenes):
        pictures[index] = draw(scene)
    return pictures


def _background(rng: np.random.Generator) -> Colour:
    shade = rng.integers(222, 246)
    red, green, blue = (int(channel) for channel in shade + rng.integers(-8, 9, 3))
    return red, green, blue


def _shaded(colour: str, rng: np.random.Generator, spread: int = 12) -> Colour:
    red, green, blue = (
        int(c) for c in np.clip(np.array(RGB[colour]) + rng.integers(-spread, spread + 1, 3), 0, 255)
    )
    return red, green, blue


def _dimmed(colour: Colour, brightness: float) -> Colour:
    red, green, blue = (min(255, int(channel * brightness)) for channel in colour)
    return red, green, blue


def _draw_objects(canvas: _Canvas, scene: Scene, rng: np.random.Generator) -> None:
    stripes = _pick_stripes(rng)
    for thing in scene.things:
        x = CELL * (thing.col + 0.5) + rng.uniform(-SHIFT, SHIFT)
        y = CELL * (thing.row + 0.5) + rng.uniform(-SHIFT, SHIFT)
        _draw_thing(canvas, thing, x, y, stripes, rng)


def _draw_pair(canvas: _Canvas, scene: Scene, rng: np.random.Generator) -> None:
    stripes = _pick_stripes(rng)
    for thing in scene.things:
        x = CELL * (thing.col + 0.5) + rng.uniform(-1.5, 1.5)
        y = CELL + rng.uniform(-16, 16)
        _draw_thing(canvas, thing, x, y, stripes, rng)


def _draw_thing(
    canvas: _Canvas, thing: Thing, x: float, y: float, stripes: Image.Image, rng: np.random.Generator
) -> None:
    """Paste one thing with its centre at (x, y); `stripes` masks its dark stripes."""
    radius = RADII[thing.size] + rng.uniform(-RADIUS_JITTER, RADIUS_JITTER)
    brightness, colour = rng.uniform(*BRIGHTNESS), _shaded(thing.colour, rng)
    left, top = round(x) - CELL // 2, round(y) - CELL // 2
    mask = _shape_mask(thing.shape, x - left, y - top, radius)
    striped = thing.texture == "striped"
    canvas.paste(_dimmed(colour, brightness + LIGHTER * striped), (left, top), mask)
    if striped:
        dark = _dimmed(colour, brightness - DARKER)
        canvas.picture.paste(dark, (left, top), ImageChops.multiply(mask, stripes))


def _shape_mask(shape: str, x: float, y: float, radius: float) -> Image.Image:
    """Coverage of a shape with centre (x, y) in a cell, as an "L" image of CELL x CELL."""
    mask = Image.new("L", (CELL * OVERSAMPLING, CELL * OVERSAMPLING), 0)
    pen = ImageDraw.Draw(mask)
    if shape == "circle":
        box = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse([side * OVERSAMPLING for side in box], fill=255)
    else:
        pen.polygon(
            [
                ((x + dx * radius) * OVERSAMPLING, (y + dy * radius) * OVERSAMPLING)
                for dx, dy in _outline(shape)
            ],
            255,
        )
    return mask.reduce(OVERSAMPLING)


@functools.cache
def _outline(shape: str) -> tuple[tuple[float, float], ...]:
    """Corners of a shape around its centre, in radii."""
    if shape == "square":
        return ((-SQUARE, -SQUARE), (SQUARE, -SQUARE), (SQUARE, SQUARE), (-SQUARE, SQUARE))
    if shape == "triangle":
        return ((0.0, -TRIANGLE), (TRIANGLE, 0.9), (-TRIANGLE, 0.9))
    if shape == "star":
        angles = [math.pi * (corner / 5 - 0.5) for corner in range(10)]
        lengths = [STAR if corner % 2 == 0 else STAR_INNER for corner in range(10)]
        return tuple((r * math.cos(a), r * math.sin(a)) for r, a in zip(lengths, angles, strict=True))
    raise StudyError(f"shape {shape!r} has no drawing")


def _pick_stripes(rng: np.random.Generator) -> Image.Image:
    """The stripes of a scene: one direction for all its things, so that two striped things look alike."""
    direction, phase = int(rng.integers(len(_stripes()))), int(rng.integers(STRIPE_PERIOD))
    return _stripes()[direction].crop((phase, phase, phase + CELL, phase + CELL))


@functools.cache
def _stripes() -> tuple[Image.Image, ...]:
    """Masks of the dark stripes (upright, level, and the two diagonals), larger than a cell by one period."""
    side = CELL + STRIPE_PERIOD
    column, row = np.meshgrid(np.arange(side), np.arange(side))
    waves = (column, row, (column + row) * 0.75, (column - row) * 0.75)
    return tuple(
        Image.fromarray(((wave % STRIPE_PERIOD < STRIPE_PERIOD / 2) * 255).astype(np.uint8)) for wave in waves
    )


def _draw_chart(canvas: _Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Bars on a baseline, `UNIT` pixels per unit of value, beside an axis with a tick at each value."""
    pen = ImageDraw.Draw(canvas.picture)
    ink = (70, 70, 70)
    pitch = (PIXELS - AXIS - 2) / len(scene.bars)
    for place, bar in enumerate(scene.bars):
        left = AXIS + 2 + round(pitch * (place + 0.5) - BAR_WIDTH / 2 + rng.uniform(-1, 1))
        height = bar.height * UNIT
        canvas.paste(
            _dimmed(_shaded(bar.colour, rng), PRINT),
            (left, BASELINE - height),
            Image.new("L", (BAR_WIDTH, height), 255),
        )
    pen.line((AXIS, BASELINE - 5 * UNIT - 2, AXIS, BASELINE), fill=ink)
    pen.line((AXIS, BASELINE, PIXELS - 3, BASELINE), fill=ink)
    for value in range(1, 6):
        pen.line((AXIS - 4, BASELINE - value * UNIT, AXIS, BASELINE - value * UNIT), fill=ink)


@functools.cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # only for its fonts, which are the same files on every machine

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


@functools.cache
def _lettering(word: str, font: str, size: int) -> Image.Image:
    """A word in the largest type, at most `size`, that fits the width; an "L" image cropped to its ink."""
    for points in range(size, 8, -1):
        left, top, right, bottom = (int(side) for side in _font(font, points).getbbox(word))
        if right - left <= WORD_WIDTH:
            break
    mask = Image.new("L", (right - left, bottom - top), 0)
    ImageDraw.Draw(mask).text((-left, -top), word, font=_font(font, points), fill=255)
    return mask


def _draw_sign(canvas: _Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """A word on a coloured plate, in dark or light letters, whichever has more contrast."""
    if scene.word is None or scene.plate not in COLOURS:
        raise StudyError(f"scene {scene.id}: a sign needs a word and a plate of a known colour")
    plate = _dimmed(_shaded(scene.plate, rng), PRINT)
    ink = (20, 20, 20) if scene.plate in ("yellow", "orange") else (250, 250, 250)
    size = int(rng.integers(FONT_SIZES[0], FONT_SIZES[1] + 1))
    lettering = _lettering(scene.word, FONTS[int(rng.integers(len(FONTS)))], size)
    height = lettering.height + 2 * PLATE_MARGIN + int(rng.integers(0, 13))
    top = int(rng.integers(4, PIXELS - 4 - height + 1))
    outline = Image.new("L", (PIXELS, height), 0)
    ImageDraw.Draw(outline).rounded_rectangle((0, 0, PIXELS - 1, height - 1), radius=6, fill=255)
    canvas.paste(plate, (0, top), outline)
    x = int(rng.integers(2, PIXELS - 2 - lettering.width + 1))
    y = top + int(rng.integers(PLATE_MARGIN, height - PLATE_MARGIN - lettering.height + 1))
    canvas.picture.paste(ink, (x, y), lettering)


@functools.cache
def _handwriting() -> np.ndarray:
    """scikit-learn's handwritten digits, uint8 (1797, 8, 8), 255 where the pen was."""
    from sklearn.datasets import load_digits

    images: np.ndarray = load_digits().images
    return np.round(images * (255 / 16)).astype(np.uint8)


def _draw_digit(canvas: _Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """A handwritten digit, enlarged, in dark ink."""
    if scene.handwriting is None:
        raise StudyError(f"scene {scene.id}: a digit needs the row of its handwriting")
    digit = Image.fromarray(_handwriting()[scene.handwriting])
    side = int(rng.integers(DIGIT_PIXELS[0], DIGIT_PIXELS[1] + 1))
    mask = digit.resize((side, side), Image.Resampling.BICUBIC)
    x, y = (int(place) for place in rng.integers(2, PIXELS - 2 - side + 1, 2))
    red, green, blue = (int(channel) for channel in rng.integers(10, 80, 3))
    canvas.paste(_background(rng), (x, y), Image.new("L", mask.size, 255))
    canvas.picture.paste((red, green, blue), (x, y), mask)
