"""Videos that are in an index more than once: copies, other encodings, parts of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.95
OVERLAP = 0.8
_NUMBERS_AT_ONCE = 1 << 26  # of similarities: 256 MiB


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
    inside = _who_is_inside_whom(videos, threshold, overlap, on_video)
    order: list[int] = np.lexsort((videos.modified, -videos.sizes, -videos.durations, -videos.counts)).tolist()
    place = {video: number for number, video in enumerate(order)}
    # The one to keep is never a duplicate itself, so that deleting all duplicates loses nothing: a chain of videos that
    # are each like the next isn't one group.
    taken: set[int] = set()
    groups = []
    for keep in order:
        if keep in taken:
            continue
        found = [v for v in inside.get(keep, {}) if v not in taken and place[v] > place[keep]]
        taken.update((keep, *found))
        if found:
            duplicates = [_duplicate(videos, v, keep, *inside[keep][v]) for v in found]
            duplicates.sort(key=lambda one: (-one.identical, -one.similarity, one.path))
            groups.append(DuplicateGroup(videos.paths[keep], float(videos.durations[keep]), tuple(duplicates)))
    return groups


def _who_is_inside_whom(
    videos: Videos, threshold: float, overlap: float, on_video: Callable[[], object]
) -> dict[int, dict[int, tuple[float, float]]]:
    """Of each video those that are in it, with overlap and similarity."""
    inside: dict[int, dict[int, tuple[float, float]]] = {}
    embedding_NE = videos.embedding_NE
    starts_V = np.concatenate([[0], np.cumsum(videos.counts)])
    total = len(embedding_NE)
    first = 0
    while first < len(videos.counts):
        last = first + 1  # whole videos, as many as there is room for
        while last < len(videos.counts) and (starts_V[last + 1] - starts_V[first]) * total <= _NUMBERS_AT_ONCE:
            last += 1
        begin, end = starts_V[first], starts_V[last]
        best_RV = np.empty((end - begin, len(videos.counts)), dtype=np.float32)
        rows = max(1, _NUMBERS_AT_ONCE // total)  # of a video that is longer than there is room for
        for row in range(begin, end, rows):
            part = embedding_NE[row : min(row + rows, end)] @ embedding_NE.T
            best_RV[row - begin : row - begin + len(part)] = np.maximum.reduceat(part, starts_V[:-1], axis=1)
        alike_RV = best_RV >= threshold
        alike_CV = np.add.reduceat(alike_RV, starts_V[first:last] - begin, axis=0, dtype=np.int64)
        overlap_CV = alike_CV / videos.counts[first:last, None]
        for row, other in np.argwhere(overlap_CV >= overlap):
            video = first + int(row)
            if video != other:
                windows = slice(starts_V[video] - begin, starts_V[video + 1] - begin)
                similarity = best_RV[windows, other][alike_RV[windows, other]].mean()
                inside.setdefault(int(other), {})[video] = (float(overlap_CV[row, other]), float(similarity))
        for _ in range(first, last):
            on_video()
        first = last
    return inside


def _duplicate(videos: Videos, video: int, keep: int, overlap: float, similarity: float) -> Duplicate:
    content = videos.contents[video]
    return Duplicate(
        path=videos.paths[video],
        duration=float(videos.durations[video]),
        overlap=overlap,
        similarity=min(1.0, similarity),
        identical=bool(content) and content == videos.contents[keep],
    )
