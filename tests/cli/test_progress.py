"""Progress within one video, as a bar on a line of its own, and as lines if there is no terminal."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from openxclip.cli import progress as module
from openxclip.cli.progress import Progress, progress
from openxclip.cli.terminal import prepare_streams, say
from openxclip.video import ClipPlan

Run = Callable[..., Any]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_progress_of_one_video_counts_seconds(clock: Clock) -> None:
    shown = Progress("embedding", 1, now=clock)
    clock.seconds += 10
    shown.footage(900, 3600)
    assert shown.state() == "15:00.0 of 1:00:00.0, 0:30 left"
    clock.seconds += 10
    shown.footage(3600, 3600)
    assert shown.state() == "1:00:00.0 of 1:00:00.0, 0:00 left"


def test_progress_of_several_videos_counts_videos_and_a_part(clock: Clock) -> None:
    shown = Progress("indexing", 4, now=clock)
    shown()
    clock.seconds += 5
    shown.footage(30, 60)
    assert shown.fraction == pytest.approx(1.5 / 4)
    assert shown.text() == "1 of 4 videos, 0:30.0 of 1:00.0"
    shown()
    assert shown.text() == "2 of 4 videos"
    shown.footage(float("nan"), float("nan"))
    assert shown.fraction == pytest.approx(2 / 4)


def test_parts_of_several_videos_in_progress_are_added(clock: Clock) -> None:
    shown = Progress("checking", 2, now=clock)
    shown.footage(30, 60, "a")
    shown.footage(15, 60, "b")
    assert shown.fraction == pytest.approx(0.375)
    shown("a")
    assert shown.fraction == pytest.approx(0.625)


def test_progress_of_labels_clips_and_unknown_totals(clock: Clock) -> None:
    labels = Progress("encoding labels", 5000, "label", now=clock)
    labels.at(512)
    assert labels.text() == "512 of 5000 labels"
    clips = Progress("classifying", 1, now=clock)
    clips.clips(3, 30)
    assert clips.text() == "3 of 30 clips"
    unknown = Progress("converting", now=clock, total=None)
    clock.seconds += 65
    assert unknown.state() == "1:05 so far"


def test_the_time_left_is_estimated_from_the_last_minutes(clock: Clock) -> None:
    shown = Progress("embedding", 100, now=clock)
    for _ in range(50):  # known already: an interrupted run that resumes
        shown()
    for _ in range(30):
        clock.seconds += 10
        shown()
    assert shown.left() == "3:20 left"


def test_without_a_terminal_a_line_is_printed_every_30_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("indexing", 8000, now=clock) as shown:
        for _ in range(287):
            clock.seconds += 1
            for _ in range(10):
                shown()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9
    assert lines[0] == "openxclip: indexing: 291 of 8000 videos, 13:15 left"
    assert all(re.fullmatch(r"openxclip: indexing: \d+ of 8000 videos, \d+:\d\d left", line) for line in lines)


def test_lines_are_printed_without_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    said, has_come = [], threading.Event()

    def hear(text: str) -> None:
        said.append(text)
        has_come.set()

    monkeypatch.setattr(module, "LINE_EVERY_S", 0.01)
    monkeypatch.setattr(module, "say", hear)
    with progress("reading", 1):
        assert has_come.wait(30)
    assert said[0].startswith("reading: 0 of 1 video, ")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_quiet_shows_nothing(is_terminal: bool, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    err = Tty() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    with click.Context(click.Command("x")) as context:
        context.meta["openxclip.quiet"] = True
        with progress("indexing", 3, now=clock) as shown:
            clock.seconds += 100
            shown()
    assert err.getvalue() == ""


@pytest.mark.slow
def test_quiet_hides_notes_but_no_errors(run: Run, clip_folder: Path, tmp_path: Path) -> None:
    arguments = ("classify", tmp_path / "none.mp4", clip_folder / "red2.mp4", "--labels", "a, b", "--model", "mini")
    loud, quiet = run(*arguments), run(*arguments, "--quiet")
    assert loud.returncode == quiet.returncode == 1
    errors = quiet.stderr.splitlines()
    assert any("none.mp4" in line for line in errors)
    assert not any("note:" in line for line in errors)
    *before, last = loud.stderr.splitlines()
    assert before == errors
    assert last.startswith("openxclip: note: mini knows only"), "once, after the errors"
    assert loud.stderr.count("mini knows") == 1


# -- on a terminal -----------------------------------------------------------------------------------------------------


@pytest.fixture
def as_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tty]:
    """Have one terminal as stdout and stderr; to be called in the test, as pytest sets these streams before it."""

    def call(columns: int = 80, kind: str = "xterm") -> Tty:
        monkeypatch.setenv("TERM", kind)
        monkeypatch.setenv("COLUMNS", str(columns))
        tty = Tty()
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, tty)
        prepare_streams()
        return tty

    return call


def seen(written: str) -> list[str]:
    """The lines that a terminal shows at the end."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[\s\S]", written):
        if token.startswith("\x1b["):
            number = int(re.sub(r"\D", "", token.split(";")[0]) or 1)
            if token.endswith("A"):
                row = max(0, row - number)
            elif token.endswith("K"):
                lines[row] = ""
        elif token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        else:
            lines[row] = f"{lines[row][:column]:<{column}}{token}{lines[row][column + 1 :]}"
            column += 1
    return lines


