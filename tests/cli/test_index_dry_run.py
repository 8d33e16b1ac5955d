"""`openxclip index --dry-run` says what indexing takes, and writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip import VideoIndex
from openxclip.search.bulk import estimating

Run = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_dry_run_prints_an_estimate_of_what_is_left(
    run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "_ENCODE_S", 0.0)
    videos, place = Path(shutil.copytree(clip_folder, tmp_path / "videos")), tmp_path / "index"
    (videos / "notes.txt").write_text("no video")
    command = ("index", videos, "--to", place, "--model", tiny_folder, "--device", "cpu", "--window", 0.5, "--dry-run")
    ran = run(*command)
    assert ran.returncode == 0, ran.stderr
    assert not place.exists()
    lines = ran.stdout.splitlines()
    assert lines[0] == str(videos)
    assert lines[1].startswith("  3 videos, about 3")
    assert lines[2].startswith("  6 windows, an index of about ")
    assert lines[-1].startswith("  time: about ")
    assert "left out 1 file that is not a video" in ran.stderr

    VideoIndex.open(place, model=str(tiny_folder), window=0.5, device="cpu", patches=False).add(videos / "red2.mp4")
    (videos / "broken.mp4").write_bytes(b"no video")
    ran = run(*command[:4], "--device", "cpu", "--dry-run")
    assert ran.returncode == 0, ran.stderr
    assert "  3 videos" in ran.stdout
    assert "1 of 4 videos are in the index already" in ran.stderr
    assert "1 of 3 probed videos could not be read" in ran.stdout
    ran = run(*command, "--update")
    assert ran.returncode == 2
    assert "--update can't be combined" in ran.stderr
