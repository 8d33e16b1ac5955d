"""Videos that are in an index more than once: copies, other encodings, parts of each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from openxclip.search.candidates import ROUNDING, Candidate, Candidates
from openxclip.search.cells import Floats
from openxclip.search.compared import Videos
from openxclip.search.not_duplicates import pair_of

MIN_SIMILARITY = 0.95
OVERLAP = 0.8
Keep = Literal["longest", "largest", "oldest", "highest-resolution"]

_SAME_LENGTH_S = 0.25  # encoders add or drop some frames
_NUMBERS_AT_ONCE = 1 << 22  # cosines of one pair of videos: 16 MiB


@dataclass(frozen=True)
class Duplicate:
    """A video that another one contains.

    Attributes:
        path: of the video.
        duration: in seconds.
        begins: where in the other one it begins, in seconds; exact to a stride of the index.
        overlap: the share of its windows that are similar to one of the other's; featureless windows don't count.
        similarity: the mean cosine of these windows and the best of the other's.
        identical: whether the two files are the same, byte for byte.
        identical_to: the first file of the group, from the one to keep on, that is the same as this one byte for byte;
            None if there is none before this one.
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
    """A video and those that it contains.

    Attributes:
        path: of the one to keep.
        duration: in seconds.
        duplicates: the others; copies of the one to keep first, then by falling similarity.
    """

    path: str
    duration: float
    duplicates: tuple[Duplicate, ...]


def find_duplicates(
    videos: Videos,
    *,
    min_similarity: float,
    overlap: float,
    keep: Keep = "longest",
    not_duplicates: Collection[frozenset[str]] = (),
    on_video: Callable[[], object] = lambda: None,
) -> list[DuplicateGroup]:
    """The groups, those of the longest videos first.

    Args:
        videos: to compare.
        min_similarity: the cosine from which on two windows are similar.
        overlap: the share of a video's windows that must be similar to one of the other's.
        keep: which one of a group comes first.
        not_duplicates: pairs that are never in one group, as `not_duplicates.pair_of` gives them.
        on_video: called after each video.

    Raises:
        ValueError: an argument is out of its range.
    """
    for name, value in (("min_similarity", min_similarity), ("overlap", overlap)):
        if not 0 < value <= 1:
            raise ValueError(f"{name}={value}: must be above 0 and at most 1.")
    if keep not in get_args(Keep):
        raise ValueError(f"keep={keep!r}: must be one of {', '.join(get_args(Keep))}.")
    videos = videos.take(np.array(sorted(range(len(videos.paths)), key=_Order(videos, "longest")), dtype=np.int64))
    grouping = _Grouping(videos, min_similarity, overlap, not_duplicates)
    groups = grouping.run(on_video)
    order = _Order(videos, keep)
    return [grouping.described(grouping.to_keep(first, others, order), (first, *others)) for first, others in groups]


class _Order:
    """A key for `sorted`: the video to keep comes first."""

    def __init__(self, videos: Videos, keep: Keep, longest: float = math.inf) -> None:
        self._videos, self._keep, self._longest = videos, keep, longest

    def __call__(self, video: int) -> tuple[object, ...]:
        videos = self._videos
        length = min(videos.durations[video], self._longest - _SAME_LENGTH_S)
        keys = {
            "longest": -length,
            "highest-resolution": -videos.pixels[video],
            "largest": -videos.sizes[video],
            "oldest": videos.modified[video],
        }
        return (keys.pop(self._keep), *keys.values(), videos.paths[video])

    def among(self, group: Collection[int]) -> list[int]:
        """The videos of a group in order; all that are about as long as the longest count as equally long."""
        longest = float(self._videos.durations[list(group)].max())
        return sorted(group, key=_Order(self._videos, self._keep, longest))


