"""Run every script of examples/ and draw its result: docs/images/example-*.png.

    python scripts/docs/example_pictures.py [NAME …]     (needs the extras `search`, `plots` and `docs`)

The scripts run in a temporary copy of examples/ and samples/. Everything in the pictures comes from what they printed
and wrote.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from openxclip.datasets import open_dataset
from openxclip.video import VideoReader, read_clip

ROOT = Path(__file__).resolve().parents[2]
BLUE, RED, GREY = "#5b7db1", "#e4572e", "#c9ced6"


def show_frames(axes: Sequence[Axes], video: Path) -> None:
    """Show evenly spaced frames of a video, one on each of some axes."""
    for axis, frame in zip(axes, read_clip(video, num_frames=len(axes)).frames_THWC, strict=True):
        axis.imshow(frame)
        axis.set(xticks=[], yticks=[])


def write_beside(axis: Axes, text: str) -> None:
    """Write text at the left of the frames that start on an axis."""
    axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=10, labelpad=10)


def rows_of_frames(rows: dict[str, Path], columns: int = 4) -> Figure:
    """Draw a row of frames for each video, with a text at the left."""
    figure, grid = plt.subplots(
        len(rows), columns, figsize=(2.4 + 1.3 * columns, 1.3 * len(rows)), layout="constrained", squeeze=False
    )
    for axes, (text, video) in zip(grid, rows.items(), strict=True):
        show_frames(axes, video)
        write_beside(axes[0], text)
    return figure


def sort_clips(printed: str, folder: Path) -> Figure:
    """Draw each folder with its clips."""
    clips = sorted((folder / "runs" / "sorted").glob("*/*.mp4"))
    return rows_of_frames({f"{clip.parent.name}/": clip for clip in clips})


def near_duplicates(printed: str, folder: Path) -> Figure:
    """Draw each duplicate above the clip that contains it."""
    pairs = re.findall(r"^(\S+) is in (\S+)", printed, re.MULTILINE)
    rows = {}
    for copy, original in pairs:
        rows[copy] = folder / "runs" / "clips" / copy
        rows[f"is in {original}"] = folder / "runs" / "clips" / original
    return rows_of_frames(rows)


def highlights(printed: str, folder: Path) -> Figure:
    """Draw the film's events and the highlights on a time axis, and frames of each highlight."""
    found = re.findall(r"^(\S+): ([\d.]+) to ([\d.]+) s", printed, re.MULTILINE)
    film = json.loads((folder / "runs" / "highlights" / "film.json").read_text(encoding="utf-8"))
    columns = 6
    figure = plt.figure(figsize=(8.8, 1.5 + 1.35 * len(found)), layout="constrained")
    grid = figure.add_gridspec(1 + len(found), columns, height_ratios=[1.2, *[1] * len(found)])
    line = figure.add_subplot(grid[0, :])
    for event in film["events"]:
        wanted = "hides behind" in event["caption"]
        line.barh(1, event["end"] - event["start"], left=event["start"], color=BLUE if wanted else GREY, height=0.6)
    for _, start, end in found:
        line.barh(0, float(end) - float(start), left=float(start), color=RED, height=0.6)
    line.set(yticks=[0, 1], yticklabels=["cut", "events"], xlim=(0, film["duration"]), xlabel="seconds")
    line.spines[["top", "right", "left"]].set_visible(False)
    line.tick_params(axis="y", length=0)
    for row, (path, start, _) in enumerate(found, 1):
        axes = [figure.add_subplot(grid[row, column]) for column in range(columns)]
        show_frames(axes, folder / path)
        write_beside(axes[0], f"{Path(path).name}\nfrom {float(start):.0f} s")
    return figure


def features_to_sklearn(printed: str, folder: Path) -> Figure:
    """Draw the features in the two directions in which the classes differ most, by scikit-learn."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    dataset = open_dataset(folder / "runs" / "actions")
    labels = np.array([sample.label for sample in dataset.samples])
    features = np.load(folder / "runs" / "features.npz")["pooled"]
    solver = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=2)
    points = solver.fit_transform(features, labels)
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for number, (name, marker) in enumerate(zip(dataset.classes, "os^D", strict=False)):
        axis.scatter(*points[labels == number].T, s=36, marker=marker, label=name, alpha=0.85)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set(xticks=[], yticks=[], title=printed.strip())
    axis.title.set_fontsize(10)
    return figure


def webcam_loop(printed: str, folder: Path) -> Figure:
    """Draw frames of the film, and the label that the loop showed at each time."""
    changes = re.findall(r"^ *([\d.]+) s  (.+?)  \(", printed, re.MULTILINE)
    columns = 11
    figure = plt.figure(figsize=(9.6, 2.6), layout="constrained")
    grid = figure.add_gridspec(2, columns, height_ratios=[1, 1.1])
    show_frames([figure.add_subplot(grid[0, column]) for column in range(columns)], folder / "runs" / "camera.mp4")
    with VideoReader(folder / "runs" / "camera.mp4") as camera:
        duration = camera.duration
    line = figure.add_subplot(grid[1, :])
    ends = [float(start) for start, _ in changes[1:]] + [duration]
    for (start, label), end in zip(changes, ends, strict=True):
        begin = float(start)
        known = label != "none of these"
        line.barh(0, end - begin, left=begin, color=BLUE if known else GREY, height=0.8, edgecolor="white")
        words = label.removeprefix("something ").replace(" ", "\n")
        line.text(
            (begin + end) / 2, 0, words, ha="center", va="center", fontsize=9, color="white" if known else "black"
        )
    line.set(yticks=[], xlim=(0, duration), xlabel="seconds")
    line.spines[["top", "right", "left"]].set_visible(False)
    return figure


PICTURES: dict[str, Callable[[str, Path], Figure]] = {
    function.__name__: function
    for function in (sort_clips, highlights, features_to_sklearn, near_duplicates, webcam_loop)
}


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG with a palette of 128 colours, which is a third of the size."""
    memory = io.BytesIO()
    figure.savefig(memory, dpi=90, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    Image.open(memory).convert("RGB").quantize(128).save(path, optimize=True)


def main(names: list[str]) -> None:
    """Run the examples of these names, or all, and draw their pictures."""
    for name in names or PICTURES:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent)
            for part in ("examples", "samples"):
                shutil.copytree(ROOT / part, folder / part)
            settings: dict[str, Any] = {"cwd": folder, "env": {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}}
            command = [sys.executable, f"examples/{name}.py"]
            printed = subprocess.run(command, capture_output=True, text=True, check=True, **settings).stdout
            print(printed, end="")
            save(PICTURES[name](printed, folder), ROOT / "docs" / "images" / f"example-{name.replace('_', '-')}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
