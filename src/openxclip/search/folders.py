"""The folder of an index on this machine: whether it is free, and the lock of its writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openxclip.common.files import take_lock
from openxclip.errors import VideoIndexError

_LOCK = "writing.lock"
_OWN_FILES = (_LOCK, "_lease.json", "_probe-", "_receipts", ".objects.lock")  # by which writers of an index coordinate


def is_vacant(folder: Path) -> bool:
    """Return whether a folder doesn't exist, or holds nothing but the files by which writers of an index coordinate.

    Raises:
        VideoIndexError: it is a file, or can't be read.
    """
    try:
        if not folder.exists():
            return True
        if folder.is_dir():
            return all(path.name.startswith(_OWN_FILES) for path in folder.iterdir())
    except OSError as error:
        raise VideoIndexError(f"{folder}: can't be read: {error.strerror or error}.") from error
    raise VideoIndexError(f"{folder}: is a file, not the folder of an index.")


@contextmanager
def writing_lock(folder: Path | None, uri: str) -> Iterator[None]:
    """Lock an index against other writers on this machine; an index in an object store has no folder and no lock.

    Raises:
        VideoIndexError: another process is writing.
    """
    if folder is None:
        yield
        return
    try:
        file = (folder / _LOCK).open("w")
    except OSError as error:
        raise VideoIndexError(f"{uri}: the index can't be written: {error.strerror or error}.") from error
    with file:
        if not take_lock(file):
            raise VideoIndexError(f"{uri}: another process is writing to the index: try again when it is done.")
        yield
