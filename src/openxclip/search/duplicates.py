"""Videos that are in an index more than once: copies, other encodings, parts of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
    order_V = np.lexsort((videos.modified, -videos.sizes, -videos.durations, -videos.counts))  # who is kept of two
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
    total = len(videos.embedding_NE)
    done = 0
    while done < len(order_V):
        block = [order_V[done]]  # whole videos, as many as there is room for
        rows = videos.counts[order_V[done]]
        while done + len(block) < len(order_V) and (
            (rows + videos.counts[order_V[done + len(block)]]) * total <= _NUMBERS_AT_ONCE
        ):
            block.append(order_V[done + len(block)])
            rows += videos.counts[block[-1]]
        at_R = np.concatenate([np.arange(starts_V[v], starts_V[v] + videos.counts[v]) for v in block])
        best_RV = np.empty((len(at_R), len(order_V)), dtype=np.float32)
        step = max(1, _NUMBERS_AT_ONCE // total)  # of a video that is longer than there is room for
        for row in range(0, len(at_R), step):
            part = videos.embedding_NE[at_R[row : row + step]] @ videos.embedding_NE.T
            best_RV[row : row + len(part)] = np.maximum.reduceat(part, starts_V, axis=1)
        row = 0
        for video in block:
            best_WV = best_RV[row : row + videos.counts[video]]
            alike_WV = best_WV >= threshold
            number_V = alike_WV.sum(0)
            similarity_V = np.where(alike_WV, best_WV, 0).sum(0) / np.maximum(number_V, 1)
            yield int(video), number_V / videos.counts[video], similarity_V
            row += int(videos.counts[video])
        done += len(block)


def _duplicate(videos: Videos, video: int, keep: int, overlap: float, similarity: float) -> Duplicate:
    content = videos.contents[video]
    return Duplicate(
        path=videos.paths[video],
        duration=float(videos.durations[video]),
        overlap=overlap,
        similarity=min(1.0, similarity),
        identical=bool(content) and content == videos.contents[keep],
    )
