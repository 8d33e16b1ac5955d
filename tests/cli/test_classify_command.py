"""`openxclip classify`: its output on each stream, and its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

Run = Callable[..., Any]
COMMAND = [sys.executable, "-m", "openxclip.cli.main"]


def test_json_lines_in_a_pipe_with_readable_and_unreadable_files(
    run: Run, tiny_folder: Path, clip_folder: Path
) -> None:
    done = run("classify", clip_folder, "gone.mp4", "--labels", "red, blue ,sea", "--model", tiny_folder, "--top", 2)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [Path(row["path"]).name for row in rows] == ["blue.mp4", "red2.mp4", "red10.mp4", "gone.mp4"]
    assert all(
        len(row["labels"]) == 2 and {r["label"] for r in row["labels"]} <= {"red", "blue", "sea"} for row in rows[:3]
    )
    assert set(rows[0]) == {"path", "outcome", "labels", "none_of_these", "times"}
    assert rows[3] == {"path": "gone.mp4", "error": rows[3]["error"]}
    assert "gone.mp4" in done.stderr
    assert "1 of 4 videos could not be read" in done.stderr


def test_names_from_stdin_and_labels_from_a_file(
    run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("red\n\nblue, and more\n", encoding="utf-8")
    names = f"{clip_folder / 'red2.mp4'}\n\n{clip_folder / 'more' / 'blue.mp4'}\n"
    done = run("classify", "-", "--labels-file", tmp_path / "labels.txt", "--model", tiny_folder, stdin=names)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert len(rows) == 2
    assert {r["label"] for r in rows[0]["labels"]} == {"red", "blue, and more"}


@pytest.mark.filterwarnings("always")
def test_frames_clips_and_range_reach_the_decoder(run: Run, tiny_folder: Path, clip_folder: Path) -> None:
    done = run(
        "classify", clip_folder / "red2.mp4", "--labels", "a,b", "--model", tiny_folder,
        "--frames", 3, "--clips", 2, "--start", 0.2, "--end", 0.8,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, done.stdout.splitlines())
    assert [len(clip) for clip in row["times"]] == [3, 3]
    assert all(0.2 <= time < 0.8 for clip in row["times"] for time in clip)


def test_a_table_on_a_terminal(run: Run, tiny_folder: Path, clip_folder: Path) -> None:
    done = run(
        "classify", clip_folder / "red2.mp4", "--labels", "a red wall,b", "--model", tiny_folder, "--min-score", 0,
        columns=80,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = click.unstyle(done.stdout)
    assert "probability" in text
    assert "a red wall" in text
    assert text.count("%") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify", "x.mp4"], "--labels"),
        (["classify", "--labels", "a"], "VIDEO"),
        (["classify", "x.mp4", "--labels", " , "], "no labels"),
        (["classify", "x.mp4", "--labels", "a,a"], "'a' is given twice"),
        (["classify", "x.mp4", "--labels", "a", "--labels-file", os.devnull], "one of them"),
        (["classify", "x.mp4", "--labels-file", "/does/not/exist"], "/does/not/exist"),
        (["classify", "x.mp4", "--labels", "a", "--clips", "0"], "--clips"),
        (["classify", "x.mp4", "--labels", "a", "--start", "3", "--end", "2"], "--end 2.0: must be after --start 3"),
        (["clasify", "x.mp4"], "clasify"),
    ],
)
def test_usage_errors(run: Run, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_bad_template_or_device_is_a_usage_error(run: Run, tiny_folder: Path) -> None:
    for option, value in (("--template", "a video"), ("--device", "nonsense")):
        done = run("classify", "x.mp4", "--labels", "a", "--model", tiny_folder, option, value)
        assert done.returncode == 2
        assert value in done.stderr
        assert "Traceback" not in done.stderr


def test_labels_that_are_not_text(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.bin").write_bytes(b"\xff\xfe\x00")
    done = run("classify", "x.mp4", "--labels-file", tmp_path / "labels.bin", "--model", tiny_folder)
    assert done.returncode == 2
    assert "labels.bin: is not text in UTF-8" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_byte_order_mark_is_not_part_of_a_label(
    run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfred\r\nblue\r\n")
    video = clip_folder / "red2.mp4"
    done = run("classify", video, "--labels-file", tmp_path / "labels.txt", "--model", tiny_folder)
    (row,) = map(json.loads, done.stdout.splitlines())
    assert {r["label"] for r in row["labels"]} == {"red", "blue"}


@pytest.mark.slow
def test_a_full_disk(tiny_folder: Path, clip_folder: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*COMMAND, "classify", str(clip_folder), "--labels", "a", "--model", str(tiny_folder)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "openxclip", "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("openxclip, version ")


def test_no_names_on_stdin(run: Run, tiny_folder: Path) -> None:
    done = run("classify", "-", "--labels", "a", "--model", tiny_folder, stdin="\n")
    assert done.returncode == 2
    assert "no videos are named" in done.stderr


@pytest.mark.filterwarnings("always")  # as in a process of its own
def test_a_warning_is_a_note(run: Run, tiny_folder: Path, clip_folder: Path) -> None:
    done = run("classify", clip_folder / "red2.mp4", "--labels", "a", "--model", tiny_folder, "--frames", 5)
    assert done.returncode == 0
    assert done.stderr.startswith("openxclip: note: the model's temporal positions are for 4 frames")
    assert len(done.stderr.splitlines()) == 1


def test_the_error_of_an_unreachable_default_model_names_mini(run: Run, tmp_path: Path) -> None:
    done = run("classify", "x.mp4", "--labels", "a", HF_HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert "microsoft/xclip-base-patch32" in done.stderr
    assert "The model mini needs no download" in done.stderr


def test_no_such_model_folder(run: Run) -> None:
    done = run("classify", "x.mp4", "--labels", "a", "--model", "./nowhere")
    assert done.returncode == 1
    assert "./nowhere" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_interruption_prints_one_line(tiny_folder: Path, clip_folder: Path) -> None:
    names = "\n".join([str(clip_folder / "red2.mp4")] * 100_000)
    arguments = ["classify", "-", "--labels", "a,b", "--model", str(tiny_folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(names)
        process.stdin.close()
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, said = process.stdout.read(), process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert said.strip() == "openxclip: interrupted"
    for line in [first, *rest.splitlines()]:
        json.loads(line)  # no torn line


def test_help_does_not_import_torch() -> None:
    seen = (
        "import sys; sys.argv = ['openxclip', '--help']; from openxclip.cli.main import main\n"
        "try: main()\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, timeout=60)
    assert "classify" in done.stdout
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "av", "numpy", "rich", "huggingface_hub", "transformers"}
