"""What can go wrong for a user, as exceptions that say what was wrong and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class OpenXCLIPError(Exception):
    """Base of every error that openxclip raises for a user's input; its text is meant to be shown as it is."""


class VideoError(OpenXCLIPError):
    """A video could not be read.

    Args:
        source: the path, URL or description of what was to be read.
        reason: why it could not be, in words for a user, without the source's name.
    """

    def __init__(self, source: object, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = str(source)
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        return type(self), (self.source, self.reason)  # so that it survives a trip between processes


class CheckpointError(OpenXCLIPError, OSError):
    """A model folder or checkpoint could not be found, read, or does not fit the model.

    It is an OSError too, because that is what code written for transformers catches. Its `errno` and `filename` are
    None: the message says it all.

    Args:
        message: what is wrong, and what to do.
    """

    def __init__(self, message: str) -> None:  # one argument: OSError would take two for a number and a text
        super().__init__(message)


class VideoIndexError(OpenXCLIPError):
    """An index of videos could not be found, opened or written, or hasn't what was asked of it."""


class NotWrittenError(OpenXCLIPError):
    """The work is done, but its result could not be written to the file that was asked for.

    Args:
        message: what could not be written, and why.
        result: what the function would have returned.
    """

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[NotWrittenError], tuple[str, object]]:
        return type(self), (str(self), self.result)


class MissingPackageError(OpenXCLIPError, ImportError):
    """An optional package is needed, and is not installed or can't be imported.

    Args:
        purpose: what it is needed for; the message begins with it.
        package: its name.
        extra: the extra of openxclip that installs it.
        reason: why it can't be imported, if it is installed.
    """

    def __init__(self, purpose: str, package: str, extra: str, reason: str = "") -> None:
        if reason:
            what = f"which is installed but can't be imported ({reason}): pip install --upgrade 'openxclip[{extra}]'."
        else:
            what = f"which is not installed: pip install 'openxclip[{extra}]'."
        super().__init__(f"{purpose} needs {package}, {what}")
        self.name = package
        self.purpose, self.extra, self.reason = purpose, extra, reason

    def __reduce__(self) -> tuple[type[MissingPackageError], tuple[str, str, str, str]]:
        return type(self), (self.purpose, str(self.name), self.extra, self.reason)


@contextmanager
def needs_package(purpose: str, package: str, extra: str) -> Iterator[None]:
    """Turn an ImportError of the block, which imports `package`, into a `MissingPackageError`.

    Args:
        purpose, package, extra: see `MissingPackageError`.
    """
    try:
        yield
    except ImportError as error:
        is_it = isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] == package
        is_missing = is_it and sys.modules.get(package) is None  # else a module of an older version is missing
        reason = "" if is_missing else (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingPackageError(purpose, package, extra, reason) from error
