"""Check and build SQL conditions for LanceDB, and shorten its error messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

COLUMNS = ("path", "start", "end", "duration", "size", "modified")


def invalid_condition(where: str, reason: str, metadata: Sequence[str] = ()) -> ValueError:
    """Return the error for an invalid condition.

    Args:
        where: the condition.
        reason: what is wrong.
        metadata: names of the index's metadata columns.
    """
    columns = ", ".join((*COLUMNS, *metadata))
    return ValueError(
        f"where={where!r} can't be understood ({reason}): give an SQL condition on {columns}, such as "
        "\"duration < 60 and path like '%cam2%'\"."
    )


def in_parentheses(where: str) -> str:
    """Put a condition into parentheses, because LanceDB ignores text after a complete condition.

    Raises:
        ValueError: the condition is empty, or its parentheses don't match.
    """
    outside_strings = "".join(where.split("'")[::2])
    depth = 0
    for character in outside_strings:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
    if not where.strip() or depth:
        raise invalid_condition(where, "its parentheses don't match" if depth else "it is empty")
    return f"({where})"


def columns_used(where: str, metadata: Sequence[str] = ()) -> set[str]:
    """Return the columns that a condition names, in lower case.

    Args:
        where: the condition.
        metadata: names of the index's metadata columns.
    """
    outside_strings = re.sub(r"'[^']*'", "''", where).lower()
    words = {*re.findall(r"[^\W\d]\w*", outside_strings), *re.findall(r"`([^`]*)`", outside_strings)}
    return words & {*COLUMNS, *(name.lower() for name in metadata)}


def video_in(ids: Iterable[int]) -> str:
    """Return the condition that a window belongs to one of these videos."""
    return f"video IN ({', '.join(map(str, ids))})"


def video_not_in(ids: Iterable[int]) -> str | None:
    """Return the condition that a window belongs to none of these videos; None without videos."""
    listed = ", ".join(map(str, ids))
    return f"video NOT IN ({listed})" if listed else None


def path_in(paths: Iterable[str]) -> str:
    """Return the condition that a video has one of these paths."""
    return f"path IN ({', '.join(_quoted(path) for path in paths)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without the source locations that LanceDB adds."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    line = re.sub(r",? */\S+\.rs:\d+.*| \(os error \d+\)", "", line)
    return line.removeprefix("lance error: ")[:300].removesuffix(".")
