"""Plot confusion matrices and reliability diagrams, and write confusion matrices as CSV."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openxclip.common.figures import new_figure
from openxclip.common.files import atomic_file
from openxclip.evaluation.metrics import Bin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_NAMED = 60  # classes; more names would be illegible
_MAX_COUNTED = 25  # classes; more numbers would not fit their cells
_MAX_NAME = 40  # characters
_POINTS_PER_INCH = 72
_INK, _PALE = "#08306b", "#c6dbef"


def write_confusion_table(matrix_KK: NDArray[np.int64], classes: Sequence[str], path: str | Path) -> Path:
    """Write a confusion matrix as CSV, with a row for each true class and a column for each predicted one.

    Args:
        matrix_KK: see `metrics.confusion_matrix`.
        classes: class names.
        path: the file, which is written atomically.

    Raises:
        ValueError: the numbers of classes and rows differ.
        OSError: the file can't be written.
    """
    _check(matrix_KK, classes)
    with (
        atomic_file(Path(path)) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["truth \\ predicted", *classes])
        table.writerows([name, *row] for name, row in zip(classes, matrix_KK.tolist(), strict=True))
    return Path(path)


def draw_confusion(matrix_KK: NDArray[np.int64], classes: Sequence[str], path: str | Path) -> Path:
    """Draw a confusion matrix as PNG; the shade of a cell shows its share of its row's samples.

    Up to 60 classes have their names, and up to 25 their counts in the cells.

    Args:
        matrix_KK, classes, path: see `write_confusion_table`.

    Raises:
        MissingPackageError: matplotlib isn't installed.
        ValueError: the numbers of classes and rows differ.
        OSError: the file can't be written.
    """
    _check(matrix_KK, classes)
    num_classes = len(classes)
    shares_KK = matrix_KK / np.maximum(matrix_KK.sum(axis=1, keepdims=True), 1)
    inches = min(max(2.5, 0.28 * num_classes), 12.0) if num_classes <= _MAX_NAMED else 10.0
    font_size = min(8.0, 0.5 * _POINTS_PER_INCH * inches / num_classes)  # half a row, so that lines don't touch
    figure = new_figure(inches + 3.0, inches + 2.6)
    axes = figure.add_subplot()
    image = axes.imshow(shares_KK, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, label="share of the row's samples")
    if num_classes <= _MAX_NAMED:
        names = [_shorten(name) for name in classes]
        axes.set_xticks(range(num_classes), names, rotation=90, fontsize=font_size, parse_math=False)
        axes.set_yticks(range(num_classes), names, fontsize=font_size, parse_math=False)
        axes.set(xlabel="predicted", ylabel="truth")
    else:
        count = f"({num_classes} classes)"
        axes.set(xticks=[], yticks=[], xlabel=f"predicted {count}", ylabel=f"truth {count}")
    if num_classes <= _MAX_COUNTED:
        for (row, column), num_samples in np.ndenumerate(matrix_KK):
            if num_samples:
                colour = "white" if shares_KK[row, column] > 0.5 else "black"
                axes.text(column, row, str(num_samples), ha="center", va="center", color=colour, fontsize=font_size - 1)
    return save_figure(figure, path)


def draw_reliability(error: float, bins: Sequence[Bin], path: str | Path) -> Path:
    """Draw a reliability diagram as PNG: accuracy by confidence, and the number of samples in each bin.

    Args:
        error, bins: see `metrics.calibration`.
        path: the file, which is written atomically.

    Raises:
        MissingPackageError: matplotlib isn't installed.
        OSError: the file can't be written.
    """
    filled = [b for b in bins if b["count"]]
    accuracy = [b["accuracy"] for b in filled]
    bars: dict[str, Any] = {"width": 1 / len(bins), "align": "edge", "color": _PALE, "edgecolor": _INK}
    figure = new_figure(5.0, 6.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.bar([b["low"] for b in filled], accuracy, label="accuracy", **bars)
    above.plot([0, 1], [0, 1], "--", color="grey", label="perfect calibration")
    above.plot([b["confidence"] for b in filled], accuracy, "o", color=_INK, markersize=4, label="mean confidence")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    above.set_title(f"expected calibration error {100 * error:.2f} %")
    above.legend(loc="upper left", fontsize=8, frameon=False)
    below.bar([b["low"] for b in bins], [b["count"] for b in bins], **bars)
    below.set(xlabel="confidence", ylabel="samples")
    return save_figure(figure, path)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, atomically."""
    with atomic_file(Path(path)) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")  # its font lacks some scripts
        figure.savefig(partial, format="png", dpi=150)
    return Path(path)


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"


def _check(matrix_KK: NDArray[Any], classes: Sequence[str]) -> None:
    if matrix_KK.shape != (len(classes), len(classes)) or not classes:
        raise ValueError(
            f"a confusion matrix of shape {matrix_KK.shape} for {len(classes)} classes: the numbers must be equal."
        )
