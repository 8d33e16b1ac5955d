"""Text that comes from files (their names, what is written in them), fit for a terminal; and the standard streams."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO, cast

import click


class OutputError(Exception):
    """Standard output can't be written.

    Attributes:
        is_closed: its reader has gone, as `head` does when it has its lines.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output can't be written ({error.strerror or error}).")
        self.is_closed = isinstance(error, BrokenPipeError)


class _Stream:
    """A text stream with other errors.

    It hides `buffer`, because click would write to that directly where the encoding is ASCII.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self._stream, name)


class _Output(_Stream):
    """Standard output: its errors are told from those of other files, and are raised once."""

    _failed = False

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise self._failure(error) from error

    def flush(self) -> None:
        if self._failed:
            return  # Python flushes again when it ends, and would print a traceback
        try:
            self._stream.flush()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> OutputError:
        self._failed = True
        return OutputError(error)


class _Messages(_Stream):
    """Standard error: a message that can't be written is lost, and the work goes on."""

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


def prepare_streams() -> None:
    """Make the standard streams safe to use, whatever the caller has done with them.

    A closed one (`>&-`) becomes the null device, so that no file gets its number. Characters that an encoding lacks are
    written as escapes, and names of files that are not text can be read. Errors are those of `_Output` and `_Messages`.
    """
    while (unused := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(unused)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)  # a test's stream may lack it
        if reconfigure is not None:
            reconfigure(errors="surrogateescape" if name == "stdin" else "backslashreplace")
    sys.stdout = cast(TextIO, _Output(sys.stdout))
    sys.stderr = cast(TextIO, _Messages(sys.stderr))


def printable(text: str, *, lines: bool = False) -> str:
    """The text with what a terminal would obey, not show, written out as in Python.

    Args:
        text: of whatever origin.
        lines: let it go on over several lines where they are indented, as those of our own lists are.
    """
    if text.isprintable():
        return text
    if lines:
        return "\n  ".join(printable(line) for line in text.split("\n  "))
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def json_line(value: object) -> str:
    """A value as a line of JSON; ASCII alone where the output's encoding lacks a character of it."""
    line = json.dumps(value, ensure_ascii=False, default=str)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, default=str)
    return line


def say(message: object, *, lines: bool = False) -> None:
    """A message to the user, on stderr."""
    click.echo(f"openxclip: {printable(str(message), lines=lines)}", err=True)
