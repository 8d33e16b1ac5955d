"""`openxclip index`: its messages about interruptions, missing and moved files, and --watch."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip import VideoIndex

Run = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def videos(clip_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip_folder, tmp_path / "videos"))


@pytest.fixture
def arguments(tiny_folder: Path, tmp_path: Path) -> tuple[object, ...]:
    return ("--to", tmp_path / "index", "--model", tiny_folder, "--device", "cpu", "--window", 0.3)


def test_ctrl_c_prints_what_the_index_keeps(run: Run, videos: Path, arguments, monkeypatch) -> None:
    add, clips = VideoIndex.add, []

    def interrupted(self, paths, *, on_clip, **options):
        def on_clip_until_interrupted(*clip: object) -> None:
            on_clip(*clip)
            clips.append(clip)
            if len(clips) == 5:
                raise KeyboardInterrupt

        return add(self, paths, on_clip=on_clip_until_interrupted, **options)

    with monkeypatch.context() as patched:
        patched.setattr(VideoIndex, "add", interrupted)
        ran = run("index", videos, *arguments)
    assert ran.returncode == 130
    assert [line for line in ran.stderr.splitlines() if line] == [
        f"openxclip: the index keeps 1 video, and 2 windows of {videos / 'red2.mp4'}: run the same command to resume.",
        "openxclip: interrupted",
    ]
    ran = run("index", videos, *arguments)
    assert ran.returncode == 0
    assert ran.stdout == f"{arguments[1]}: 2 added, 1 unchanged; 3 videos, 9 windows\n"


@pytest.mark.slow
def test_a_disk_that_is_not_mounted(run: Run, videos: Path, arguments) -> None:
    run("index", videos, *arguments)
    shutil.rmtree(videos)
    videos.mkdir()
    ran = run("index", videos, "--update", *arguments)
    assert ran.returncode == 1
    assert ran.stdout.endswith("0 added, 3 missing but not removed, 1 unreadable; 3 videos, 9 windows\n")
    assert "3 files of the index are missing but kept in it, because the disk may not be mounted:" in ran.stderr
    assert str(videos / "more/blue.mp4") in ran.stderr
    assert "--update --allow-removing 3" in ran.stderr
    ran = run("index", "--update", "--allow-removing", 3, *arguments)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.endswith("0 added, 3 removed; 0 videos, 0 windows\n")


def test_a_moved_file(run: Run, videos: Path, arguments) -> None:
    run("index", videos, *arguments)
    (videos / "red2.mp4").rename(videos / "red3.mp4")
    ran = run("index", videos, "--update", *arguments)
    assert ran.returncode == 0
    assert ran.stdout.endswith("0 added, 1 moved, 3 unchanged; 3 videos, 9 windows\n")


def test_compact(run: Run, videos: Path, arguments) -> None:
    run("index", videos, *arguments)
    ran = run("index", "--compact", *arguments)
    assert ran.returncode == 0
    assert " MB before, " in ran.stdout


def test_watching_is_announced_and_ends_without_error(run: Run, videos: Path, arguments, monkeypatch) -> None:
    shutil.move(videos / "red2.mp4", videos.parent / "later.mp4")
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            shutil.move(videos.parent / "later.mp4", videos / "later.mp4")
        elif len(looks) == 2:
            shutil.rmtree(videos)
        elif len(looks) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    ran = run("index", "--watch", "--update", videos, *arguments)
    assert ran.returncode == 0
    said = ran.stderr.splitlines()
    assert said[0] == "openxclip: watching for new and changed files every 2 s, until Ctrl-C."
    assert said[-1] == "openxclip: stopped watching."
    assert ran.stderr.count("the disk may not be mounted") == 1
    assert [line.partition(": ")[2] for line in ran.stdout.splitlines()] == [
        "2 added; 2 videos, 6 windows",
        "1 added, 2 unchanged; 3 videos, 9 windows",
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--allow-removing", "3"], "--allow-removing needs --update"),
        (["--watch"], "no videos are named"),
        (["--update", "--remove"], "--remove can't be combined with --update"),
    ],
)
def test_options_that_exclude_each_other(run: Run, arguments, more: list[str], said: str) -> None:
    ran = run("index", *arguments, *more)
    assert ran.returncode == 2
    assert said in ran.stderr


def test_an_empty_folder(run: Run, arguments, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("index", tmp_path / "empty", *arguments)
    assert ran.returncode == 2
    assert f"no videos in {tmp_path / 'empty'}" in ran.stderr
    assert not (tmp_path / "index").exists()
