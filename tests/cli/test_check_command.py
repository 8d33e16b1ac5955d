from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
COMMAND = [sys.executable, "-m", "openxclip.cli.main"]


@pytest.fixture
def collection(clip_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "collection"
    folder.mkdir()
    for name in ("red2.mp4", "red10.mp4"):
        (folder / name).write_bytes((clip_folder / name).read_bytes())
    (folder / "text.mp4").write_text("no video")
    return folder


def test_json_lines_report_and_summary(run: Run, collection: Path, tmp_path: Path) -> None:
    done = run("check", collection, "--jobs", 2, "--report", tmp_path / "report.json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [Path(row["path"]).name for row in rows] == ["red2.mp4", "red10.mp4", "text.mp4"]
    assert [row["error"] is None for row in rows] == [True, True, False]
    assert done.stderr == "2 of 3 videos are fine; 1 can't be read.\n"
    assert json.loads((tmp_path / "report.json").read_text()) == rows


@pytest.mark.slow
def test_fine_videos_and_exceeded_limits(run: Run, collection: Path) -> None:
    done = run("check", collection / "red2.mp4", collection / "red10.mp4", "--quick")
    assert (done.returncode, done.stderr) == (0, "All 2 videos are fine.\n")
    for option, value, said in (
        ("--max-frames", 9, "10 frames or more, over the limit of 9"),
        ("--max-pixels", 3071, "64×48 = 3072 pixels"),
        ("--max-seconds", "0.000000001", "longer than the limit of 1e-09 s"),
    ):
        done = run("check", collection / "red2.mp4", option, value)
        (row,) = map(json.loads, done.stdout.splitlines())
        assert done.returncode == 1
        assert said in row["error"]
        assert option in row["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-memory", "lots"], "write it as 2GB"),
        (["--max-frames", "0"], "x>=1"),
        (["--allow-protocols", "file:,http"], "names of FFmpeg protocols"),
        (["--report", "report.txt"], "must end with .json, .jsonl or .csv"),
        (["--jobs", "0"], "x>=1"),
    ],
)
def test_invalid_options_are_refused(run: Run, arguments: list[str], said: str, collection: Path) -> None:
    done = run("check", collection, *arguments)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_playlists_are_checked_if_their_protocols_are_allowed(run: Run, collection: Path) -> None:
    playlist = collection / "list.ffconcat"
    playlist.write_text("ffconcat version 1.0\nfile red2.mp4\nfile red10.mp4\n")
    assert "--allow-protocols" in run("check", playlist).stdout
    (row,) = map(json.loads, run("check", playlist, "--allow-protocols", "file").stdout.splitlines())
    assert row["frames"] == 20


def test_a_terminal_shows_a_table_of_problems(collection: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen([*COMMAND, "check", "."], stdout=slave, stderr=subprocess.PIPE, cwd=collection)
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # what Linux says at the end of a terminal
            break
        if not part:
            break
        shown += part
    os.close(master)
    _, said = process.communicate(timeout=60)
    text = shown.decode()
    assert process.returncode == 1
    assert "text.mp4" in text
    assert "red2.mp4" not in text
    assert "2 of 3 videos are fine; 1 can't be read." in text
    assert said == b""


@pytest.mark.slow
def test_an_interrupted_check_writes_no_report(collection: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "silent.mp4")  # what nobody writes to: checking it takes its time
    command = [*COMMAND, "check", str(collection), str(tmp_path / "silent.mp4"), "--report", str(tmp_path / "r.csv")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline()
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip() == "openxclip: interrupted"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["collection", "silent.mp4"]
