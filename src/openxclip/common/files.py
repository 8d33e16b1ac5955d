"""Files that appear whole or not at all, by what a changed one is known, and where what can be made anew is kept."""

from __future__ import annotations

import errno
import math
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from openxclip.errors import OpenXCLIPError


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
    """The path of a file that can be written, checked before any work is done for it.

    Args:
        path: of the file; one that is there is replaced.
        suffixes: the name must end with one of these; if none are given, any name is allowed.

    Raises:
        ValueError: as `target_path`; or its name ends with none of these suffixes, it is a folder, or no file can be
            made in its folder.
    """
    target = target_path(path)
    if suffixes and target.suffix.lower() not in suffixes:
        endings = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise ValueError(f"{path}: its name must end with {endings}, so that no other file is replaced.")
    if os.path.isdir(target):  # noqa: PTH112 (Path's raises an error where it may not look)
        raise ValueError(f"{path}: is a folder: give the name of a file.")
    folder = target.absolute().parent
    if not os.path.isdir(folder):  # noqa: PTH112
        raise ValueError(f"{path}: there is no folder {folder}: make it, or choose another.")
    _check_can_write(folder, path)
    return target


def checked_folder(path: str | Path, *, of_model: bool = False) -> Path:
    """The path of a folder that can be made and written into, checked before any work is done for it.

    Nothing is left there by the check; folders above it that are missing will be made with it.

    Args:
        path: of the folder.
        of_model: it is for a model, which safetensors can load only from a path in UTF-8.

    Raises:
        ValueError: as `target_path`; or it is a file, or nothing can be written there; or a model couldn't be loaded.
    """
    target = target_path(path)
    if of_model and not is_utf8(str(target.absolute())):
        raise ValueError(f"{path}: {MODEL_NOT_UTF8}")
    there = target.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not os.path.isdir(there):  # noqa: PTH112
        raise ValueError(f"{path}: can't be a folder, because {there} is a file.")
    _check_can_write(there, path)
    return target


def _check_can_write(folder: Path, path: str | Path) -> None:
    """Only trying tells: permissions mean something else on network drives, for root and on read-only disks."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{path}: can't be written: {reason_of(error)}.") from error


def is_utf8(name: str) -> bool:
    """Whether a file's name is UTF-8, so that a file or database can store it as text and it opens the file again."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


MODEL_NOT_UTF8 = "the path is not valid UTF-8, from which no model can be loaded: choose another name."
NOT_UTF8 = "its name is not valid UTF-8, so it can't be stored: rename it"


def reason_of(error: BaseException) -> str:
    """Why the system refused, in words: "No space left on device", without number and file name."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error).rstrip(".")


def without_nan(value: Any) -> Any:
    """A value for JSON, with None for numbers that are not finite: JSON has none of these."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    return [without_nan(one) for one in value] if isinstance(value, list | tuple) else value


def cannot_read(path: str | Path, error: OSError) -> str:
    """One sentence about a file that the system doesn't give."""
    if isinstance(error, PermissionError):
        return f"{path}: reading it is not permitted: check who may read the file and its folder."
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{path}: there is no such file: check the path."
    return f"{path}: can't be read: {reason_of(error)}."


def cannot_write(path: str | Path, error: OSError) -> str:
    """One sentence about a file or folder that the system doesn't let us write."""
    return f"{path}: can't be written: {reason_of(error)}."


_CODE = re.compile(r"\(os error (\d+)\)")  # as libraries written in Rust put it into their own exceptions
_OF_WRITING = frozenset({errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)})


def as_os_error(error: BaseException, path: str | Path) -> OSError | None:
    """The OSError behind the exception of a library, with `path` as its file; None if there is none.

    An error of openxclip is none, for it says already what is wrong.

    Args:
        error: an OSError, or what safetensors and LanceDB raise instead.
        path: the file that was written or read, which the error itself may not name.
    """
    if isinstance(error, OpenXCLIPError):
        return None
    if isinstance(error, OSError):
        if error.filename is None and error.errno in _OF_WRITING:
            error.filename = str(path)
        return error
    code = _CODE.search(str(error))
    return None if code is None else OSError(int(code[1]), os.strerror(int(code[1])), str(path))


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Where to write instead: what is written there takes the place of `path`, or is gone if there is an error."""
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:8]}")  # cut, or it may be too long a name
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # before it takes its name: a name for an empty file would be worse than none
        partial.replace(path)
    except Exception as error:
        found = as_os_error(error, path)
        if found is None:
            raise
        if found.filename == str(partial):
            found.filename = str(path)  # by which the user calls it
        if found is error:
            raise
        raise found from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
