"""Resolve the paths of indexed videos, detect changed and missing files, and decide which may be removed."""

from __future__ import annotations

import bisect
import fnmatch
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from openxclip.common.files import NO_STAMP, hash_file, stamp_of, target_path
from openxclip.search.schema import FileStamp
from openxclip.search.store_errors import SCHEMES
from openxclip.video.streams import is_pipe

_MANY, _MANY_SHARE = 10, 0.1  # removing more missing files than this at once needs permission
_WHOLE_FOLDER = 2  # removing all files of a folder needs permission if it has at least this many


def absolute_path(path: Any) -> str:
    """Return the path under which an index stores a video.

    Raises:
        TypeError: the value isn't a str or Path.
        ValueError: the path is a pipe.
    """
    if not isinstance(path, str | Path):
        raise TypeError(f"a {type(path).__name__} is not a path of a video: give a str or a Path.")
    reads_once = str(path).startswith(("/dev/", "/proc/"))
    with suppress(OSError, ValueError):  # the attempt to read the path reports the error
        reads_once = reads_once or is_pipe(Path(path))
    if reads_once:
        raise ValueError(f"{path}: is a pipe, which can't be read again later: save the video to a file first.")
    return str(path) if "://" in str(path) else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def absolute_target(place: str | Path) -> str:
    """Return the place of an index or a table for processes with other current folders; an address stays as it is.

    Raises:
        ValueError: see `openxclip.common.files.target_path`.
    """
    return str(place) if "://" in str(place) else str(target_path(place).absolute())


def is_in_store(path: str) -> bool:
    """Return whether a path is the address of an object in an object store."""
    return path.partition("://")[0] in SCHEMES and "://" in path


def is_missing(path: str) -> bool:
    """Return whether a file certainly doesn't exist; False for a URL and for a file that can't be examined."""
    if "://" in path:
        return False
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def file_stamp(path: str) -> FileStamp:
    """Return the current stamp of a file."""
    size, modified = stamp_of(path)
    changed = inode = 0
    if (size, modified) != NO_STAMP:
        with suppress(OSError, ValueError):
            status = os.stat(path)  # noqa: PTH116
            changed, inode = status.st_ctime_ns, status.st_ino & (2**63 - 1)  # the column has 63 bits
    return FileStamp(size, modified, changed, inode)


def content_hash(path: str) -> str:
    """Return the SHA-256 of a regular file in hexadecimal; "" for anything else."""
    with suppress(OSError, ValueError):
        if os.path.isfile(path):  # noqa: PTH113
            return hash_file(Path(path))
    return ""


def matching_paths(name: str, known: Sequence[str]) -> list[str]:
    """Return the known paths that a name refers to: the path itself and all below it, or else the paths it matches.

    Args:
        name: an absolute path, or a pattern with `*`, `?` or `[`.
        known: sorted paths.
    """
    position = bisect.bisect_left(known, name)
    exact = [path for path in known[position : position + 1] if path == name]
    literal = exact + _paths_below(name, known)
    if literal or not any(wildcard in name for wildcard in "*?["):
        return literal
    return fnmatch.filter(known, name)


def _paths_below(folder: str, known: Sequence[str]) -> list[str]:
    """Return the paths below a folder, out of sorted paths."""
    start = f"{folder.rstrip(os.sep)}{os.sep}"
    first = bisect.bisect_left(known, start)
    end = bisect.bisect_left(known, start[:-1] + chr(ord(os.sep) + 1), lo=first)
    return list(known[first:end])


def may_remove(missing: Collection[str], known: Collection[str], folders: Sequence[str], allowed: int | None) -> bool:
    """Return whether missing files may be removed from the index: False if a disk seems to be unmounted.

    Args:
        missing: paths of missing files.
        known: all paths of the index.
        folders: folders that the user named.
        allowed: number of files that may be removed without these checks.
    """
    if allowed is not None:
        return len(missing) <= allowed
    gone, paths = set(missing), sorted(set(known))
    groups = [paths, *(_paths_below(folder, paths) for folder in folders)]
    is_emptied = any(len(group) >= _WHOLE_FOLDER and gone.issuperset(group) for group in groups)
    is_many = len(gone) > _MANY and len(gone) > _MANY_SHARE * len(paths)
    return not (is_emptied or is_many)
