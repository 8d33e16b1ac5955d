"""Videos that are in an index more than once: copies, other encodings, parts of each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from openxclip.files import stamp_of

THRESHOLD = 0.95
OVERLAP = 0.8
_ROUNDING = 1e-6  # by which the cosine of a window and itself may miss 1
_NUMBERS_AT_ONCE = 1 << 25  # cosines: 128 MiB


@dataclass(frozen=True)
class Duplicate:
    """A video that another has in it.

    Attributes:
        path: of the video.
        duration: in seconds.
        overlap: the share of its windows that are alike one of the other's.
        similarity: the mean cosine of these windows and the best of the other's.
        identical: whether the two files are the same, byte for byte.
    """

    path: str
    duration: float
    overlap: float
    similarity: float
    identical: bool


@dataclass(frozen=True)
class DuplicateGroup:
    """A video, and those that are in it.

    Attributes:
        path: of the one to keep: the longest; of equally long ones the largest file, of these the oldest.
        duration: in seconds.
        duplicates: the others, the most alike first.
    """

    path: str
    duration: float
    duplicates: tuple[Duplicate, ...]


@dataclass(frozen=True)
class Videos:
    """What is compared: V videos of N windows together.

    Attributes:
        paths: of the videos.
        durations: in seconds, (V,).
        sizes: of the files in bytes, (V,).
        modified: when they were changed, in nanoseconds since 1970, (V,).
        contents: SHA-256 of the files; "" of what is no file.
        counts: windows of each, (V,), 1 or more.
        embedding_NE: of the windows, of length 1; those of a video follow each other.
    """

    paths: list[str]
    durations: NDArray[np.float64]
    sizes: NDArray[np.int64]
    modified: NDArray[np.int64]
    contents: list[str]
    counts: NDArray[np.int64]
    embedding_NE: NDArray[np.float32]  # noqa: N815

    COLUMNS: ClassVar = ("path", "number", "duration", "size", "modified", "content", "embedding")

    @classmethod
    def of(cls, tables: Iterable[Any]) -> Videos:
        """Those of tables of windows that have COLUMNS."""
        import pyarrow as pa

        parts = list(tables)
        if not parts:
            nothing = np.zeros(0, dtype=np.int64)
            return cls(
                [], nothing.astype(np.float64), nothing, nothing, [], nothing, np.zeros((0, 1), dtype=np.float32)
            )
        table = pa.concat_tables(parts).sort_by([("path", "ascending"), ("number", "ascending")])
        runs = table["path"].value_counts()  # in the order in which they come
        counts = runs.field("counts").to_numpy()
        first = table.take(np.cumsum(counts) - counts)
        return cls(
            paths=runs.field("values").to_pylist(),
            durations=first["duration"].to_numpy(),
            sizes=first["size"].to_numpy(),
            modified=first["modified"].to_numpy(),
            contents=first["content"].to_pylist(),
            counts=counts,
            embedding_NE=table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1),
        )

    def as_they_are(self) -> Videos:
        """Without those that are gone, have changed since, or are links to another; all of them if none is here."""
        here = [self._is_as_it_was(v) for v in range(len(self.paths))]
        none_is_here = not any(here)
        keep_V = np.array([one is not False or none_is_here for one in here], dtype=bool)
        real = [os.path.realpath(path) for path in self.paths]
        first: dict[str, int] = {}  # of each file: the one that is no link
        for v in sorted(range(len(here)), key=lambda i: real[i] != self.paths[i]):
            if keep_V[v]:
                keep_V[v] = first.setdefault(real[v], v) == v
        if keep_V.all():
            return self
        chosen = np.flatnonzero(keep_V)
        return Videos(
            paths=[self.paths[v] for v in chosen],
            durations=self.durations[keep_V],
            sizes=self.sizes[keep_V],
            modified=self.modified[keep_V],
            contents=[self.contents[v] for v in chosen],
            counts=self.counts[keep_V],
            embedding_NE=self.embedding_NE[np.repeat(keep_V, self.counts)],
        )

    def _is_as_it_was(self, video: int) -> bool | None:
        """None of what is no file of this machine's by its name."""
        if "://" in self.paths[video]:
            return None
        return stamp_of(self.paths[video]) == (self.sizes[video], self.modified[video])


