"""`openxclip playground`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip.common.counting import counted
from openxclip.video import VideoReader

Run = Callable[..., Any]


def test_clips_and_their_captions(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "made" / "clips"
    ran = run("playground", "--out", out, "--clips", 3, "--size", 48, "--seconds", 0.5, "--seed", 5)
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["00000.mp4", "00001.mp4", "00002.mp4"]
    assert all(f"{line['thing']} {line['action']}" in line["caption"] for line in lines)
    with VideoReader(out / "00002.mp4") as reader:
        assert (reader.num_frames, reader.width) == (12, 48)
    assert len(list(out.iterdir())) == 4
    again = run("playground", "--out", out, "--clips", 3)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    (out / "captions.jsonl").unlink()
    before = (out / "00000.mp4").read_bytes()
    again = run("playground", "--out", out, "--clips", 1, "--seed", 6)
    assert "00000.mp4 exists already" in again.stderr
    assert (out / "00000.mp4").read_bytes() == before


def test_a_film_and_its_times(run: Run, tmp_path: Path) -> None:
    ran = run("playground", "--out", tmp_path, "--film", 4, "--size", 32, "--fps", 6)
    assert ran.returncode == 0, ran.stderr
    told = json.loads((tmp_path / "film.json").read_text())
    assert told["events"][0]["start"] > 0
    assert counted(len(told["events"]), "event") in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--clips N or --film TIME"),
        (("--clips", 1, "--film", 3), "--clips N or --film TIME"),
        (("--clips", 1, "--size", 33), "even"),
        (("--clips", 0), "0 is not in the range"),
    ],
)
def test_a_users_mistakes(run: Run, arguments: tuple[object, ...], told: str, tmp_path: Path) -> None:
    ran = run("playground", "--out", tmp_path / "x", *arguments)
    assert ran.returncode == 2
    assert told in ran.stderr
    assert not (tmp_path / "x").exists()


def test_an_invalid_folder_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    ran = run("playground", "--out", tmp_path / "file" / "x", "--clips", 1)
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
