"""Which videos of an index are meant by a name, and when files are missing for another reason than their removal."""

from __future__ import annotations

import bisect
import fnmatch
import os
from collections.abc import Sequence

_MANY, _MANY_SHARE = 10, 0.1
_FEWEST = 2  # files of a folder that are not all removed at once


def matching(name: str, known: Sequence[str]) -> list[str]:
    """The paths that a name means: itself, those below it if it is a folder, or else those that fit it as a pattern.

    Args:
        name: an absolute path or a pattern.
        known: paths, sorted.
    """
    place = bisect.bisect_left(known, name)
    itself = [name] if known[place : place + 1] == [name] else []
    return itself + below(name, known) or (fnmatch.filter(known, name) if any(sign in name for sign in "*?[") else [])


def below(folder: str, known: Sequence[str]) -> list[str]:
    """The paths below a folder, of sorted ones."""
    start = f"{folder.rstrip(os.sep)}{os.sep}"
    first = bisect.bisect_left(known, start)
    end = bisect.bisect_left(known, start[:-1] + chr(ord(os.sep) + 1), lo=first)
    return list(known[first:end])


def held_back(
    missing: Sequence[str], known: Sequence[str], folders: Sequence[str], allowed: int | None
) -> Sequence[str]:
    """Missing files that must not be removed, for a disk may not be mounted; all of them or none.

    Args:
        missing: paths.
        known: all paths of the index.
        folders: that the user named.
        allowed: how many may be removed in any case.
    """
    if allowed is not None:
        return missing if len(missing) > allowed else ()
    gone, paths = set(missing), sorted(set(known))
    groups = [paths, *(below(folder, paths) for folder in folders)]
    is_emptied = any(len(group) >= _FEWEST and gone.issuperset(group) for group in groups)
    is_much = len(gone) > _MANY and len(gone) > _MANY_SHARE * len(paths)
    return missing if is_emptied or is_much else ()
