"""What is asked of LanceDB, in its SQL, and its errors in words."""

from __future__ import annotations

import re
from collections.abc import Iterable

COLUMNS = ("path", "start", "end", "duration", "size", "modified")


def why_not(where: str | None, error: Exception) -> Exception:
    """What to say of a query that failed."""
    return error if where is None else not_understood(where, first_line(error))


def not_understood(where: str, why: str) -> ValueError:
    """That a condition isn't one, and what one is."""
    return ValueError(
        f"where={where!r} can't be understood ({why}): it is a condition of SQL on {', '.join(COLUMNS)}, such as "
        "\"duration < 60 and path like '%cam2%'\"."
    )


def whole(where: str) -> str:
    """The condition so that all of it counts: LanceDB reads one, and passes over what follows it."""
    outside = "".join(where.split("'")[::2])  # of texts
    depth = 0
    for sign in outside:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            break
    if not where.strip() or depth:
        raise not_understood(where, "its brackets don't match" if depth else "it is empty")
    return f"({where})"


def columns_named(where: str) -> set[str]:
    """The columns that a condition names, in lower case."""
    outside = re.sub(r"'[^']*'", "''", where)
    return {name.lower() for name in re.findall(r"[A-Za-z_]\w*", outside)} & {*COLUMNS}


def among(ids: Iterable[int]) -> str:
    """The condition that a window is of one of these videos."""
    return f"video IN ({', '.join(map(str, ids))})"


def not_among(ids: Iterable[int]) -> str | None:
    """The condition that a window is of none of these videos; None if there are none."""
    listed = ", ".join(map(str, ids))
    return f"video NOT IN ({listed})" if listed else None


def first_line(error: BaseException) -> str:
    """Its text, without the places in LanceDB's code that it names; of a failure of the system, only what failed."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    line = re.sub(r",? */\S+\.rs:\d+.*| \(os error \d+\)", "", line)
    return line.removeprefix("lance error: ")[:300].removesuffix(".")
