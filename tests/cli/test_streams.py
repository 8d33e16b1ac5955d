"""Output that can't be written: full devices, closed pipes, encodings that lack a character."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip.cli.rows import csv_line
from openxclip.cli.terminal import OutputError, json_line, prepare_streams, say

Run = Callable[..., Any]
COMMAND = [sys.executable, "-m", "openxclip"]


class Broken(io.StringIO):
    """A stream that can't be written."""

    def __init__(self, error: BaseException, *, only_flush: bool = False) -> None:
        super().__init__()
        self.error, self.only_flush = error, only_flush

    def write(self, text: str) -> int:
        if self.only_flush:
            return len(text)
        raise self.error

    def flush(self) -> None:
        raise self.error


FULL, CLOSED = OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have these as standard streams, prepared as `main` does it."""

    def prepare(**named: io.TextIOBase) -> None:
        for name in ("stdin", "stdout", "stderr"):
            monkeypatch.setattr(sys, name, named.get(name, io.StringIO()))
        prepare_streams()

    return prepare


@pytest.mark.parametrize("only_flush", [False, True])
@pytest.mark.parametrize("error", [FULL, CLOSED, ValueError("I/O operation on closed file")])
def test_an_unwritable_message_does_not_stop_the_work(
    error: BaseException, only_flush: bool, streams: Callable[..., None]
) -> None:
    streams(stderr=Broken(error, only_flush=only_flush))
    say("a message")
    print("another", file=sys.stderr, flush=True)
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True, force_terminal=True)) as progress:
        progress.advance(progress.add_task("", total=2))


@pytest.mark.parametrize("only_flush", [False, True])
@pytest.mark.parametrize(("error", "code"), [(FULL, 1), (CLOSED, 0)])
@pytest.mark.parametrize(
    "arguments", [["models"], ["models", "--json"], ["--help"], ["check", "--help"], ["--version"]]
)
def test_unwritable_output(arguments: list[str], error: OSError, code: int, only_flush: bool, run: Run) -> None:
    ran = run(*arguments, out=Broken(error, only_flush=only_flush))
    assert ran.returncode == code
    told = "openxclip: the output can't be written (No space left on device).\n"
    assert ran.stderr == (told if code else "")


def test_the_flush_at_exit_raises_nothing(streams: Callable[..., None]) -> None:
    streams(stdout=Broken(FULL))
    with pytest.raises(OutputError, match="No space left"):
        print("text", flush=True)
    sys.stdout.flush()


def test_characters_that_the_encoding_lacks_are_escaped(streams: Callable[..., None]) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="strict") for _ in range(2))
    stdin = io.TextIOWrapper(io.BytesIO(b"\xff.mp4\n"), encoding="utf-8")
    streams(stdin=stdin, stdout=out, stderr=err)
    assert sys.stdin.readline() == os.fsdecode(b"\xff.mp4") + "\n"
    line = json_line({"path": "ü猫.mp4"})
    assert json.loads(line) == {"path": "ü猫.mp4"}
    print(line, flush=True)
    print("ü猫", flush=True)
    say("ü猫")
    for stream in (out, err):
        assert "ü\\u732b" in stream.buffer.getvalue().decode("latin-1")
    assert line.isascii()
    assert not json_line({"path": "ü.mp4"}).isascii(), "what it has is left as it is"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_csv_has_the_bytes_of_a_name(encoding: str, streams: Callable[..., None]) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    streams(stdout=out, stderr=err)
    print(csv_line([os.fsdecode(b"a\xff.mp4"), 1, "\ud800"]), flush=True)
    say(os.fsdecode(b"a\xff.mp4"))
    assert out.buffer.getvalue().strip() == b"a\xff.mp4,1,\\ud800"
    assert err.buffer.getvalue().strip() == b"openxclip: a\\udcff.mp4"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.slow
def test_streams_in_a_shell(clip_folder: Path) -> None:
    """Both at once, in one process: the note can't be written, the reader goes after the first line."""
    call = f"'{sys.executable}' -m openxclip check {clip_folder} --quick"
    script = f"{call} 2>/dev/full | head -n 1; echo ${{PIPESTATUS[0]}}; {call} >/dev/full; echo $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    line, piped, full = done.stdout.splitlines()
    assert json.loads(line)["error"] is None
    assert piped in ("0", "141")
    assert full == "1"
    assert done.stderr == "openxclip: the output can't be written (No space left on device).\n"
