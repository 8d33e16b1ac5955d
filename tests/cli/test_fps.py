"""The frame rate of videos without times: set by --fps, or assumed with a note, in every verb that reads videos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import openxclip
from openxclip import VideoIndex, VideoPipeline
from openxclip.search.previews import thumbnail
from openxclip.video import DecodeWorker, ReadOptions, VideoReader, check
from openxclip.video.assumptions import AssumptionWarning

GUESS = "folders of images, arrays and frames in memory have no times: 25 frames a second were assumed"
LABELS = ["--labels", "red, blue"]


@pytest.fixture(scope="module")
def untimed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder of 50 images and an array of 50 frames, ever brighter."""
    folder = tmp_path_factory.mktemp("untimed")
    frames = np.stack([np.full((32, 32, 3), 5 * i, np.uint8) for i in range(50)])
    (folder / "frames").mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "frames" / f"{i}.png")
    np.save(folder / "a.npy", frames)
    return [folder / "frames", folder / "a.npy"]


def rows(done: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("verb", [pytest.param("info", marks=pytest.mark.slow), "check"])
def test_info_and_check(verb: str, untimed: list[Path], run: Callable[..., Any]) -> None:
    options = ["--quick"] if verb == "check" else []
    for row in rows(run(verb, *untimed, *options)):
        assert (row["fps"], row["duration"]) == (25, 2)
        assert [note for note in row["notes"] if note.startswith(GUESS)]
    for row in rows(run(verb, *untimed, *options, "--fps", "10")):
        assert (row["fps"], row["duration"], row["notes"]) == (10, 5, [])


@pytest.mark.filterwarnings("default::openxclip.video.assumptions.AssumptionWarning")
def test_classify(untimed: list[Path], run: Callable[..., Any], tiny_folder: Path) -> None:
    def times(*options: str) -> list[list[float]]:
        done = run("classify", *untimed, *LABELS, "--model", tiny_folder, "--start", "1", *options)
        assert (done.returncode, done.stderr.count(f"openxclip: note: {GUESS}")) == (0, 0 if options else 1)
        return [row["times"][0] for row in rows(done)]

    assert [[round(25 * t) for t in one] for one in times()] == [[28, 34, 40, 46]] * 2
    assert [[round(10 * t) for t in one] for one in times("--fps", "10")] == [[15, 25, 35, 45]] * 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default::openxclip.video.assumptions.AssumptionWarning")
def test_embed(untimed: list[Path], run: Callable[..., Any], tiny_folder: Path, tmp_path: Path) -> None:
    def ends(*options: str) -> list[float]:
        out = tmp_path / "f.npz"
        done = run("embed", *untimed, "--model", tiny_folder, "--window", "1", "--out", out, "--force", *options)
        assert (done.returncode, done.stderr.count(f"openxclip: note: {GUESS}")) == (0, 0 if options else 1)
        return list(np.load(out)["end"])

    assert ends() == [1, 2, 1, 2]
    assert ends("--fps", "12.5") == [1, 2, 3, 4] * 2


@pytest.mark.slow
def test_index_and_search(untimed: list[Path], run: Callable[..., Any], tiny_folder: Path, tmp_path: Path) -> None:
    index = ["--to", tmp_path / "index", "--model", tiny_folder, "--window", "1"]
    done = run("index", *untimed, *index, "--fps", "12.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("2 added; 2 videos, 8 windows\n")
    found = run("search", "--video", untimed[0], "--start", "3", "--fps", "12.5", "--in", tmp_path / "index")
    assert found.returncode == 0, found.stderr
    opened = VideoIndex.open(tmp_path / "index", model=tiny_folder)
    hits = opened.search("red", merge=False)
    assert {(hit.start, hit.end, hit.duration) for hit in hits} == {(i, i + 1, 4) for i in range(4)}
    with DecodeWorker() as reader:
        for hit in hits:  # the still is of the moment, though at 25 frames a second the video would end at 2 s
            still = np.array(Image.open(BytesIO(thumbnail(hit, width=32, reader=reader))))
            assert still.mean() == pytest.approx(5 * (12.5 * hit.start + 6), abs=6)


def test_invalid_rates_are_refused(untimed: list[Path], run: Callable[..., Any], tmp_path: Path) -> None:
    for rate in ("0", "-1", "fast"):
        done = run("check", *untimed, "--fps", rate)
        assert (done.returncode, "--fps" in done.stderr) == (2, True)
    for verb, options in (("check", []), ("info", []), ("embed", ["--out", tmp_path / "out.npz"])):
        done = run(verb, *untimed, *options, "--fps", "inf")
        assert (done.returncode, "--fps inf: must be a number above 0" in done.stderr) == (2, True), verb
    with pytest.raises(ValueError, match="fps=0: must be a number above 0"):
        check(untimed[0], read=ReadOptions(fps=0))


def test_python_notes_the_assumed_rate_and_warns_when_frames_are_read(untimed: list[Path], tiny_folder: Path) -> None:
    for source in untimed:
        with VideoReader(source) as reader:
            assert [note for note in reader.notes if note.startswith(GUESS)]
            assert reader.fps == 25
            with pytest.warns(AssumptionWarning, match=GUESS):
                reader.get_frames([0])
        with VideoReader(source, read=ReadOptions(fps=25)) as reader:  # the same rate, but no guess
            assert reader.notes == ()
            reader.get_frames([0])
    pipeline = VideoPipeline.from_pretrained(tiny_folder)
    with pytest.warns(AssumptionWarning, match=GUESS):
        openxclip.classify(untimed[0], ["red", "blue"], model=pipeline)
    openxclip.classify(untimed[0], ["red", "blue"], model=pipeline, read=ReadOptions(fps=5))
    pipeline.close()


def test_one_image_has_no_rate(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with VideoReader(tmp_path) as reader:
        reader.get_frames([0])
        assert reader.notes == ()


@pytest.mark.slow
def test_the_command_prints_the_note_once(untimed: list[Path], tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "openxclip", "classify", *map(str, untimed), str(untimed[0]), *LABELS]
    done = subprocess.run(
        [*command, "--model", str(tiny_folder)], capture_output=True, text=True, env={**os.environ}, check=True
    )
    assert done.stderr.count(GUESS) == 1
