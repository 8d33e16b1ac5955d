"""`openxclip timeline` with mistakes of the user: what is refused, and what the message says."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def timeline(run: Run, tiny_folder: Path) -> Run:
    """Run `openxclip timeline` with a tiny model and windows that fit in a second."""

    def call(*arguments: object, **settings: Any) -> Any:
        how = ("--model", tiny_folder, "--device", "cpu", "--window", 0.4)
        return run("timeline", *arguments, "--labels", "red", *how, **settings)

    return call


def test_one_file_in_two_spellings_is_refused(timeline: Run, clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    names = ("--write", tmp_path / "x.jsonl", "--write", f"{tmp_path}/sub/../x.jsonl")
    ran = timeline(clip_folder / "red2.mp4", *names)
    assert ran.returncode == 2
    assert "x.jsonl: is named twice" in ran.stderr
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize("option", ["--plot", "--save-clips"])
def test_what_reads_a_video_again_refuses_pipes(option: str, timeline: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ran = timeline(pipe, option, tmp_path / "out.png")
    assert ran.returncode == 2
    assert f"{pipe}: {option} reads the video again, but a pipe can be read only once" in " ".join(ran.stderr.split())


def test_no_picture_and_no_clips_are_said(timeline: Run, tmp_path: Path) -> None:
    ran = timeline("gone.mp4", "--plot", tmp_path / "x.png", "--save-clips", tmp_path / "clips")
    assert ran.returncode == 1
    assert "gone.mp4: no picture was drawn, because it could not be read." in ran.stderr
    assert f"{tmp_path / 'clips'}: no clips, because there are no segments." in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_files_have_the_video_whose_row_could_not_be_printed(timeline: Run, clip_folder: Path, tmp_path: Path) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    ran = timeline(clip_folder / "red2.mp4", "--write", tmp_path / "x.jsonl", out=Closed())
    assert "was not written" not in ran.stderr
    assert (tmp_path / "x.jsonl").is_file()


def test_an_empty_rate_is_refused(timeline: Run, clip_folder: Path) -> None:
    ran = timeline(clip_folder / "red2.mp4", "--calibrate", "--false-alarms", "")
    assert ran.returncode == 2
    assert "--false-alarms '': must be a number" in ran.stderr


def test_a_wrong_value_in_a_contract_is_named_by_its_key(timeline: Run, clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text('{"window": -1}', encoding="utf-8")
    ran = timeline(clip_folder / "red2.mp4", "--contract", tmp_path / "contract.json")
    assert ran.returncode == 2
    assert "contract.json: window -1: must be a number of seconds" in " ".join(ran.stderr.split())


def test_footage_between_windows_is_said_not_to_be_looked_at(timeline: Run, clip_folder: Path) -> None:
    ran = timeline(clip_folder / "red2.mp4", "--stride", 0.5)
    assert "windows of 0.4 s begin every 0.5 s, so the 0.1 s between them are not looked at" in ran.stderr
    assert "not looked at" not in timeline(clip_folder / "red2.mp4", "--stride", 0.4).stderr
