"""Files that appear whole or not at all, by what a changed one is known, and where what can be made anew is kept."""

from __future__ import annotations

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
    """Where what can be made anew at any time is kept for this user; it may not be there."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (Path's needs a home)
    return Path(base) / "openxclip" / kind


def checked_target(path: str | Path, *suffixes: str) -> Path:
    """The path of a file that can be written to, before anything is done for it.

    Raises:
        ValueError: its name ends with none of these suffixes, or there is no such folder.
    """
    target = Path(path).expanduser()
    if target.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: its name must end with {suffixes[0]}, so that no other file is replaced.")
    if not target.absolute().parent.is_dir():
        raise ValueError(f"{path}: there is no such folder to write it to.")
    return target


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Where to write instead: what is written there takes the place of `path`, or is gone if there is an error."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
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