def test_the_bar_shares_no_line_with_output_or_notes(as_terminal: Callable[..., Tty]) -> None:
    terminal = as_terminal()
    with progress("classifying", 3) as shown:
        for number in range(3):
            click.echo(f'{{"path": "{number}.mp4"}}')
            say(f"note: {number}")
            print("in", "two", number)
            shown()
            during = seen(terminal.getvalue())
            assert sum("classifying" in line for line in during) <= 1
    assert "classifying" in terminal.getvalue()
    lines = [line for line in seen(terminal.getvalue()) if line]
    expected = [[f'{{"path": "{n}.mp4"}}', f"openxclip: note: {n}", f"in two {n}"] for n in range(3)]
    assert lines == [line for lines in expected for line in lines]


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_the_bar_is_one_line(columns: int, as_terminal: Callable[..., Tty]) -> None:
    terminal = as_terminal(columns)
    with progress("encoding labels", 8000) as shown:
        shown.footage(3000, 7200)
        assert len([line for line in seen(terminal.getvalue()) if line]) == 1
        assert len(seen(terminal.getvalue())[0]) <= columns


def test_a_dumb_terminal_shows_lines(as_terminal: Callable[..., Tty], clock: Clock) -> None:
    terminal = as_terminal(kind="dumb")
    with progress("checking", 2, now=clock) as shown:
        clock.seconds += 31
        shown()
    assert "\x1b" not in terminal.getvalue()
    assert "openxclip: checking: 1 of 2 videos, 0:31 left" in terminal.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize("reader", ["| cat", pytest.param("", marks=pytest.mark.slow)])
def test_output_through_a_pipe_to_the_same_terminal(reader: str, clip_folder: Path) -> None:
    import fcntl
    import pty
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 2000, 0, 0))
    command = f"'{sys.executable}' -m openxclip check {clip_folder} --json {reader}"
    environment = {**{k: v for k, v in os.environ.items() if k != "COLUMNS"}, "TERM": "xterm"}
    process = subprocess.Popen(["bash", "-c", command], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    written = b""
    while True:
        try:
            block = os.read(master, 1 << 16)
        except OSError:  # what Linux says at the end of a terminal
            break
        if not block:
            break
        written += block
    assert process.wait() == 0
    os.close(master)
    lines = [line for line in seen(written.decode()) if line.strip()]
    # Through `cat`, the last row may come after the sentence, which goes to the terminal directly
    assert sorted(line[:9] for line in lines) == ["All 3 vid", *['{"path": '] * 3]


# -- what the library reports ------------------------------------------------------------------------------------------


def test_functions_report_their_progress(clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    from openxclip import VideoPipeline, embed
    from openxclip.playground import film
    from openxclip.recognition import Classifier

    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    heard: list[Any] = []
    texts = [f"label {number}" for number in range(600)]
    classifier = Classifier(pipeline, texts, on_text=heard.append)
    assert heard == sorted(heard)
    assert len(heard) >= 2
    assert heard[-1] >= 600
    heard.clear()
    video = clip_folder / "red2.mp4"
    list(classifier([video], ClipPlan(num_clips=5), on_clip=heard.append))
    assert heard == [1, 2, 3, 4, 5]
    heard.clear()
    embed(video, tmp_path / "f.npz", model=pipeline, window=0.25, on_clip=lambda *said: heard.append(said))
    assert [end for _, end, _ in heard] == sorted(end for _, end, _ in heard)
    assert {path for path, _, _ in heard} == {str(video)}
    assert heard[-1][1] == pytest.approx(heard[-1][2])
    heard.clear()
    made = film(3, 0, size=32)
    made.save(tmp_path / "film.mp4", on_shot=heard.append)
    assert heard[-1] == pytest.approx(made.duration)


def test_check_reports_its_progress(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from openxclip.video import DecodeWorker, check_videos, inspect

    heard: list[tuple[float, float]] = []
    inspect(clip_folder / "red2.mp4", full=True, on_time=lambda *said: heard.append(said))
    assert heard[-1][0] == pytest.approx(heard[-1][1])
    said: list[Any] = []

    def inspected(self: DecodeWorker, source: Any, *, on_time: Callable[[float, float], object], **how: Any) -> Any:
        on_time(1.0, 2.0)
        return inspect(source)

    monkeypatch.setattr(DecodeWorker, "inspect", inspected)
    list(check_videos([clip_folder / "red2.mp4"], jobs=1, on_time=lambda *what: said.append(what)))
    assert said == [(str(clip_folder / "red2.mp4"), 1.0, 2.0)]
