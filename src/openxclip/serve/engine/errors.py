"""Errors of the engine, which the routes turn into answers."""

from __future__ import annotations

from openxclip.errors import CheckpointError, OpenXCLIPError, VideoError, VideoIndexError


class QueueFullError(OpenXCLIPError):
    """Too many requests wait already (429).

    Args:
        retry_after: seconds after which there is probably room, a whole number of 1 or more.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests are waiting: try again in {retry_after} s.")
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[QueueFullError], tuple[int]]:
        return type(self), (self.retry_after,)


class ModelGoneError(OpenXCLIPError):
    """The process was killed while this request ran in it (503). A new process serves the next request."""


class EngineStoppedError(OpenXCLIPError):
    """The server is stopping and takes no more requests (503)."""


class ModelNotLoadedError(CheckpointError):
    """The model can't be loaded (503). The message says why.

    Args:
        message: what is wrong, and what to do.
        retry_after: seconds after which the next request tries to load it again.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[ModelNotLoadedError], tuple[str, int]]:
        return type(self), (str(self), self.retry_after)


class VideoTooLongError(VideoError):
    """The video lasts longer than the server allows (422)."""


class NoIndexError(VideoIndexError):
    """There is no index yet (404)."""


class WrongIndexError(VideoIndexError):
    """The index can't be searched with the server's model (409)."""


class JobNotFoundError(OpenXCLIPError):
    """There is no job with this id (404)."""


class DataFolderInUseError(OpenXCLIPError):
    """Another server uses the data folder."""