def find_duplicates(
    videos: Videos, *, threshold: float, overlap: float, on_video: Callable[[], object]
) -> list[DuplicateGroup]:
    """The groups, those of the longest videos first.

    Every window is compared with every other one, so that none is missed: the time grows with the square of their
    number, the memory doesn't.

    Args:
        videos: to be compared.
        threshold: the cosine from which on two windows are alike.
        overlap: the share of a video's windows that must be alike one of the other's.
        on_video: called when a video has been compared with all others.

    Raises:
        ValueError: a share that can't be.
    """
    for name, value in (("threshold", threshold), ("overlap", overlap)):
        if not 0 < value <= 1:
            raise ValueError(f"{name}={value}: must be above 0 and at most 1.")
    order_V = np.lexsort((videos.modified, -videos.sizes, -videos.durations))  # who is kept of two
    place_V = np.argsort(order_V)
    # A video is put to one that is kept, never to one that is itself a duplicate: so deleting all duplicates leaves of
    # each one that is like it, and a chain of videos that are each like the next isn't one group.
    is_kept_V = np.zeros(len(order_V), dtype=bool)
    groups: dict[int, list[Duplicate]] = {}
    for video, overlap_V, similarity_V in _compared(videos, order_V, threshold):
        kept = np.flatnonzero((overlap_V >= overlap) & is_kept_V)
        if len(kept):
            keep = int(kept[place_V[kept].argmin()])
            found = _duplicate(videos, video, keep, float(overlap_V[keep]), float(similarity_V[keep]))
            groups.setdefault(keep, []).append(found)
        else:
            is_kept_V[video] = True
        on_video()
    return [
        DuplicateGroup(
            videos.paths[keep],
            float(videos.durations[keep]),
            tuple(sorted(groups[keep], key=lambda one: (-one.identical, -one.similarity, one.path))),
        )
        for keep in sorted(groups, key=place_V.__getitem__)
    ]


def _compared(
    videos: Videos, order_V: NDArray[np.int64], threshold: float
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Each video in an order, and of each other one: the share of its windows that are alike one of the other's, and
    the mean cosine of these and the best of the other's; (V,) each.
    """
    starts_V = np.cumsum(videos.counts) - videos.counts
    rows_N = np.concatenate([np.arange(starts_V[v], starts_V[v] + videos.counts[v]) for v in order_V] or [starts_V])
    at_once = max(1, _NUMBERS_AT_ONCE // max(1, len(rows_N)))
    remaining = iter(order_V.tolist())
    video, left = -1, 0
    alike_V, sum_V = np.zeros(len(order_V), dtype=np.int64), np.zeros(len(order_V))
    for row in range(0, len(rows_N), at_once):
        cosine_RN = videos.embedding_NE[rows_N[row : row + at_once]] @ videos.embedding_NE.T
        best_RV = np.maximum.reduceat(cosine_RN, starts_V, axis=1)
        while len(best_RV):
            if not left:
                video = next(remaining)
                left = int(videos.counts[video])
                alike_V[:], sum_V[:] = 0, 0
            part_RV, best_RV = best_RV[:left], best_RV[left:]
            left -= len(part_RV)
            is_alike_RV = part_RV >= threshold - _ROUNDING
            alike_V += is_alike_RV.sum(0)
            sum_V += np.where(is_alike_RV, part_RV, 0).sum(0)
            if not left:
                yield video, alike_V / videos.counts[video], sum_V / np.maximum(alike_V, 1)


def _duplicate(videos: Videos, video: int, keep: int, overlap: float, similarity: float) -> Duplicate:
    content = videos.contents[video]
    return Duplicate(
        path=videos.paths[video],
        duration=float(videos.durations[video]),
        overlap=overlap,
        similarity=min(1.0, similarity),
        identical=bool(content) and content == videos.contents[keep],
    )
