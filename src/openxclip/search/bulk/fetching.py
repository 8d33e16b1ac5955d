"""Bring a video to this machine, and take the SHA-256 of the bytes that are decoded."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from openxclip.common.files import NO_STAMP, cannot_read, cannot_write, hash_file, stamp_of
from openxclip.common.sizes import format_bytes
from openxclip.errors import StoreError, VideoError
from openxclip.search.bulk.items import SourceItem
from openxclip.search.bulk.objects import PATIENCE_S, Objects, ambient_options
from openxclip.search.store_errors import SCHEMES

_FREE = 256 << 20  # bytes of the disk that are left to other programs
_CHECKED_EVERY = 64 << 20  # bytes of an object of unknown size, after which the free space is looked at again
_MAX_SUFFIX = 12
# What a StoreError says if other videos may be readable all the same; the credentials concern all of them
_OF_ONE_VIDEO = ("there is no", "access is denied", "changed while")


@dataclass(frozen=True)
class Fetched:
    """A video on this machine. It unpacks to its path and its SHA-256.

    Attributes:
        path: the file to decode: the video itself, or a temporary copy of an object.
        content: SHA-256 of the file, in hexadecimal.
        item: the source's item, with the size and time of this version of the file.
    """

    path: Path
    content: str
    item: SourceItem

    def __iter__(self) -> Iterator[Path | str]:
        return iter((self.path, self.content))

    def is_unchanged(self) -> bool:
        """Return whether the file is still the one that was hashed; look after it was decoded."""
        return "://" in self.item.path or stamp_of(self.path) == (self.item.size, self.item.modified)


@contextmanager
def fetched(item: SourceItem, folder: Path, *, patience: float = PATIENCE_S) -> Iterator[Fetched]:
    """Bring a video to this machine for the block.

    A local file stays where it is. It is read once to be hashed, so decoding it reads the system's cache, if memory
    suffices. An object is copied to a temporary file, hashed on the way, and deleted after the block.

    Args:
        item: the video.
        folder: folder for temporary files.
        patience: seconds to wait for an object store that doesn't answer.

    Raises:
        VideoError: there is no such file or object, it may not be read, or it changes meanwhile.
        StoreError: the store doesn't answer, or there is no room for the copy; another try may succeed.
    """
    if "://" not in item.path:
        yield _local(item)
        return
    copy: Path | None = None
    try:
        result = _copy(item, folder, patience)
        copy = result.path
        yield result
    finally:
        if copy is not None:
            with suppress(OSError):
                copy.unlink()


def _local(item: SourceItem) -> Fetched:
    path = Path(item.path)
    stamp = stamp_of(path)
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises errors)
        raise VideoError(item.path, "it is a folder: only files are indexed in bulk")
    try:
        content = hash_file(path)
    except (OSError, ValueError) as error:
        reason = cannot_read(path, error) if isinstance(error, OSError) else f"{path}: no file can have this name."
        raise VideoError(item.path, reason.removeprefix(f"{path}: ").removesuffix(".")) from error
    if stamp != stamp_of(path) or stamp == NO_STAMP:
        raise VideoError(item.path, "it is being written: try again when it is complete")
    return Fetched(path, content, replace(item, size=stamp.size, modified=stamp.modified))


def _copy(item: SourceItem, folder: Path, patience: float) -> Fetched:
    scheme, _, place = item.path.partition("://")
    bucket, _, key = place.partition("/")
    if scheme not in SCHEMES:
        raise VideoError(item.path, f"addresses that begin with {scheme}:// can't be read in bulk: copy the video")
    hashed, size = hashlib.sha256(), 0
    _check_room(folder, item, item.size)
    descriptor, copy = tempfile.mkstemp(dir=folder, prefix="video-", suffix=_suffix(key))
    try:
        with os.fdopen(descriptor, "wb") as file:
            checked = 0
            for chunk in open_bucket(f"{scheme}://{bucket}", patience).read_chunks(key):
                if not item.size and size >= checked:
                    _check_room(folder, item, _CHECKED_EVERY)
                    checked = size + _CHECKED_EVERY
                hashed.update(chunk)
                file.write(chunk)
                size += len(chunk)
    except BaseException as error:
        Path(copy).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreError(cannot_write(copy, error), may_pass=True) from error
        if isinstance(error, StoreError) and any(words in str(error) for words in _OF_ONE_VIDEO):
            raise VideoError(item.path, str(error).partition(": ")[2].removesuffix(".")) from error
        raise
    return Fetched(Path(copy), hashed.hexdigest(), replace(item, size=size))


def open_bucket(uri: str, patience: float = PATIENCE_S) -> Objects:
    """Return a bucket, `s3://bucket`; it is opened once for the same credentials and patience."""
    return _open_bucket(uri, patience, frozenset(ambient_options().items()))


@lru_cache(maxsize=16)
def _open_bucket(uri: str, patience: float, environment: frozenset[tuple[str, str]]) -> Objects:
    return Objects.open(uri, patience=patience)


def _check_room(folder: Path, item: SourceItem, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + _FREE:
        raise StoreError(
            f"{folder}: has {format_bytes(free)} free, but the copy of {item.path} needs {format_bytes(size)}, and "
            f"{format_bytes(_FREE)} stay free: make room, or set TMPDIR to another disk.",
            may_pass=True,
        )


def _suffix(name: str) -> str:
    """Return the suffix of an object's name, so that messages about the copy say the same."""
    suffix = PurePosixPath(name).suffix
    return suffix if len(suffix) <= _MAX_SUFFIX else ""
