"""Read the videos of an index and their embeddings into arrays, to compare them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from openxclip.common.files import NO_STAMP, stamp_of
from openxclip.search.partitioning import Floats, Ints


@dataclass(frozen=True)
class IndexedVideos:
    """V videos and their N windows that aren't featureless.

    Attributes:
        paths: paths of the videos.
        durations: seconds, (V,).
        pixels: width times height, (V,); 0 if unknown.
        sizes: bytes of the files, (V,).
        modified: modification times of the files, nanoseconds since 1970, (V,).
        contents: SHA-256 of the files; empty if a video is no regular file.
        are_files: whether the path names a file of this machine, (V,).
        counts: number of windows per video, (V,); 0 if all are featureless.
        start_N: start of each window in seconds, (N,); windows of one video follow each other.
        embedding_NE: embedding of each window, of length 1.
    """

    paths: list[str]
    durations: NDArray[np.float64]
    pixels: Ints
    sizes: Ints
    modified: Ints
    contents: list[str]
    are_files: NDArray[np.bool_]
    counts: Ints
    start_N: NDArray[np.float64]  # noqa: N815
    embedding_NE: Floats  # noqa: N815

    COLUMNS: ClassVar = ("video", "number", "start", "featureless", "embedding")

    @classmethod
    def from_tables(cls, videos: Any, windows: Iterable[Any]) -> IndexedVideos:
        """Read the videos that have windows.

        Args:
            videos: a pyarrow table with the columns of `schema.VideoRow`.
            windows: pyarrow tables with COLUMNS, in any order; windows of other videos are ignored.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        videos = videos.sort_by("path")
        tables = [table.set_column(0, "video", pc.index_in(table["video"], videos["id"])) for table in windows]
        if not tables:
            tables = [pa.table({"video": pa.array([], pa.int32())})]
        table = pa.concat_tables(tables)
        table = table.filter(pc.is_valid(table["video"]))
        present = np.unique(table["video"].to_numpy())
        if "featureless" in table.column_names:
            table = table.filter(pc.invert(table["featureless"]))
        video_N = table["video"].to_numpy()
        if len(video_N):
            order = np.lexsort((table["number"].to_numpy(), video_N))
            start_N = table["start"].to_numpy()[order]
            embedding_NE = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(order), -1)[order]
        else:
            start_N, embedding_NE = np.zeros(0), np.zeros((0, 1), dtype=np.float32)
        videos = videos.take(present)
        paths = videos["path"].to_pylist()
        kinds = videos["kind"].to_pylist()
        are_files = [kind == "file" and "://" not in path for kind, path in zip(kinds, paths, strict=True)]
        return cls(
            paths=paths,
            durations=videos["duration"].to_numpy(),
            pixels=videos["width"].to_numpy() * videos["height"].to_numpy(),
            sizes=videos["size"].to_numpy(),
            modified=videos["modified"].to_numpy(),
            contents=videos["content"].to_pylist(),
            are_files=np.array(are_files, dtype=bool),
            counts=np.bincount(np.searchsorted(present, video_N), minlength=len(present)),
            start_N=start_N,
            embedding_NE=embedding_NE,
        )

    def take(self, chosen: Ints) -> IndexedVideos:
        """Return the chosen videos, in this order."""
        starts_V = np.cumsum(self.counts) - self.counts
        rows = [np.arange(starts_V[v], starts_V[v] + self.counts[v]) for v in chosen]
        rows_N = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        return IndexedVideos(
            paths=[self.paths[v] for v in chosen],
            durations=self.durations[chosen],
            pixels=self.pixels[chosen],
            sizes=self.sizes[chosen],
            modified=self.modified[chosen],
            contents=[self.contents[v] for v in chosen],
            are_files=self.are_files[chosen],
            counts=self.counts[chosen],
            start_N=self.start_N[rows_N],
            embedding_NE=self.embedding_NE[rows_N],
        )

    def without_changed_files(self) -> IndexedVideos:
        """Leave out files that are missing, have changed, or are links to another; keep all if none is here."""
        is_here_V = [self._is_unchanged(v) for v in range(len(self.paths))]
        none_is_here = not any(is_here_V)
        real = [os.path.realpath(path) for path in self.paths]
        first: dict[str, int] = {}  # real path -> video, preferring paths that are no links
        for v in sorted(range(len(real)), key=lambda i: real[i] != self.paths[i]):
            if is_here_V[v] is not False or none_is_here:
                first.setdefault(real[v], v)
        return self if len(first) == len(real) else self.take(np.array(sorted(first.values()), dtype=np.int64))

    def _is_unchanged(self, video: int) -> bool | None:
        """Return whether the file is as it was indexed; None if the video is no file of this machine."""
        if not self.are_files[video]:
            return None
        stamp = stamp_of(self.paths[video])
        return stamp != NO_STAMP and stamp[:2] == (self.sizes[video], self.modified[video])
