"""Common parts of all pictures: fonts, colours, file formats, and storing.

The colours are those of M. Okabe and K. Ito, "Color Universal Design" (2008), which can be told
apart with any kind of colour vision; right and wrong also differ in shape.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kws.errors import KwsError, require, some
from kws.system.files import atomic_write
from kws.system.progress import tell

_SUFFIXES = (".png", ".pdf", ".svg")
_DPI = 150
BLUE, VERMILLION, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#E69F00", "#8A8A8A", "#222222"
PALE = "#C9C9C9"

_STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "kws",
    "svg.fonttype": "none",
    # A dollar sign in a name does not begin a formula.
    "text.parse_math": False,
}
_OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Hiragino Sans", "Microsoft YaHei",
    "Yu Gothic", "Malgun Gothic", "Apple SD Gothic Neo", "WenQuanYi Zen Hei", "Arial Unicode MS",
    "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Nirmala UI",
)  # fmt: skip
"""Fonts for characters that Matplotlib's own font lacks; used if installed."""
_NO_GLYPH = re.compile(r"Glyph (\d+) .*missing from")
_CHARACTER_INCHES = 0.08
"""Width of a character of a picture's title; most characters are narrower."""


def check_picture(path: str | Path) -> None:
    """Check before long work that a picture can be drawn and stored under this name.

    Raises:
        KwsError: matplotlib is missing, or the suffix is not .png, .pdf or .svg.
    """
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise KwsError(
            f"A picture's name must end in {', '.join(_SUFFIXES)}. Received: {str(path)!r}"
        )
    require("matplotlib", extra="plot")


@contextmanager
def picture(path: str | Path, size_inches: tuple[float, float]) -> Iterator[Any]:
    """Give a figure to draw on, and store it if the block ends without an error."""
    check_picture(path)
    matplotlib = require("matplotlib", extra="plot")
    figures = require("matplotlib.figure", extra="plot")
    with matplotlib.rc_context({**_STYLE, "font.family": _fonts()}), _one_line_on_glyphs():
        # Not pyplot: it would choose a window system and keep every figure.
        figure = figures.Figure(figsize=size_inches, dpi=_DPI, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
        yield figure
        with atomic_write(path) as file:
            figure.savefig(file, format=Path(path).suffix[1:].lower())


def _fonts() -> list[str]:
    """Return Matplotlib's own font and the installed ones of `_OTHER_SCRIPTS`."""
    manager = require("matplotlib.font_manager", extra="plot").fontManager
    installed = {font.name for font in manager.ttflist}
    return ["DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in installed)]


@contextmanager
def _one_line_on_glyphs() -> Iterator[None]:
    """Report once which characters no font has, instead of a warning each time they are drawn."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    missing = set()
    for warning in caught:
        if found := _NO_GLYPH.match(str(warning.message)):
            missing.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    if missing:
        tell(
            f"no installed font has {some(sorted(missing))}: the picture shows boxes instead. "
            f"Install a font such as {_OTHER_SCRIPTS[0]}"
        )


def title(figure: Any, name: str, text: str) -> None:
    """Write the name of what is shown and a line of text at the top left.

    The middle of a name that is too long for the picture is left out.
    """
    room = int(figure.get_figwidth() / _CHARACTER_INCHES)
    if len(name) > room:
        name = f"{name[: room // 2 - 1]}…{name[-room // 2 :]}"
    figure.suptitle(f"{name}\n{text}", x=0.015, ha="left", size=9.5, linespacing=1.5)


def legend_below(figure: Any, entries: dict[str, Any]) -> None:
    """Add a legend in one row below the picture."""
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=len(entries),
        fontsize=8, handlelength=1.4, handleheight=0.8, columnspacing=1.6,
    )  # fmt: skip


def grid(axes: Any, axis: str = "both") -> None:
    """Draw faint grid lines behind everything."""
    axes.grid(axis=axis, color="#EAEAEA", linewidth=0.8)
    axes.set_axisbelow(True)
