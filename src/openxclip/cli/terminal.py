"""Text that comes from files (their names, what is written in them), fit for a terminal; and the standard streams."""

from __future__ import annotations

import codecs
import json
import os
import stat
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TextIO, cast

import click

from openxclip.common.files import without_nan

_MOST_NAMED = 10  # of many alike, so many are named
QUIET = "openxclip.quiet"  # in click's meta: --quiet was given


class OutputError(Exception):
    """Standard output can't be written.

    Attributes:
        is_closed: its reader has gone, as `head` does when it has its lines.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output can't be written ({error.strerror or error}).")
        self.is_closed = isinstance(error, BrokenPipeError)


class Bar(Protocol):
    """A bar of progress in the last line of a terminal."""

    def make_room(self, write: Callable[[], int], *, ends_line: bool) -> int:
        """Call `write` while the bar isn't shown; draw it again if the text ends its line."""


_bar: Bar | None = None  # at most one is shown


def set_bar(bar: Bar | None) -> None:
    """From now on, what is written to the terminal makes this bar move out of the way."""
    global _bar
    _bar = bar


class _Stream:
    """A text stream with other errors.

    It hides `buffer`, because click would write to that directly where the encoding is ASCII.

    Args:
        stream: what is written to.
        is_beneath: it draws the bar of progress itself; what is written to another makes room.
    """

    def __init__(self, stream: TextIO, *, is_beneath: bool = False) -> None:
        self._stream, self._is_beneath = stream, is_beneath

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _write(self, text: str) -> int:
        bar = _bar
        if bar is None or self._is_beneath or not text or not self._stream.isatty():
            return self._stream.write(text)

        def write() -> int:
            written = self._stream.write(text)
            self._stream.flush()  # before the bar is drawn, by another stream
            return written

        return bar.make_room(write, ends_line=text.endswith("\n"))


class _Output(_Stream):
    """Standard output: its errors are told from those of other files, and are raised once."""

    _failed = False

    def write(self, text: str) -> int:
        try:
            return self._write(text)
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
            return self._write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


def _names_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
    """For what an encoding lacks: the bytes of a file's name that are no text, escapes for other characters."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error("openxclip.names", _names_or_escapes)
_ERRORS = {"stdin": "surrogateescape", "stdout": "openxclip.names", "stderr": "backslashreplace"}


def prepare_streams() -> None:
    """Make the standard streams safe to use, whatever the caller has done with them.

    A closed one (`>&-`) becomes the null device, so that no file gets its number. Characters that an encoding lacks are
    written as escapes. Names of files that are not text can be read, and written to standard output as their bytes, so
    that they open the files again. Errors are those of `_Output` and `_Messages`.
    """
    while (unused := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(unused)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)  # a test's stream may lack it
        if reconfigure is not None:
            reconfigure(errors=_ERRORS[name])
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
    """A value as a line of JSON; ASCII alone where the output's encoding lacks a character of it.

    A number that is not finite, which JSON lacks, is null: here it stands for what isn't known, as a duration.
    """
    value = without_nan(value)
    line = json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, default=str, allow_nan=False)
    return line


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number of things: 1 video, 2 videos; 1 class, 2 classes."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def say_first(messages: Sequence[str], *, rest: str) -> None:
    """The first ten messages, and how many more there are; `rest` says where these are."""
    for message in messages[:_MOST_NAMED]:
        say(message)
    if len(messages) > _MOST_NAMED:
        say(f"and {len(messages) - _MOST_NAMED} more{rest}")


def beneath(stream: TextIO) -> TextIO:
    """The same stream for the bar itself, which needn't make room for what it writes."""
    return cast(TextIO, _Messages(getattr(stream, "_stream", stream), is_beneath=True))


def can_show_bar() -> bool:
    """Whether stderr is a terminal on which a line can be erased."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def is_pipe(stream: TextIO) -> bool:
    """Whether another program reads what is written there."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def is_quiet() -> bool:
    """Whether the user asked for --quiet."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(QUIET))


def note(message: object) -> None:
    """A message that --quiet leaves out."""
    if not is_quiet():
        say(f"note: {message}")


def say(message: object, *, lines: bool = False) -> None:
    """A message to the user, on stderr."""
    click.echo(f"openxclip: {printable(str(message), lines=lines)}", err=True)
