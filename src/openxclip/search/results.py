"""Results of searching an index and of adding to it."""

from __future__ import annotations

from dataclasses import dataclass

from openxclip.errors import VideoError


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A moment that a search found: one window or neighbouring windows of one video; see `VideoIndex.search`.

    Attributes:
        path: path of the video.
        start, end: the moment, in seconds.
        best_start, best_end: its best window, in seconds; `score` and `similarity` belong to this window.
        windows: number of windows in the moment.
        duration: duration of the video in seconds.
        score: the text's share against neutral texts, from 0 to 1, as in `openxclip.classify`: above 0.5 the text fits
            better than all of them together. Computed with prompts if `reranked`. None in a search by video.
        similarity: the cosine that orders hits: with prompts if `reranked`, else of the plain features.
        reranked: whether the texts got video-specific prompts. Reranked hits come first.
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
    """Videos affected by a change of an index.

    Attributes:
        added: videos that are new in the index, or whose content changed.
        unchanged: videos that the index had already.
        removed: videos that were removed from the index.
        errors: errors of videos that can't be read.
        moved: files that were recognised at another path, as (old path, new path).
        held_back: missing files that were not removed, because their disk may be unmounted.
    """

    added: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    errors: tuple[VideoError, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    held_back: tuple[str, ...] = ()

    def __add__(self, other: Added) -> Added:
        """Return both results together, with each video once: a video that was added doesn't count as unchanged."""
        added = dict.fromkeys(self.added + other.added)
        unchanged = dict.fromkeys(path for path in self.unchanged + other.unchanged if path not in added)
        errors = {str(error): error for error in self.errors + other.errors}
        return Added(
            tuple(added),
            tuple(unchanged),
            self.removed + other.removed,
            tuple(errors.values()),
            self.moved + other.moved,
            self.held_back + other.held_back,
        )
