"""Merge candidate windows of a search into moments, and select the moments that become hits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from openxclip.search.results import Hit

_LEVEL = 0.5  # similarity that neighbours need: 0 is the typical one, 1 the best window's
_TOUCHING_S = 1e-3


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Options that select hits; see `VideoIndex.search`.

    Raises:
        ValueError: a value is out of its range.
    """

    k: int = 10
    where: str | None = None
    rerank: int | None = None
    per_video: int | None = None
    min_score: float | None = None
    min_similarity: float | None = None
    merge: bool = True

    def __post_init__(self) -> None:
        if self.k < 1 or (self.rerank or 0) < 0:
            raise ValueError(f"k={self.k} must be 1 or more, rerank={self.rerank} 0 or more.")
        if self.per_video is not None and self.per_video < 1:
            raise ValueError(f"per_video={self.per_video}: must be 1 or more.")
        if isinstance(self.min_score, str):
            raise ValueError(f"min_score={self.min_score!r}: must be a number from 0 to 1, or 'auto'.")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score={self.min_score}: must be from 0 to 1.")
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise ValueError(f"min_similarity={self.min_similarity}: must be from -1 to 1.")


@dataclass(eq=False, slots=True)
class Window:
    """A candidate window.

    Attributes:
        row: the store's row, with `embedding` and `patches` if the window is reranked.
        similarity: the cosine that orders candidates: with prompts if the window is reranked.
        reranked: whether `similarity` includes prompts.
        score: the text's share against the neutral texts; None before it is computed.
        place: position among the candidates that were to be reranked, if some of them couldn't be.
    """

    row: dict[str, Any]
    similarity: float
    reranked: bool
    score: float | None = None
    place: int | None = None

    @property
    def start(self) -> float:
        """Seconds."""
        return float(self.row["start"])

    @property
    def end(self) -> float:
        """Seconds."""
        return float(self.row["end"])

    @property
    def plain_similarity(self) -> float:
        """The cosine without prompts."""
        return float(self.row["similarity"])


@dataclass(frozen=True)
class Moment:
    """Neighbouring windows of one video.

    Attributes:
        best: the best window.
        start, end: seconds.
        windows: number of windows.
        level: plain similarity that a neighbour needs to become part of the moment.
    """

    best: Window
    start: float
    end: float
    windows: int
    level: float

    def hit(self) -> Hit:
        """Return the moment as a search result."""
        best, row = self.best, self.best.row
        return Hit(
            path=row["path"],
            start=self.start,
            end=self.end,
            best_start=row["start"],
            best_end=row["end"],
            windows=self.windows,
            duration=row["duration"],
            score=best.score,
            similarity=best.similarity,
            reranked=best.reranked,
        )


def sort_best_first(windows: Iterable[Window]) -> list[Window]:
    """Sort windows. Reranked windows come first, because similarities with and without prompts can't be compared."""

    def key(window: Window) -> tuple[bool, int, float]:
        has_place = window.reranked or window.place is not None
        return not has_place, window.place or 0, -window.similarity

    return sorted(windows, key=key)


def keep_places(windows: Sequence[Window]) -> None:
    """Give each window that isn't reranked its place by plain similarity, and the other places to the reranked ones.

    Args:
        windows: candidates, the best first by their plain similarity.
    """
    ranked = iter(sort_best_first(window for window in windows if window.reranked))
    for place, window in enumerate(windows):
        (next(ranked) if window.reranked else window).place = place


def separate_moments(windows: Iterable[Window]) -> list[Moment]:
    """Make each window a moment of its own, the best first."""
    return [Moment(window, window.start, window.end, 1, window.plain_similarity) for window in sort_best_first(windows)]


def merge_neighbours(windows: Iterable[Window], typical: float) -> list[Moment]:
    """Merge windows with their neighbours into moments, the best first.

    Each window, from the best to the worst, starts a moment unless it is part of another. A moment grows to both sides
    over windows that touch or overlap it and whose plain similarity is at least halfway between `typical` and the best
    window's. Other windows that lie in the moment by half or more are dropped.

    Args:
        windows: candidates of any videos.
        typical: cosine of the query and the mean embedding of the index.
    """
    videos: dict[int, list[Window]] = defaultdict(list)
    for window in windows:
        videos[window.row["video"]].append(window)
    for line in videos.values():
        line.sort(key=lambda window: int(window.row["number"]))
    positions = {window: i for line in videos.values() for i, window in enumerate(line)}
    used: set[Window] = set()
    moments: list[Moment] = []
    for best in sort_best_first(positions):
        if best in used:
            continue
        line = videos[best.row["video"]]
        level = typical + _LEVEL * (best.plain_similarity - typical)
        first, last, start, end = _grow(line, positions[best], level, used)
        used.update(line[first : last + 1])
        used.update(_mostly_covered(line, first, last, start, end))
        moments.append(Moment(best, start, end, last + 1 - first, level))
    return moments


def _grow(line: list[Window], position: int, level: float, used: set[Window]) -> tuple[int, int, float, float]:
    """Return the first and last window of the moment around a window, and its start and end in seconds."""
    first = last = position
    start, end = line[position].start, line[position].end
    for side in (range(position + 1, len(line)), range(position - 1, -1, -1)):
        for i in side:
            window = line[i]
            if window in used or window.start > end + _TOUCHING_S or window.end < start - _TOUCHING_S:
                break
            if window.plain_similarity >= level:
                first, last = min(first, i), max(last, i)
                start, end = min(start, window.start), max(end, window.end)
    return first, last, start, end


def _mostly_covered(line: list[Window], first: int, last: int, start: float, end: float) -> list[Window]:
    """Return the windows on both sides of a moment that lie in it by half or more."""

    def is_covered(window: Window) -> bool:
        return min(end, window.end) - max(start, window.start) >= 0.5 * (window.end - window.start)

    return [*takewhile(is_covered, line[last + 1 :]), *takewhile(is_covered, reversed(line[:first]))]


def select_moments(moments: Iterable[Moment], options: SearchOptions) -> list[Moment]:
    """Return the first k moments that meet the conditions. With `min_score`, windows must have been scored."""
    per_video: Counter[int] = Counter()
    selected: list[Moment] = []
    for moment in moments:
        best, video = moment.best, moment.best.row["video"]
        if options.min_similarity is not None and best.similarity < options.min_similarity:
            continue
        if options.min_score is not None and (best.score is None or best.score < options.min_score):
            continue
        if options.per_video is not None and per_video[video] >= options.per_video:
            continue
        per_video[video] += 1
        selected.append(moment)
        if len(selected) == options.k:
            break
    return selected
