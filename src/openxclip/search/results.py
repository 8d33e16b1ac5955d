"""What comes out of an index, and of adding to it."""

from __future__ import annotations

from dataclasses import dataclass

from openxclip.errors import VideoError


@dataclass(frozen=True)
class Hit:
    """A window that was found.

    Attributes:
        path: of its video.
        start, end: of the window, in seconds.
        duration: of the video, in seconds.
        score: by which hits are in order: the cosine of the video and the text with its prompts, where it was reranked;
            else `similarity`.
        similarity: the cosine of the video's features and the query's, without prompts.
        reranked: whether `score` has the prompts in it.
    """

    path: str
    start: float
    end: float
    duration: float
    score: float
    similarity: float
    reranked: bool


@dataclass(frozen=True)
class Added:
    """What came of some files.

    Attributes:
        added: that are in the index now and weren't, or were with another content.
        unchanged: that are in it as they were.
        removed: that are in it no longer.
        errors: of those that can't be read.
    """

    added: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    errors: tuple[VideoError, ...] = ()


def clock(seconds: float) -> str:
    """A time in a video: 1:02.5, or 1:00:02.5 from an hour on."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"
