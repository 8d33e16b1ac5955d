"""Tables on terminals of several widths: no name, label or number is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from openxclip import VideoIndex, VideoPipeline
from openxclip.checkpoints.released import RELEASED

Run = Callable[..., Any]
WIDTHS = (20, 40, 80, 200)
SHOWN = 12  # characters of a name or label that must be there


@pytest.fixture(scope="module")
def folder(clip_folder: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos with longer names, two of them the same, one of them cut off, and an index of them."""
    folder = tmp_path_factory.mktemp("n")
    (folder / "a_broken_video_of_it.mp4").write_bytes((clip_folder / "red2.mp4").read_bytes()[:900])
    for name in ("a_red_video_of_ours.mp4", "another_red_video.mp4"):
        shutil.copy(clip_folder / "red2.mp4", folder / name)
    shutil.copy(clip_folder / "more/blue.mp4", folder / "something_else_that_is_blue.mp4")
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    VideoIndex.open(folder / "index", model=pipeline).add(folder)
    return folder


def shown(text: str) -> str:
    """What is on the terminal, but for blanks: where a text is folded doesn't matter."""
    return "".join(click.unstyle(text).split())


def begins(text: str) -> str:
    return "".join(text.split())[:SHOWN]


@pytest.mark.parametrize("columns", [20, pytest.param(80, marks=pytest.mark.slow)])
def test_videos_and_labels(
    columns: int, run: Run, folder: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    videos = sorted(path.name for path in folder.glob("*.mp4"))
    labels = ("riding a bicycle downhill", "swimming in the sea", "[b]")
    classified = run("classify", *videos, "--model", tiny_folder, "--labels", ",".join(labels), "--device", "cpu",
                     columns=columns)  # fmt: skip
    assert classified.returncode == 1
    text = shown(classified.stdout)
    for name in (*videos, *labels):
        assert begins(name) in text
    assert text.count("%") == 3 * 3
    assert "…" not in classified.stdout

    checked = run("check", ".", columns=columns)
    assert begins("a_broken_video_of_it.mp4") in shown(checked.stdout)
    assert "recorditagain" in shown(checked.stdout), "what is wrong is there to its end"
    described = run("info", videos[1], tiny_folder, columns=columns)
    for name in (videos[1], "duration", "video: h264", "joint width", "activation", "Hugging Face folder"):
        assert shown(name) in shown(described.stdout)
    for ran in (classified, checked, described):
        assert max(map(len, click.unstyle(ran.stdout).splitlines())) <= max(columns, 40), "nothing runs over the edge"


@pytest.mark.parametrize("columns", [20, 80])
def test_moments_and_copies(columns: int, run: Run, folder: Path) -> None:
    found = run("search", "red", "--in", folder / "index", "--device", "cpu", columns=columns)
    assert found.returncode == 0, found.stderr
    copies = run("dedup", "--in", folder / "index", columns=columns)
    for name in ("a_red_video_of_ours.mp4", "another_red_video.mp4", "something_else_that_is_blue.mp4"):
        assert name in shown(found.stdout)
    assert shown(found.stdout).count("0:01.0") == 3
    for name in ("a_red_video_of_ours.mp4", "another_red_video.mp4"):
        assert name in shown(copies.stdout)
    assert "…" not in found.stdout


@pytest.mark.parametrize("columns", WIDTHS)
def test_models(columns: int, run: Run) -> None:
    listed, profiled = run("models", columns=columns), run("profile", "mini", columns=columns)
    for one in RELEASED:
        assert one.name.removeprefix("microsoft/") in shown(listed.stdout)
        for value in one.accuracy.values():
            assert f"{value:.1f}" in shown(listed.stdout)
    for part in ("videotower", "messagesacrossframes", "GMACs", "307.5", "eachvideo"):
        assert part in shown(profiled.stdout)
    for ran in (listed, profiled):
        assert ran.returncode == 0
        assert "…" not in ran.stdout


def test_a_wide_terminal_shows_a_table(run: Run) -> None:
    wide, narrow = (click.unstyle(run("models", columns=columns).stdout) for columns in (80, 40))
    assert "  accuracy: " not in wide
    assert "  accuracy: " in narrow
