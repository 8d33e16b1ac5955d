"""Atomic writing, locks and hashes of files, checks of paths before work begins, and messages about files."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from openxclip.errors import OpenXCLIPError


class Stamp(NamedTuple):
    """Size and modification time, which identify a version of a file or folder without reading it.

    Attributes:
        size: bytes of the file, or of all files directly in the folder.
        modified: nanoseconds since 1970; for a folder, the latest time of itself and these files.
    """

    size: int
    modified: int


NO_STAMP = Stamp(0, 0)


def stamp_of(path: str | Path) -> Stamp:
    """Return the stamp of a file or folder, or `NO_STAMP` if there is neither."""
    with suppress(OSError, ValueError):
        status = os.stat(path)  # noqa: PTH116 (Path refuses no names, but changes some)
        if not os.path.isdir(path):  # noqa: PTH112
            return Stamp(status.st_size, status.st_mtime_ns)
        with os.scandir(path) as entries:
            parts = [entry.stat() for entry in entries if entry.is_file()]
        return Stamp(sum(part.st_size for part in parts), max(part.st_mtime_ns for part in (status, *parts)))
    return NO_STAMP


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; OSError if it can't be read."""
    import hashlib  # here, because it loads OpenSSL, which `openxclip --help` doesn't need

    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def take_lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed or the process ends, and return whether that succeeded.

    False means that another process holds the lock. On systems and file systems without locks, it always succeeds.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # or a file system without locks
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def cache_folder(kind: str) -> Path:
    """Return this user's cache folder, which may not exist.

    If the user has no home folder and `XDG_CACHE_HOME` is not set, nothing can be created in the returned folder. So
    caching is skipped, as on a read-only disk.
    """
    for base in (os.environ.get("XDG_CACHE_HOME", ""), "~/.cache"):
        expanded = os.path.expanduser(base)  # noqa: PTH111 (Path.expanduser raises an error without a home)
        if os.path.isabs(expanded):  # noqa: PTH117 (the standard ignores relative paths)
            return Path(expanded) / "openxclip" / kind
    return Path(os.devnull) / "openxclip" / kind


def user_path(path: str | Path) -> Path:
    """Return the path with a leading `~` expanded, or unchanged if there is no such home folder."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises an error without a home)


def target_path(path: str | Path) -> Path:
    """Return the path of a file or folder to write, with a leading `~` expanded.

    Raises:
        ValueError: no file can have this name, or the home folder doesn't exist.
    """
    target = user_path(path)
    if str(target).startswith("~"):
        raise ValueError(f"{path}: there is no home folder for {target.parts[0]}: give the path without it.")
    try:
        os.lstat(target)
    except ValueError:
        raise ValueError(f"{str(path)!r}: a name can't contain a NUL character.") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"{path}: the name is too long for the file system: choose a shorter one.") from None
    return target


def resolve_target(path: str | Path) -> Path:
    """Return `target_path(path)`, or the target of the link that it is.

    Raises:
        ValueError: as `target_path`; or the path is a device, a pipe or a link to itself, or can't be looked up.
    """
    target = target_path(path)
    try:
        target = target.resolve() if target.is_symlink() else target
        is_special = target.exists() and not (target.is_file() or target.is_dir())
    except OSError as error:
        raise ValueError(cannot_write(path, error)) from error
    except RuntimeError as error:  # Python before 3.13 raises it for a link to itself
        raise ValueError(f"{path}: can't be written: it is a link to itself.") from error
    if is_special:
        raise ValueError(f"{path}: is a device or pipe, not a file or folder: choose another place.")
    return target


def checked_target(path: str | Path, *suffixes: str) -> Path:
    """Return the path of a file to write, after checking that it can be written.

    Args:
        path: path of the file, which may exist.
        suffixes: the name must end with one of these suffixes. By default, any name is allowed.

    Raises:
        ValueError: as `target_path`; or the name ends with none of these suffixes, the path is a folder, or no file
            can be created in its folder.
    """
    target = target_path(path)
    if suffixes and target.suffix.lower() not in suffixes:
        endings = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise ValueError(f"{path}: its name must end with {endings}, so that no other file is replaced.")
    if os.path.isdir(target):  # noqa: PTH112 (Path.is_dir raises an error without permission)
        raise ValueError(f"{path}: is a folder: give the name of a file.")
    folder = target.absolute().parent
    if not os.path.isdir(folder):  # noqa: PTH112
        raise ValueError(f"{path}: there is no folder {folder}: make it, or choose another.")
    _check_can_write(folder, path)
    return target


def checked_folder(path: str | Path, *, of_model: bool = False) -> Path:
    """Return the path of a folder to write into, after checking that it can be created and written.

    The check creates nothing. Missing parent folders are allowed.

    Args:
        path: path of the folder.
        of_model: whether the folder is for a model, which safetensors can load only from a path in UTF-8.

    Raises:
        ValueError: as `target_path`; or the path is a file, nothing can be written there, or no model could be loaded
            from it.
    """
    target = target_path(path)
    if of_model and not is_utf8(str(target.absolute())):
        raise ValueError(f"{path}: {MODEL_NOT_UTF8}")
    existing = target.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not os.path.isdir(existing):  # noqa: PTH112
        raise ValueError(f"{path}: can't be a folder, because {existing} is a file.")
    _check_can_write(existing, path)
    return target


def _check_can_write(folder: Path, path: str | Path) -> None:
    """Try to create a file, since permission bits mean little for root, on network drives and on read-only disks."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(cannot_write(path, error)) from error


