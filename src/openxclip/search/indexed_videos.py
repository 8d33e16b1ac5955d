"""Read the videos of an index and their embeddings into memory, to compare them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from openxclip.common.files import NO_STAMP, stamp_of
from openxclip.search.partitioning import Floats, Ints
from openxclip.search.schema import VideoRow, embeddings_of


@dataclass(frozen=True)
class IndexedVideos:
    """V videos and their N windows, without featureless ones.

    Attributes:
        rows: rows of the videos.
        counts: number of windows per video, (V,); 0 if all are featureless.
        start_N: start of each window in seconds, (N,), one video after the other.
        embedding_NE: embedding of each window, of length 1.
    """

    rows: list[VideoRow]
    counts: Ints
    start_N: NDArray[np.float64]  # noqa: N815
    embedding_NE: Floats  # noqa: N815

    COLUMNS: ClassVar = ("video", "number", "start", "featureless", "embedding")

    @classmethod
    def read(cls, rows: Collection[VideoRow], windows: Iterable[Any]) -> IndexedVideos:
        """Read the videos that have windows.

        Args:
            rows: rows of videos.
            windows: pyarrow tables with COLUMNS, in any order; windows of other videos are ignored.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = sorted(rows, key=lambda row: row.path)
        ids = pa.array([row.id for row in rows], pa.int64())
        tables = [table.set_column(0, "video", pc.index_in(table["video"], ids)) for table in windows]
        if not tables:
            return cls([], np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((0, 1), dtype=np.float32))
        table = pa.concat_tables(tables)
        table = table.filter(pc.is_valid(table["video"]))
        with_windows = np.unique(table["video"].to_numpy())
        table = table.filter(pc.invert(table["featureless"]))
        video_N = table["video"].to_numpy()
        order_N = np.lexsort((table["number"].to_numpy(), video_N))
        return cls(
            rows=[rows[v] for v in with_windows],
            counts=np.bincount(np.searchsorted(with_windows, video_N), minlength=len(with_windows)),
            start_N=table["start"].to_numpy()[order_N],
            embedding_NE=embeddings_of(table)[order_N],
        )

    def take(self, chosen: Sequence[int]) -> IndexedVideos:
        """Return the chosen videos, in this order."""
        start_V = np.cumsum(self.counts) - self.counts
        windows = [np.arange(start_V[v], start_V[v] + self.counts[v]) for v in chosen]
        window_N = np.concatenate([np.zeros(0, dtype=np.int64), *windows])
        return IndexedVideos(
            rows=[self.rows[v] for v in chosen],
            counts=self.counts[list(chosen)],
            start_N=self.start_N[window_N],
            embedding_NE=self.embedding_NE[window_N],
        )

    def without_changed_files(self) -> IndexedVideos:
        """Return the videos without missing files, changed files and links to other videos.

        If no file of the index is on this machine, only links are left out.
        """
        is_unchanged_V = [_is_unchanged(row) for row in self.rows]
        is_elsewhere = not any(is_unchanged_V)
        paths = [row.path for row in self.rows]
        real_paths = [os.path.realpath(path) for path in paths]
        first: dict[str, int] = {}  # real path -> video, preferring paths that aren't links
        for v in sorted(range(len(paths)), key=lambda v: real_paths[v] != paths[v]):
            if is_elsewhere or is_unchanged_V[v] is not False:
                first.setdefault(real_paths[v], v)
        return self if len(first) == len(paths) else self.take(sorted(first.values()))


def _is_unchanged(row: VideoRow) -> bool | None:
    """Return whether the file is the same as when it was indexed; None for URLs and frames from memory."""
    if row.kind != "file" or "://" in row.path:
        return None
    stamp = stamp_of(row.path)
    return stamp != NO_STAMP and stamp[:2] == (row.size, row.modified)
