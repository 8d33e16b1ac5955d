"""What comes out of an index, and of adding to it."""

from __future__ import annotations

from dataclasses import dataclass

from openxclip.errors import VideoError


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A moment that was found: neighbouring windows of one video, or one window; see `VideoIndex.search`.

    Attributes:
        path: of the video.
        start, end: of the moment, in seconds.
        best_start, best_end: of its best window, in seconds; `score` and `similarity` are this window's.
        windows: how many windows are in it.
        duration: of the video, in seconds.
        score: the text's share against neutral texts, from 0 to 1, as in `openxclip.classify`: above 0.5 the text fits
            better than all of them together. With prompts if `reranked`. None in a search by video.
        similarity: the cosine that orders hits: with prompts if `reranked`, else of the plain features.
        reranked: whether the texts had their video-specific prompts. Hits that were reranked come first.
    """

    path: str
    start: float
    end: float
    best_start: float
    best_end: float
    windows: int
    duration: float
    score: float | None
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
        moved: files that were recognised at another path, as (old path, new path).
        held_back: missing files that were not removed, because so many at once may be on a disk that isn't mounted.
    """

    added: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    errors: tuple[VideoError, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    held_back: tuple[str, ...] = ()
