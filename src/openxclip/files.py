"""Files that appear whole or not at all, by what a changed one is known, and where what can be made anew is kept."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """By what another version of a file or folder is known without reading it.

    Attributes:
        size: in bytes; of a folder, of the files that lie in it.
        modified: when it was changed, in nanoseconds since 1970; of a folder, the last of itself and these files.
    """

    size: int
    modified: int


NO_STAMP = Stamp(0, 0)


def stamp_of(path: str | Path) -> Stamp:
    """The stamp of a file or folder; `NO_STAMP` of what is neither."""
    with suppress(OSError, ValueError):
        status = os.stat(path)  # noqa: PTH116 (Path refuses no names, but changes some)
        if not os.path.isdir(path):  # noqa: PTH112
            return Stamp(status.st_size, status.st_mtime_ns)
        with os.scandir(path) as entries:
            parts = [entry.stat() for entry in entries if entry.is_file()]
        return Stamp(sum(part.st_size for part in parts), max(part.st_mtime_ns for part in (status, *parts)))
    return NO_STAMP


def cache_folder(kind: str) -> Path:
    """Where what can be made anew at any time is kept for this user; it may not be there.

    Where the user has no home folder and `XDG_CACHE_HOME` is not set, it is a place in which nothing can be made, so
    that a cache is left out as on a read-only disk.
    """
    for base in (os.environ.get("XDG_CACHE_HOME", ""), "~/.cache"):
        expanded = os.path.expanduser(base)  # noqa: PTH111 (Path's raises an error without a home)
        if os.path.isabs(expanded):  # noqa: PTH117 (the standard says to ignore others)
            return Path(expanded) / "openxclip" / kind
    return Path(os.devnull) / "openxclip" / kind


def user_path(path: str | Path) -> Path:
    """The path, with the home folder for a leading `~`; without such a home folder, as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path's raises an error without a home)


def target_path(path: str | Path) -> Path:
    """The path of a file or folder that is to be written, with the home folder for a leading `~`.

    Raises:
        ValueError: no file can have this name, or there is no such home folder.
    """
    target = user_path(path)
    if target.parts[:1] and target.parts[0].startswith("~"):
        raise ValueError(f"{path}: there is no home folder for {target.parts[0]}: give the path without it.")
    try:
        os.lstat(target)
    except ValueError:
        raise ValueError(f"{str(path)!r}: a name can't contain a NUL character.") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"{path}: the name is too long for the file system: choose a shorter one.") from None
    return target


def checked_target(path: str | Path, *suffixes: str) -> Path:
    """The path of a file that can be written to, before anything is done for it.

    Raises:
        ValueError: as `target_path`; or its name ends with none of these suffixes, or there is no such folder.
    """
    target = target_path(path)
    if target.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: its name must end with {suffixes[0]}, so that no other file is replaced.")
    if not target.absolute().parent.is_dir():
        raise ValueError(f"{path}: there is no such folder to write it to.")
    return target


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Where to write instead: what is written there takes the place of `path`, or is gone if there is an error."""
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:8]}")  # cut, or it may be too long a name
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # before it takes its name: a name for an empty file would be worse than none
        partial.replace(path)
    except OSError as error:
        if error.filename == str(partial):
            error.filename = str(path)  # by which the user calls it
        raise
    finally:
        partial.unlink(missing_ok=True)
