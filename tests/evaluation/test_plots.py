"""Plots of confusion and calibration."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from openxclip.errors import MissingPackageError
from openxclip.evaluation.metrics import Bin, calibration
from openxclip.evaluation.plots import draw_confusion, draw_reliability, write_confusion_table

pytest.importorskip("matplotlib")


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def confused(number: int) -> tuple[Any, list[str]]:
    matrix = np.random.default_rng(number).integers(0, 3, size=(number, number)) + 20 * np.eye(number, dtype=int)
    return matrix, [f"doing thing number {i}" for i in range(number)]


def test_a_confusion_table(tmp_path: Path) -> None:
    matrix, classes = np.array([[3, 1], [0, 2]]), ['to "run", fast', "sit\ndown"]
    assert write_confusion_table(matrix, classes, tmp_path / "c.csv") == tmp_path / "c.csv"
    with (tmp_path / "c.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["truth \\ predicted", *classes], [classes[0], "3", "1"], [classes[1], "0", "2"]]


@pytest.mark.parametrize(
    "number", [1, 26, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 10, 25, 60, 61, 400))]
)
def test_confusion_plots_of_every_size(tmp_path: Path, number: int) -> None:
    matrix, classes = confused(number)
    picture = pixels(draw_confusion(matrix, classes, tmp_path / "c.png"))
    assert max(picture.shape) < 2600
    assert (picture < 100).any(axis=2).mean() > 0.001  # something is drawn


@pytest.mark.slow
def test_more_than_sixty_classes_are_not_named(tmp_path: Path) -> None:
    for number in (60, 61):
        matrix, classes = confused(number)
        named = pixels(draw_confusion(matrix, classes, tmp_path / "named.png"))
        other = pixels(draw_confusion(matrix, [f"x{name}" for name in classes], tmp_path / "other.png"))
        assert (named.shape == other.shape and (named == other).all()) == (number == 61)


@pytest.mark.slow
def test_darker_cells_have_more_samples(tmp_path: Path) -> None:
    """A diagonal has more dark pixels than equal counts everywhere."""
    eye, blank = np.eye(70, dtype=int), np.ones((70, 70), dtype=int)
    classes = [str(i) for i in range(70)]
    sharp, spread = (pixels(draw_confusion(m, classes, tmp_path / "c.png")) for m in (eye, blank))
    dark = [(picture[..., 0] < 50) & (picture[..., 2] > 90) for picture in (sharp, spread)]  # the end of the scale
    assert dark[0].sum() > 1.3 * dark[1].sum()


@pytest.mark.parametrize("name", ["costs $x_{$", "跳舞", "a" * 300, "", "naïve_\\frac{1}{2}", "two\nlines"])
def test_unusual_class_names(tmp_path: Path, name: str) -> None:
    picture = pixels(draw_confusion(np.array([[1, 0], [2, 3]]), [name, "b"], tmp_path / "c.png"))
    assert max(picture.shape) < 2000


def test_a_class_without_samples(tmp_path: Path) -> None:
    draw_confusion(np.array([[1, 0], [0, 0]]), ["a", "b"], tmp_path / "c.png")
    assert (tmp_path / "c.png").exists()


def reliability() -> tuple[float, list[Bin]]:
    draw = np.random.default_rng(0)
    confidence = draw.beta(4, 2, size=500)
    return calibration(confidence, draw.random(500) < confidence**2)


@pytest.mark.slow
def test_a_reliability_diagram(tmp_path: Path) -> None:
    sure = calibration([1.0] * 10, [True] * 10)
    assert draw_reliability(*reliability(), tmp_path / "r.png") == tmp_path / "r.png"
    draw_reliability(*sure, tmp_path / "s.png")
    assert pixels(tmp_path / "r.png").shape == pixels(tmp_path / "s.png").shape
    assert (pixels(tmp_path / "r.png") != pixels(tmp_path / "s.png")).any()


def test_an_error_keeps_the_existing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    (tmp_path / "r.png").write_text("mine")

    def torn(self: Any, path: Path, **_: Any) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", torn)
    with pytest.raises(OSError, match="No space left"):
        draw_reliability(*reliability(), tmp_path / "r.png")
    assert (tmp_path / "r.png").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["r.png"]


def test_invalid_matrices_and_a_missing_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for draw in (draw_confusion, write_confusion_table):
        with pytest.raises(ValueError, match=r"a confusion matrix of shape \(2, 2\) for 3 classes"):
            draw(np.eye(2, dtype=int), ["a", "b", "c"], tmp_path / "c")
        with pytest.raises(ValueError, match="for 0 classes"):
            draw(np.empty((0, 0), dtype=int), [], tmp_path / "c")
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'openxclip\[plots\]'"):
        draw_reliability(*reliability(), tmp_path / "r.png")
    assert list(tmp_path.iterdir()) == []
