"""Write to the standard streams, safely for a terminal and beside a progress bar."""

from __future__ import annotations

import codecs
import json
import os
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TextIO, TypeVar, cast

import click

from openxclip.common.files import without_nan

Command = TypeVar("Command", bound=Callable[..., Any])

_MAX_MESSAGES = 10  # messages of one kind to print


class OutputError(Exception):
    """Standard output can't be written.

    Attributes:
        is_closed: the reader closed the pipe, as `head` does.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output can't be written ({error.strerror or error}).")
        self.is_closed = isinstance(error, BrokenPipeError)


# Hides the visible progress bar while text is written; called with whether the text ends with a line end.
_hide_bar: Callable[[bool], AbstractContextManager[None]] | None = None


def set_bar(hide: Callable[[bool], AbstractContextManager[None]] | None) -> None:
    """Set the function that hides the visible progress bar; None if there is no bar."""
    global _hide_bar
    _hide_bar = hide


class _Stream:
    """A text stream that makes room for the progress bar.

    It hides `buffer`, because click writes to it directly if the encoding is ASCII.

    Args:
        stream: the underlying stream.
        draws_bar: whether the progress bar itself is written to this stream.
    """

    def __init__(self, stream: TextIO, *, draws_bar: bool = False) -> None:
        self._stream, self._draws_bar = stream, draws_bar

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _write(self, text: str) -> int:
        hide = _hide_bar
        if hide is None or self._draws_bar or not text or not self._stream.isatty():
            return self._stream.write(text)
        with hide(text.endswith("\n")):
            written = self._stream.write(text)
            self._stream.flush()  # before another stream draws the bar
            return written


class _Output(_Stream):
    """Standard output. Its errors are raised once, as `OutputError`."""

    _failed = False

    def write(self, text: str) -> int:
        try:
            return self._write(text)
        except OSError as error:
            raise self._failure(error) from error

    def flush(self) -> None:
        if self._failed:
            return  # Python flushes again at exit and would print a traceback
        try:
            self._stream.flush()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> OutputError:
        self._failed = True
        return OutputError(error)


class _Messages(_Stream):
    """Standard error. A message that can't be written is dropped, and the work continues."""

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


def _encode_or_escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Restore the undecodable bytes of a file name, and escape other characters that the encoding lacks."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error("openxclip.names", _encode_or_escape)
_ERRORS = {"stdin": "surrogateescape", "stdout": "openxclip.names", "stderr": "backslashreplace"}


def prepare_streams() -> None:
    """Make the standard streams safe to use in any environment.

    A closed stream (`>&-`) becomes the null device, so that no file gets its descriptor. Characters that the encoding
    lacks are written as escapes. File names that are not text are read and written as their bytes, so that the output
    can open the files again. `_Output` and `_Messages` handle errors.
    """
    descriptor = 0
    while descriptor <= 2:  # open() takes the lowest free descriptor, so this fills the closed ones among 0 to 2
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)  # streams of tests may lack it
        if reconfigure is not None:
            reconfigure(errors=_ERRORS[name])
    sys.stdout = cast(TextIO, _Output(sys.stdout))
    sys.stderr = cast(TextIO, _Messages(sys.stderr))


def printable(text: str, *, lines: bool = False) -> str:
    """Escape control characters in a text, as in a Python literal, so that a terminal doesn't act on them.

    Args:
        text: any text.
        lines: whether to keep line ends that are followed by two spaces, as in openxclip's own lists.
    """
    if text.isprintable():
        return text
    if lines:
        return "\n  ".join(printable(line) for line in text.split("\n  "))
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def json_line(value: object) -> str:
    """Return a value as one line of JSON, in ASCII if the encoding of the output lacks one of its characters.

    NaN and infinity, which stand for unknown values such as a duration, become null.
    """
    value = without_nan(value)
    line = json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, default=str, allow_nan=False)
    return line


def say_first(messages: Sequence[str], *, rest: str) -> None:
    """Print the first ten messages and how many more there are; `rest` ends that line and says where to find them."""
    for message in messages[:_MAX_MESSAGES]:
        say(message)
    if len(messages) > _MAX_MESSAGES:
        say(f"and {len(messages) - _MAX_MESSAGES} more{rest}")


def bar_stream(stream: TextIO) -> TextIO:
    """Return a stream for the bar itself, which makes no room for the bar."""
    return cast(TextIO, _Messages(getattr(stream, "_stream", stream), draws_bar=True))


def can_show_bar() -> bool:
    """Return whether stderr is a terminal that can erase lines."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def is_pipe(stream: TextIO) -> bool:
    """Return whether a stream is a pipe or socket."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def kept_flag(*names: str, text: str) -> Callable[[Command], Command]:
    """Return a flag with this help text. It isn't passed to the command: `is_set` returns its value."""

    def keep(context: click.Context, flag: click.Parameter, value: bool) -> None:
        context.meta[f"openxclip.{flag.name}"] = value

    return click.option(*names, is_flag=True, expose_value=False, callback=keep, help=text)


def is_set(flag: str) -> bool:
    """Return whether the user passed a `kept_flag`, such as "quiet"."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(f"openxclip.{flag}"))


def note(message: object) -> None:
    """Print a message that --quiet hides."""
    if not is_set("quiet"):
        say(f"note: {message}")


def say(message: object, *, lines: bool = False) -> None:
    """Print a message to stderr; `lines` is as for `printable`."""
    click.echo(f"openxclip: {printable(str(message), lines=lines)}", err=True)
