"""The parts of a timeline's picture: colours, the time axis, curves of many windows, and labels of any length."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FONT = "DejaVu Sans"  # comes with matplotlib
_FALLBACKS = ("Noto Sans", "Source Han Sans", "WenQuanYi", "Droid Sans Fallback", "IPAGothic", "TakaoGothic",
              "Unifont", "Symbola", "FreeSans", "Arial Unicode MS", "Segoe UI", "Microsoft", "Hiragino")  # fmt: skip
_STEPS_S = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400
)  # fmt: skip


class Colours(NamedTuple):
    """The colours of a picture. Blue and orange differ for colour-blind people too, and in brightness."""

    background: str
    panel: str
    text: str
    faint_text: str
    grid: str
    curve: str
    segment: str
    cut: str
    unread: str


LIGHT = Colours("#ffffff", "#f6f7f9", "#1b1f24", "#59636e", "#dfe3e8", "#0b5cad", "#e8710a", "#59636e", "#9aa3ad")
DARK = Colours("#14171c", "#1d2127", "#e8eaed", "#a5adb8", "#343a43", "#7ab8f5", "#ffa54a", "#a5adb8", "#6b7480")


def time_ticks(end: float, *, most: int) -> list[float]:
    """Return round times from 0 to `end` seconds, at most `most` of them.

    Examples:
        >>> time_ticks(95.0, most=8)
        [0.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0]
    """
    step = next((step for step in _STEPS_S if end / step + 1 <= most), 0.0)
    if not step:  # longer than days
        step = 86_400.0 * math.ceil(end / 86_400 / (most - 1))
    return [float(number * step) for number in range(int(end / step + 1e-9) + 1)]


def tick_text(seconds: float, *, step: float) -> str:
    """Return a time as m:ss or h:mm:ss; with tenths if `step` is below a second.

    Examples:
        >>> tick_text(75, step=15), tick_text(3600, step=600), tick_text(0.5, step=0.5)
        ('1:15', '1:00:00', '0:00.5')
    """
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 10:04.1f}" if step < 1 else f"{rest // 10:02}"
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"


def curve(
    starts_W: NDArray[np.float64], ends_W: NDArray[np.float64], scores_W: NDArray[np.float32], *, end: float, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the points of a curve of scores over time; of many windows, the highest score in each of `most` columns.

    Args:
        starts_W, ends_W: bounds of the windows, in seconds, ascending.
        scores_W: a score for each window; NaN leaves a gap.
        end: the end of the time axis, in seconds.
        most: the number of windows above which columns are drawn, in which no peak is lost.

    Returns:
        Times and scores, from the start of the first window to the end of the last.
    """
    count = len(scores_W)
    if not count:
        return np.zeros(0), np.zeros(0)
    times = (starts_W + ends_W) / 2
    scores = scores_W.astype(np.float64)
    if count > most:
        columns = np.minimum((times / end * most).astype(np.int64), most - 1)
        first = np.flatnonzero(np.diff(columns, prepend=-1))
        scores = np.fmax.reduceat(scores, first)
        times = (columns[first] + 0.5) * end / most
    edges = [min(float(starts_W[0]), times[0])], [max(float(ends_W[-1]), times[-1])]
    return np.concatenate((edges[0], times, edges[1])), np.concatenate((scores[:1], scores, scores[-1:]))


def distinct_columns(times: NDArray[np.float64], *, end: float, most: int) -> NDArray[np.float64]:
    """Return the first of the times in each of `most` columns of the time axis, which show as one line."""
    _, first = np.unique((times / end * most).astype(np.int64), return_index=True)
    return np.asarray(times[first])


def printable(text: str) -> str:
    """Return a text on one line and without characters that a picture can't hold (XML allows no control characters)."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def wrapped(text: str, *, width: int, lines: int) -> str:
    """Return a text of at most `lines` lines of `width` narrow characters, shortened by "…" if it is longer."""
    text = printable(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    width = max(4, round(width * len(text) / (len(text) + wide))) if text else width
    parts = textwrap.wrap(text, width=width)
    if len(parts) > lines:  # textwrap's own placeholder would drop a whole last word, which in Chinese is a whole text
        parts[lines - 1 :] = [parts[lines - 1][: width - 1].rstrip() + "…"]
    return "\n".join(parts)


def fonts_for(text: str) -> tuple[list[str], str]:
    """Choose fonts that have the characters of a text.

    Returns:
        Names of fonts, the first of which is tried first, and the characters that no suitable font here has.
    """
    from matplotlib import font_manager

    def has(path: str, characters: set[str]) -> set[str]:
        return {char for char in characters if ord(char) in font_manager.get_font(path).get_charmap()}

    characters = {char for char in text if not char.isspace()}
    missing = characters - has(font_manager.findfont(_FONT), characters)
    names = [_FONT]
    if missing:
        for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: entry.name):
            # a font of colour pictures can't be drawn
            if entry.name in names or not entry.name.startswith(_FALLBACKS) or "Color" in entry.name:
                continue
            found = has(entry.fname, missing)
            if found:
                names.append(entry.name)
                missing -= found
    return names, "".join(sorted(missing))
