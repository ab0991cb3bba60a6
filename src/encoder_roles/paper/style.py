"""One look for every figure: sizes, type, colours of encoders, and complete files.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with the common forms of
colour blindness can tell apart; each encoder also has its marker, so that no figure depends on colour alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encoder_roles.provenance import atomic_file

COLUMN = 3.3  # inches: one column of the page
TEXT = 6.9  # inches: the full text width

INK = "#222222"
MUTED = "#767676"
FAINT = "#d9d9d9"
ACCENT = "#0072b2"
WARM = "#d55e00"

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#000000", "#b8a800")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_RC: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs on every machine
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "figure.dpi": 100,
    "savefig.dpi": 220,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "errorbar.capsize": 0.0,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "encoder-roles",  # without it matplotlib draws random ids
}


def use_style() -> None:
    """Draw without a screen and with the paper's type, lines and spines from here on."""
    if "ipykernel" not in sys.modules:  # a notebook shows its figures by itself
        mpl.use("Agg")
    mpl.rcdefaults()
    mpl.rcParams.update(_RC)


def encoder_colours(pool: Sequence[str]) -> dict[str, str]:
    """The colour of each encoder, by its place in the pool: the same in every figure of a study."""
    return {encoder: _COLOURS[i % len(_COLOURS)] for i, encoder in enumerate(pool)}


def encoder_markers(pool: Sequence[str]) -> dict[str, str]:
    """The marker of each encoder, by its place in the pool."""
    return {encoder: _MARKERS[i % len(_MARKERS)] for i, encoder in enumerate(pool)}


def size_colours(largest: int) -> list[Any]:
    """A colour for each subset size 1..largest, light to dark."""
    ramp = mpl.colormaps["Blues"]
    return [ramp(0.3 + 0.7 * i / max(1, largest - 1)) for i in range(largest)]


def light_grid(axes: Axes, axis: str) -> None:
    """Faint lines that help to read values off `axis` ("x", "y" or "both")."""
    axes.grid(True, axis=axis)  # type: ignore[arg-type]


def say_nothing_to_show(axes: Axes, why: str) -> None:
    """An empty panel that says why it is empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=MUTED)


def spare_panels(panels: Any, used: int) -> list[Axes]:
    """The panels of a grid after the first `used`, switched off; what stands above one gets its labels back,
    which shared axes leave to the lowest row.
    """
    columns = panels.shape[1]
    spare = list(panels.flat[used:])
    for axes in spare:
        axes.set_axis_off()
    for place in range(max(0, panels.size - 2 * columns), used):
        if used <= place + columns < panels.size:
            panels.flat[place].tick_params(axis="x", labelbottom=True)
    return spare


def save_figure(figure: Figure, outputs: Mapping[str, Path]) -> None:
    """Write the figure as complete PDF, SVG and PNG files. The same data give the same bytes."""
    figure.draw_without_rendering()  # lays the figure out, once for all files
    figure.set_layout_engine("none")
    metadata: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    for kind, path in outputs.items():
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata[kind])


def text_on(colour: Sequence[float]) -> str:
    """INK or white, whichever reads better on a coloured cell (by its relative luminance, as in WCAG)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.3 else "white"


def spread_labels(axes: Axes, labels: Mapping[str, tuple[float, str]], size: float = 6.5) -> None:
    """Write labels (name -> height in data units, colour) right of the axes, apart where they would touch."""
    low, high = axes.get_ylim()
    inches = axes.get_window_extent().height / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    line = 1.25 * size / 72 / inches * abs(high - low)
    names = sorted(labels, key=lambda name: labels[name][0])
    heights = [labels[name][0] for name in names]
    for _ in range(200):  # push neighbours apart, half of the overlap each, until none is left
        for i in range(len(heights) - 1):
            overlap = max(0.0, line - (heights[i + 1] - heights[i]))
            heights[i] -= overlap / 2
            heights[i + 1] += overlap / 2
    for name, height in zip(names, heights, strict=True):
        axes.annotate(
            name,
            (1, height),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=labels[name][1],
            fontsize=size,
            va="center",
            annotation_clip=False,
        )