def is_utf8(name: str) -> bool:
    """Return whether a file's name is valid UTF-8, so that it can be stored as text and still open the file."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


MODEL_NOT_UTF8 = "the path is not valid UTF-8, from which no model can be loaded: choose another name."
NOT_UTF8 = "its name is not valid UTF-8, so it can't be stored: rename it"


def reason_of(error: BaseException) -> str:
    """Return the system's reason in words, such as "No space left on device", without number and file name."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error).rstrip(".")


def without_nan(value: Any) -> Any:
    """Return a value for JSON, with None in place of NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return [without_nan(item) for item in value] if isinstance(value, list | tuple) else value


def cannot_read(path: str | Path, error: OSError) -> str:
    """Return one sentence about a file that can't be read."""
    if isinstance(error, PermissionError):
        return f"{path}: reading it is not permitted: check who may read the file and its folder."
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{path}: there is no such file: check the path."
    return f"{path}: can't be read: {reason_of(error)}."


def cannot_write(path: str | Path, error: OSError) -> str:
    """Return one sentence about a file or folder that can't be written."""
    return f"{path}: can't be written: {reason_of(error)}."


_CODE = re.compile(r"\(os error (\d+)\)")  # in exceptions of libraries written in Rust
_WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)})


def as_os_error(error: BaseException, path: str | Path) -> OSError | None:
    """Return the OSError behind a library's exception, with `path` as its file, or None.

    An OpenXCLIPError gives None, because its message already says what is wrong.

    Args:
        error: an OSError, or an exception that safetensors or LanceDB raises instead.
        path: the file that was read or written, which the error itself may not name.
    """
    if isinstance(error, OpenXCLIPError):
        return None
    if isinstance(error, OSError):
        if error.filename is None and error.errno in _WRITE_ERRORS:
            error.filename = str(path)
        return error
    code = _CODE.search(str(error))
    return None if code is None else OSError(int(code[1]), os.strerror(int(code[1])), str(path))


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to: the file replaces `path` after the block; an error deletes it."""
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:8]}.tmp")  # shortened: names have a maximum length
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # before the rename: after a power cut, the name must not stand for an empty file
        partial.replace(path)
    except Exception as error:
        system_error = as_os_error(error, path)
        if system_error is None:
            raise
        if system_error.filename == str(partial):
            system_error.filename = str(path)  # the name that the user knows
        if system_error is error:
            raise
        raise system_error from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path, *, last: str = "") -> Iterator[Path]:
    """Yield a temporary folder to write to: its content moves to `target` after the block; an error deletes it.

    Files of an existing `target` with other names stay there.

    Args:
        target: the folder, which may exist.
        last: name of the file that makes an existing `target` complete, and is moved last.
    """
    place = target if target.is_dir() else target.parent
    place.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=place, prefix=f".{target.name[:40]}-"))
    folder = scratch / "content"  # with the usual permissions: nobody else may read what mkdtemp makes
    try:
        folder.mkdir()
        yield folder
        if target.is_dir():
            for path in sorted(folder.iterdir(), key=lambda path: path.name == last):
                path.replace(target / path.name)
        else:
            folder.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
