"""What can go wrong for a user, as exceptions that say what was wrong and what to do."""

from __future__ import annotations


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


class CheckpointError(OpenXCLIPError):
    """A model folder or checkpoint could not be found, read, or does not fit the model."""


class VideoIndexError(OpenXCLIPError):
    """An index of videos could not be found, opened or written, or hasn't what was asked of it."""
