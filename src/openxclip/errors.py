"""Exceptions whose messages tell a user what is wrong and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "CheckpointError",
    "ClusterError",
    "DecoderCrashError",
    "LeaseHeldError",
    "LeaseLostError",
    "MissingPackageError",
    "NotWrittenError",
    "OpenXCLIPError",
    "StoreError",
    "TooManyFailuresError",
    "VideoError",
    "VideoIndexError",
]


class OpenXCLIPError(Exception):
    """Base of the errors that openxclip raises for a user's input. The message can be shown to the user unchanged."""


class VideoError(OpenXCLIPError):
    """A video could not be read.

    Args:
        source: path, URL or description of the video.
        reason: why it could not be read, in words for a user and without the source's name.
    """

    def __init__(self, source: object, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = str(source)
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        return type(self), (self.source, self.reason)  # so that it can be pickled


class DecoderCrashError(VideoError):
    """Reading the video killed the process that decodes it; being killed at a time limit is a plain `VideoError`."""


class CheckpointError(OpenXCLIPError, OSError):
    """A model folder or checkpoint could not be found or read, or does not fit the model.

    It is also an OSError, because code written for transformers catches that. Its `errno` and `filename` are None.

    Args:
        message: what is wrong, and what to do.
    """

    def __init__(self, message: str) -> None:  # one argument, because OSError takes two as a number and a text
        super().__init__(message)


class VideoIndexError(OpenXCLIPError):
    """An index of videos could not be found, opened or written, or lacks a requested video."""


class StoreError(OpenXCLIPError):
    """An object store, or a folder used as one, can't be reached, read or written.

    Args:
        message: what is wrong, and what to do.
        may_pass: whether the same call may succeed later, because the store didn't answer or was overloaded.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass

    def __reduce__(self) -> tuple[type[StoreError], tuple[str], dict[str, bool]]:
        return type(self), (str(self),), {"may_pass": self.may_pass}


class LeaseHeldError(StoreError):
    """Another process holds the lease of an index, so this one may not write to it."""


class LeaseLostError(StoreError):
    """The lease of an index is no longer held by this process, so it must stop writing to it."""


class ClusterError(OpenXCLIPError):
    """A cluster can't be reached, or can't do the work."""


class TooManyFailuresError(OpenXCLIPError):
    """So many videos failed that a run was stopped. What was done is kept."""


class NotWrittenError(OpenXCLIPError):
    """The work is done, but its result could not be written to the file.

    Args:
        message: which file could not be written, and why.
        result: the result that the function would have returned.
    """

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[NotWrittenError], tuple[str, object]]:
        return type(self), (str(self), self.result)


class MissingPackageError(OpenXCLIPError, ImportError):
    """An optional package is needed, but is not installed or can't be imported.

    Args:
        purpose: what needs the package; the message begins with it.
        package: name of the package.
        extra: the extra of openxclip that installs it.
        reason: why the package can't be imported, if it is installed.
    """

    def __init__(self, purpose: str, package: str, extra: str, reason: str = "") -> None:
        state = f"installed but can't be imported ({reason})" if reason else "not installed"
        upgrade = "--upgrade " if reason else ""
        super().__init__(f"{purpose} needs {package}, which is {state}: pip install {upgrade}'openxclip[{extra}]'.")
        self.name = package
        self.purpose, self.extra, self.reason = purpose, extra, reason

    def __reduce__(self) -> tuple[type[MissingPackageError], tuple[str, str, str, str]]:
        return type(self), (self.purpose, str(self.name), self.extra, self.reason)


@contextmanager
def needs_package(purpose: str, package: str, extra: str) -> Iterator[None]:
    """Turn an ImportError in the block, which imports `package`, into a `MissingPackageError`.

    Args:
        purpose, package, extra: see `MissingPackageError`.
    """
    try:
        yield
    except ImportError as error:
        is_in_package = isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] == package
        is_missing = is_in_package and sys.modules.get(package) is None  # otherwise an old version lacks a module
        reason = "" if is_missing else (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingPackageError(purpose, package, extra, reason) from error
