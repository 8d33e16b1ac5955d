"""Pictures of what a model confuses and of how far it can be believed, and the numbers beside them."""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openxclip.common.files import written_whole
from openxclip.errors import needs_package
from openxclip.evaluation.metrics import Calibration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NAMED = 60  # classes: more names would not be read
_MOST_COUNTED = 25  # classes: more numbers would not fit their cells
_LONGEST_NAME = 40
_POINTS_PER_INCH = 72
_INK, _PALE = "#08306b", "#c6dbef"


def write_confusion_table(matrix_KK: NDArray[np.int64], classes: Sequence[str], path: str | Path) -> Path:
    """A confusion matrix as CSV: a row for each class, with its name first; the columns are what was predicted.

    Args:
        matrix_KK: see `metrics.confusion_matrix`.
        classes: their names.
        path: of the file, which appears whole or not at all.

    Raises:
        ValueError: there are not as many classes as rows.
        OSError: it can't be written.
    """
    _check(matrix_KK, classes)
    with (
        written_whole(Path(path)) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["truth \\ predicted", *classes])
        table.writerows([name, *row] for name, row in zip(classes, matrix_KK.tolist(), strict=True))
    return Path(path)


def draw_confusion(matrix_KK: NDArray[np.int64], classes: Sequence[str], path: str | Path) -> Path:
    """A confusion matrix as PNG: the darker a cell, the greater its share of the samples of its row.

    Up to 60 classes are named, and up to 25 have their counts in the cells.

    Args:
        matrix_KK, classes, path: see `write_confusion_table`.

    Raises:
        MissingPackageError: matplotlib isn't installed.
        ValueError: there are not as many classes as rows.
        OSError: it can't be written.
    """
    _check(matrix_KK, classes)
    number = len(classes)
    shares_KK = matrix_KK / np.maximum(matrix_KK.sum(axis=1, keepdims=True), 1)
    side = min(max(2.5, 0.28 * number), 12.0) if number <= _MOST_NAMED else 10.0
    size = min(8.0, 0.5 * _POINTS_PER_INCH * side / number)  # half of a row, so that lines stay apart
    figure = new_figure(side + 3.0, side + 2.6)
    axes = figure.add_subplot()
    picture = axes.imshow(shares_KK, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(picture, ax=axes, fraction=0.04, pad=0.02, label="share of the row's samples")
    axes.set(xlabel="predicted", ylabel="truth")
    if number <= _MOST_NAMED:
        names = [_short(name) for name in classes]
        axes.set_xticks(range(number), names, rotation=90, fontsize=size, parse_math=False)
        axes.set_yticks(range(number), names, fontsize=size, parse_math=False)
    else:
        axes.set(xticks=[], yticks=[], xlabel=f"predicted ({number} classes)", ylabel=f"truth ({number} classes)")
    if number <= _MOST_COUNTED:
        for (row, column), count in np.ndenumerate(matrix_KK):
            if count:
                colour = "white" if shares_KK[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=size - 1)
    return save_figure(figure, path)


def draw_reliability(calibration: Calibration, path: str | Path) -> Path:
    """A reliability diagram as PNG: accuracy over confidence, and how many samples each bin has.

    Args:
        calibration: see `metrics.calibration`.
        path: of the file, which appears whole or not at all.

    Raises:
        MissingPackageError: matplotlib isn't installed.
        OSError: it can't be written.
    """
    bins = [one for one in calibration.bins if one.count]
    low = [one.low for one in calibration.bins]
    width = 1 / len(calibration.bins)
    figure = new_figure(5.0, 6.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    accuracy = [one.accuracy or 0.0 for one in bins]
    above.bar([one.low for one in bins], accuracy, width, align="edge", color=_PALE, edgecolor=_INK, label="accuracy")
    above.plot([0, 1], [0, 1], "--", color="grey", label="as often right as confident")
    above.plot([one.confidence for one in bins], accuracy, "o", color=_INK, markersize=4, label="mean confidence")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    above.set_title(f"expected calibration error {100 * calibration.error:.2f} %")
    above.legend(loc="upper left", fontsize=8, frameon=False)
    below.bar(low, [one.count for one in calibration.bins], width, align="edge", color=_PALE, edgecolor=_INK)
    below.set(xlabel="confidence", ylabel="samples")
    return save_figure(figure, path)


def new_figure(width: float, height: float) -> Figure:
    """One that no window and no other thread's plots have to do with: drawn by Agg, without pyplot."""
    with needs_package("a plot", "matplotlib", "plots"), _without_notes():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@contextmanager
def _without_notes() -> Iterator[None]:
    """Import matplotlib without its note that it keeps its cache elsewhere, where the user's can't be written."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """As PNG; the file appears whole or not at all."""
    with written_whole(Path(path)) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")  # of scripts that its font lacks: boxes
        figure.savefig(partial, format="png", dpi=150)
    return Path(path)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _check(matrix_KK: NDArray[Any], classes: Sequence[str]) -> None:
    if matrix_KK.shape != (len(classes), len(classes)) or not classes:
        raise ValueError(
            f"a confusion matrix of {matrix_KK.shape} for {len(classes)} classes: both of its sides must be as long."
        )
