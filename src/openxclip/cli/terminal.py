"""Text that comes from files (their names, what is written in them), fit for a terminal."""

from __future__ import annotations

import json

import click


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
    """A value as a line of JSON; ASCII alone where a file's name or text can't be written as UTF-8."""
    line = json.dumps(value, ensure_ascii=False, default=str)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(value, default=str)
    return line


def say(message: object, *, lines: bool = False) -> None:
    """A message to the user, on stderr."""
    click.echo(f"openxclip: {printable(str(message), lines=lines)}", err=True)
