"""Impossible names of videos: they are reported, and the other videos are processed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
NAMES = ("x" * 300 + ".mp4", "d/" * 2500 + "a.mp4", "*" + "x" * 300, "d/" * 2500 + "*", "~nobody-x/a.mp4", "a\0b.mp4")


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "--model", "{model}", "--labels", "red, blue", "--device", "cpu"],
        pytest.param(
            ["embed", "--model", "{model}", "--out", "{tmp}/f.npz", "--device", "cpu"], marks=pytest.mark.slow
        ),
        pytest.param(["index", "--model", "{model}", "--to", "{tmp}/index", "--device", "cpu"], marks=pytest.mark.slow),
        ["check", "--quick", "--jobs", "1"],
    ],
)
def test_impossible_names_do_not_stop_the_other_videos(
    arguments: list[str], run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    video = str(clip_folder / "red2.mp4")
    arguments = [argument.format(model=tiny_folder, tmp=tmp_path) for argument in arguments]
    ran = run(*arguments, "-", stdin="".join(f"{name}\n" for name in (*NAMES, video)))
    assert ran.returncode == 1
    told = ran.stdout if arguments[0] == "check" else ran.stderr
    for name in NAMES:
        assert (name.replace("\0", "\\u0000" if arguments[0] == "check" else "\\x00")) in told
    rows = "1 row of 16 numbers from 1 video"
    counted = {"embed": rows, "index": "1 added", "check": "1 of 7 videos is"}
    if arguments[0] == "classify":
        assert json.loads(ran.stdout.splitlines()[-1])["path"] == video
        assert "outcome" in ran.stdout.splitlines()[-1]
    else:
        assert counted[arguments[0]] in ran.stdout + ran.stderr


def test_info_describes_the_other_videos(run: Run, clip_folder: Path) -> None:
    video = str(clip_folder / "red2.mp4")
    names = (NAMES[0], NAMES[5])
    ran = run("info", *names, video)
    assert ran.returncode == 1
    assert [json.loads(line)["path"] for line in ran.stdout.splitlines()] == [*names, video]
    assert len(ran.stderr.splitlines()) == len(names)
    assert "Errno" not in ran.stderr
