"""Find duplicates in an index: copies, other encodings, and parts of other videos."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from openxclip.search.candidates import ROUNDING, Candidates
from openxclip.search.indexed_videos import IndexedVideos
from openxclip.search.not_duplicates import pair_key
from openxclip.search.partitioning import Floats
from openxclip.search.schema import VideoRow

MIN_SIMILARITY = 0.95
OVERLAP = 0.8
Keep = Literal["longest", "largest", "oldest", "highest-resolution"]

_SAME_LENGTH_S = 0.25  # encoders add or drop some frames
_MAX_COSINES = 1 << 22  # held in memory while two videos are compared: 16 MiB


@dataclass(frozen=True)
class Duplicate:
    """A video that the video to keep contains.

    Attributes:
        path: path of the video.
        duration: its duration in seconds.
        begins: where it begins in the video to keep, in seconds; exact to a stride of the index.
        overlap: share of its windows that are similar to a window of the video to keep, without featureless windows.
        similarity: mean cosine of these windows, each with the most similar window of the video to keep.
        identical: whether the file has the same bytes as the file to keep.
        identical_to: path of the first file in the group with the same bytes; None if this file is the first.
    """

    path: str
    duration: float
    begins: float
    overlap: float
    similarity: float
    identical: bool
    identical_to: str | None


@dataclass(frozen=True)
class DuplicateGroup:
    """A video to keep and its duplicates.

    Attributes:
        path: path of the video to keep.
        duration: its duration in seconds.
        duplicates: its duplicates: identical files first, then by falling similarity.
    """

    path: str
    duration: float
    duplicates: tuple[Duplicate, ...]


def find_duplicates(
    videos: IndexedVideos,
    *,
    min_similarity: float,
    overlap: float,
    keep: Keep = "longest",
    not_duplicates: Collection[frozenset[str]] = (),
    on_video: Callable[[], object] = lambda: None,
) -> list[DuplicateGroup]:
    """Return groups of duplicates, the groups with the longest videos first.

    Args:
        videos: videos to compare.
        min_similarity: minimum cosine of similar windows.
        overlap: minimum share of a video's windows that are similar to a window of the other video.
        keep: which video of a group to keep.
        not_duplicates: pairs that are never in one group, as `not_duplicates.pair_key` identifies them.
        on_video: called after each video.

    Raises:
        ValueError: an argument is out of its range.
    """
    for name, value in (("min_similarity", min_similarity), ("overlap", overlap)):
        if not 0 < value <= 1:
            raise ValueError(f"{name}={value}: must be above 0 and at most 1.")
    if keep not in get_args(Keep):
        raise ValueError(f"keep={keep!r}: must be one of {', '.join(get_args(Keep))}.")
    videos = videos.take(_sort_preferred_first(videos.rows, range(len(videos.rows)), "longest"))
    grouping = _Grouping(videos, min_similarity, overlap, not_duplicates)
    groups = grouping.find_groups(on_video)
    return [grouping.describe(grouping.choose_kept(first, others, keep), (first, *others)) for first, others in groups]


def _sort_preferred_first(
    rows: Sequence[VideoRow], videos: Iterable[int], keep: Keep, max_duration: float = math.inf
) -> list[int]:
    """Sort videos so that the video to keep is first. Durations above `max_duration` count as equal."""

    def key(video: int) -> tuple[object, ...]:
        row = rows[video]
        keys = {
            "longest": -min(row.duration, max_duration),
            "highest-resolution": -row.width * row.height,
            "largest": -row.size,
            "oldest": row.modified,
        }
        return (keys.pop(keep), *keys.values(), row.path)

    return sorted(videos, key=key)


class _Grouping:
    """Groups videos so that the first video of each group contains the others.

    Videos are processed from the longest to the shortest. Each joins the first video that contains it and hasn't joined
    another video itself. So a chain of videos, each similar to the next, isn't one group.
    """

    def __init__(
        self,
        videos: IndexedVideos,
        min_similarity: float,
        overlap: float,
        not_duplicates: Collection[frozenset[str]],
    ) -> None:
        self._videos, self._overlap, self._not_duplicates = videos, overlap, not_duplicates
        self._min_similarity = min_similarity
        self._starts = np.cumsum(videos.counts) - videos.counts
        # 1e-9: rounding must not turn a share such as 0.8 of 5 windows into more than 4 of them
        self._needed_V = np.maximum(1, np.ceil(overlap * videos.counts - 1e-9)).astype(np.int64)

    def find_groups(self, on_video: Callable[[], object]) -> list[tuple[int, list[int]]]:
        """Return the first video of each group, and the others."""
        videos = self._videos
        candidates = Candidates(videos.embedding_NE, videos.counts, min_similarity=self._min_similarity)
        # If the search can miss windows, half of the needed windows lead to a full comparison of the two videos
        needed_V = self._needed_V if candidates.is_exact else (self._needed_V + 1) // 2
        is_kept_V = np.zeros(len(videos.rows), dtype=bool)
        groups: dict[int, list[int]] = {}
        group_of: dict[int, int] = {}  # duplicate -> first video of its group
        first_by_content: dict[str, int] = {}
        for video, earlier in enumerate(candidates.per_video(needed_V, is_kept_V)):
            content = videos.rows[video].content
            first_copy = first_by_content.setdefault(content, video) if content else video
            first_of_copy = group_of.get(first_copy, first_copy)
            joins_copy = first_copy != video and not self._is_excluded(video, first_of_copy, groups)
            first = first_of_copy if joins_copy else self._first_that_contains(video, earlier, groups)
            if first is None:
                is_kept_V[video] = True
            else:
                groups.setdefault(first, []).append(video)
                group_of[video] = first
            on_video()
        return sorted(groups.items())

    def _first_that_contains(
        self, video: int, candidates: list[tuple[int, int]], groups: dict[int, list[int]]
    ) -> int | None:
        for earlier, num_similar in candidates:
            contains = num_similar >= self._needed_V[video] or self._contains(earlier, video)
            if contains and not self._is_excluded(video, earlier, groups):
                return earlier
        return None

    def _is_excluded(self, video: int, first: int, groups: dict[int, list[int]]) -> bool:
        """Return whether the user has declared that the video is no duplicate of a video in the group."""
        if not self._not_duplicates:
            return False
        rows = self._videos.rows
        group = [rows[member] for member in (first, *groups.get(first, ()))]
        own = rows[video].path, rows[video].content
        return any(pair_key(own, (row.path, row.content)) in self._not_duplicates for row in group)

    def choose_kept(self, first: int, others: list[int], keep: Keep) -> int:
        """Return the preferred video of a group, out of the videos that contain all the others.

        The first video is one of them. Lengths are compared too, because a short video can have all windows of a long,
        static one.
        """
        group, rows = [first, *others], self._videos.rows
        longest = float(np.max([rows[video].duration for video in group]))
        for video in _sort_preferred_first(rows, group, keep, longest - _SAME_LENGTH_S):
            if video == first:
                break
            is_long = rows[video].duration >= self._overlap * rows[first].duration - _SAME_LENGTH_S
            if is_long and all(other == video or self._contains(video, other) for other in group):
                return video
        return first

    def describe(self, keep: int, group: tuple[int, ...]) -> DuplicateGroup:
        """Compare each duplicate with the video to keep."""
        rows = self._videos.rows
        compared = {video: self._compare(keep, video) for video in group if video != keep}
        same = {video: self._are_same(keep, video) for video in compared}
        ordered = sorted(compared, key=lambda v: (not same[v], -round(compared[v].similarity, 6), rows[v].path))
        first_path = {rows[keep].content: rows[keep].path}  # content -> path
        duplicates: list[Duplicate] = []
        for video in ordered:
            content, path, comparison = rows[video].content, rows[video].path, compared[video]
            earlier = first_path.setdefault(content, path) if content else path
            duplicates.append(
                Duplicate(
                    path=path,
                    duration=rows[video].duration,
                    begins=comparison.begins,
                    overlap=comparison.overlap,
                    similarity=comparison.similarity,
                    identical=same[video],
                    identical_to=earlier if earlier != path else None,
                )
            )
        return DuplicateGroup(rows[keep].path, rows[keep].duration, tuple(duplicates))

    def _contains(self, video: int, other: int) -> bool:
        """Return whether the files are identical, or enough windows of `other` are similar to a window of `video`."""
        if self._are_same(video, other):
            return True
        if not self._videos.counts[video] or not self._videos.counts[other]:
            return False
        return bool(self._compare(video, other).similar >= self._needed_V[other])

    def _are_same(self, first: int, second: int) -> bool:
        rows = self._videos.rows
        return bool(rows[first].content) and rows[first].content == rows[second].content

    def _compare(self, keep: int, video: int) -> _Comparison:
        if self._are_same(keep, video):
            return _Comparison(int(self._videos.counts[video]), 1.0, 1.0, 0.0)
        starts, counts = self._starts, self._videos.counts
        whole, part = (slice(starts[v], starts[v] + counts[v]) for v in (keep, video))
        embedding_NE, start_N = self._videos.embedding_NE, self._videos.start_N
        return _compare_windows(
            embedding_NE[whole], start_N[whole], embedding_NE[part], start_N[part], self._min_similarity
        )


@dataclass(frozen=True)
class _Comparison:
    """How a video is contained in another one; see `Duplicate`."""

    similar: int  # number of similar windows
    overlap: float
    similarity: float
    begins: float


def _compare_windows(
    keep_KE: Floats,
    keep_start_K: NDArray[np.float64],
    part_NE: Floats,
    part_start_N: NDArray[np.float64],
    min_similarity: float,
) -> _Comparison:
    """Compare a part of N windows with a video of K windows.

    The part begins at the offset that maximises the sum of cosines of similar windows at the same time.
    """
    stride = float(np.diff(keep_start_K).min(initial=math.inf)) if len(keep_start_K) > 1 else 1.0
    offsets_K, offsets_N = keep_start_K / stride, part_start_N / stride
    lowest = math.floor(-offsets_N.max()) - 1
    sums = np.zeros(math.ceil(offsets_K.max()) - lowest + 2)
    similar, total = 0, 0.0
    step = max(1, _MAX_COSINES // len(keep_KE))
    for i in range(0, len(part_NE), step):
        cosine_NK = part_NE[i : i + step] @ keep_KE.T
        is_similar_NK = cosine_NK >= min_similarity - ROUNDING
        is_similar_N = is_similar_NK.any(1)
        similar += int(is_similar_N.sum())
        total += float(cosine_NK.max(1)[is_similar_N].sum(dtype=np.float64))
        n, k = np.nonzero(is_similar_NK)
        bins = np.rint(offsets_K[k] - offsets_N[i + n]).astype(np.int64) - lowest
        sums += np.bincount(bins, weights=cosine_NK[n, k], minlength=len(sums))
    # If several sums are equal, choose the offset nearest to 0, as copies have
    best = sums >= sums.max() - 1e-3
    offset = min(np.flatnonzero(best) + lowest, key=abs)
    return _Comparison(
        similar=similar,
        overlap=similar / len(part_NE),
        similarity=min(1.0, total / max(1, similar)),
        begins=max(0.0, float(offset) * stride),
    )