class _Grouping:
    """Puts videos into groups, each around one that contains all the others.

    Videos come by falling length, and each is put to the first one that contains it and is in no group of another. So
    deleting all duplicates leaves one for each that contains it, and a chain of videos that are each similar to the
    next doesn't become one group.
    """

    def __init__(
        self, videos: Videos, min_similarity: float, overlap: float, not_duplicates: Collection[frozenset[str]]
    ) -> None:
        self._videos, self._overlap, self._not_duplicates = videos, overlap, not_duplicates
        self._min_similarity = min_similarity
        self._starts = np.cumsum(videos.counts) - videos.counts
        # 1e-9: a share such as 0.8 of 5 windows must not become more than 4 of them by rounding
        self._needed_V = np.maximum(1, np.ceil(overlap * videos.counts - 1e-9)).astype(np.int64)

    def run(self, on_video: Callable[[], object]) -> list[tuple[int, list[int]]]:
        """The first of each group, and the others."""
        videos = self._videos
        candidates = Candidates(videos.embedding_NE, videos.counts, min_similarity=self._min_similarity)
        # Where windows can be missed, half of them are enough for looking at all of the two videos
        least_V = self._needed_V if candidates.is_complete else (self._needed_V + 1) // 2
        is_kept_V = np.zeros(len(videos.paths), dtype=bool)
        groups: dict[int, list[int]] = {}
        first_of: dict[int, int] = {}  # of each duplicate
        same: dict[str, int] = {}  # of each content
        for video, found in enumerate(candidates.of_each(least_V, is_kept_V)):
            content = videos.contents[video]
            copy = same.setdefault(content, video) if content else video
            first_of_copy = first_of.get(copy, copy)
            if copy == video or self._is_apart_from(video, first_of_copy, groups):
                first = self._first_that_contains(video, found, groups)
            else:
                first = first_of_copy
            if first is None:
                is_kept_V[video] = True
            else:
                groups.setdefault(first, []).append(video)
                first_of[video] = first
            on_video()
        return sorted(groups.items())

    def _first_that_contains(self, video: int, found: list[Candidate], groups: dict[int, list[int]]) -> int | None:
        for one in found:
            is_sure = one.found >= self._needed_V[video]
            if (is_sure or self.contains(one.video, video)) and not self._is_apart_from(video, one.video, groups):
                return one.video
        return None

    def _is_apart_from(self, video: int, first: int, groups: dict[int, list[int]]) -> bool:
        """Whether a person has said that a video is no duplicate of one of a group."""
        if not self._not_duplicates:
            return False
        paths, contents = self._videos.paths, self._videos.contents
        return any(
            pair_of((paths[video], contents[video]), (paths[one], contents[one])) in self._not_duplicates
            for one in (first, *groups.get(first, ()))
        )

    def to_keep(self, first: int, others: list[int], order: _Order) -> int:
        """The preferred one of those that contain all the others of a group, as the first one does.

        A short video can contain each window of a long one that always shows the same, so lengths are compared too.
        """
        group = [first, *others]
        for video in order.among(group):
            if video == first:
                break
            is_long = self._videos.durations[video] >= self._overlap * self._videos.durations[first] - _SAME_LENGTH_S
            if is_long and all(one == video or self.contains(video, one) for one in group):
                return video
        return first

    def described(self, keep: int, group: tuple[int, ...]) -> DuplicateGroup:
        """The group with what is said of each duplicate."""
        videos = self._videos
        compared = {video: self._compare(keep, video) for video in group if video != keep}
        same = {video: self._are_same(keep, video) for video in compared}
        ordered = sorted(compared, key=lambda v: (not same[v], -round(compared[v].similarity, 6), videos.paths[v]))
        first: dict[str, str] = {}  # path of each content
        duplicates: list[Duplicate] = []
        for video in (keep, *ordered):
            content, path = videos.contents[video], videos.paths[video]
            earlier = first.setdefault(content, path) if content else path
            if video == keep:
                continue
            found = compared[video]
            duplicates.append(
                Duplicate(
                    path=path,
                    duration=float(videos.durations[video]),
                    begins=found.begins,
                    overlap=found.overlap,
                    similarity=found.similarity,
                    identical=same[video],
                    identical_to=earlier if earlier != path else None,
                )
            )
        return DuplicateGroup(videos.paths[keep], float(videos.durations[keep]), tuple(duplicates))

    def contains(self, video: int, other: int) -> bool:
        """Whether enough windows of another one are similar to one of the video's, or the files are the same."""
        if self._are_same(video, other):
            return True
        if not self._videos.counts[video] or not self._videos.counts[other]:
            return False
        return bool(self._compare(video, other).similar >= self._needed_V[other])

    def _are_same(self, first: int, second: int) -> bool:
        return bool(self._videos.contents[first]) and self._videos.contents[first] == self._videos.contents[second]

    def _compare(self, keep: int, video: int) -> _Comparison:
        if self._are_same(keep, video):
            return _Comparison(int(self._videos.counts[video]), 1.0, 1.0, 0.0)
        rows = [slice(self._starts[v], self._starts[v] + self._videos.counts[v]) for v in (keep, video)]
        embeddings = [self._videos.embedding_NE[one] for one in rows]
        starts = [self._videos.start_N[one] for one in rows]
        return _compare(embeddings[0], starts[0], embeddings[1], starts[1], self._min_similarity)


@dataclass(frozen=True)
class _Comparison:
    """How a video is in another one: windows that are similar, their share, their mean cosine, where it begins."""

    similar: int
    overlap: float
    similarity: float
    begins: float


def _compare(
    keep_KE: Floats, keep_start_K: NDArray[np.float64], part_NE: Floats, part_start_N: NDArray[np.float64], least: float
) -> _Comparison:
    """A part of N windows in a video of K.

    It begins where most of its windows fall on similar ones: at the offset with the largest sum of cosines.
    """
    stride = float(np.diff(keep_start_K).min(initial=math.inf)) if len(keep_start_K) > 1 else 1.0
    offsets_K, offsets_N = keep_start_K / stride, part_start_N / stride
    lowest = math.floor(-offsets_N.max()) - 1
    sums = np.zeros(math.ceil(offsets_K.max()) - lowest + 2)
    similar, total = 0, 0.0
    step = max(1, _NUMBERS_AT_ONCE // len(keep_KE))
    for i in range(0, len(part_NE), step):
        cosine_NK = part_NE[i : i + step] @ keep_KE.T
        is_similar_NK = cosine_NK >= least - ROUNDING
        best_N = cosine_NK.max(1)
        good_N = best_N >= least - ROUNDING
        similar += int(good_N.sum())
        total += float(best_N[good_N].sum(dtype=np.float64))
        n, k = np.nonzero(is_similar_NK)
        bins = np.rint(offsets_K[k] - offsets_N[i + n]).astype(np.int64) - lowest
        sums += np.bincount(bins, weights=cosine_NK[n, k], minlength=len(sums))
    # If sums are equal, the offset nearest to 0 is chosen, as a copy has it
    best = sums >= sums.max() - 1e-3
    offset = min(np.flatnonzero(best) + lowest, key=abs)
    return _Comparison(
        similar=similar,
        overlap=similar / len(part_NE),
        similarity=min(1.0, total / max(1, similar)),
        begins=max(0.0, float(offset) * stride),
    )
