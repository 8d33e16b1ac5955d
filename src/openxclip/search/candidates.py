"""Find, for each video, the earlier videos that have enough similar windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from openxclip.search.partitioning import Floats, Ints, Partitions

ROUNDING = 1e-6  # the cosine of a window with itself may miss 1 by this much
_EMPTY: Ints = np.zeros(0, dtype=np.int64)
_BATCH = 2048  # windows; the cosines of two batches take 16 MiB
_BLOCKS, _MAX_BLOCK = 4, 32768  # blocks that all windows are divided into, and the most windows in one
_MAX_KEYS = 1 << 22  # 32 MiB


class Candidates:
    """Finds, for each video, the earlier videos that have enough similar windows.

    Args:
        embedding_NE: embeddings of length 1 of the windows of all videos, one video after the other.
        counts: number of windows of each of V videos, (V,).
        min_similarity: minimum cosine of similar windows.

    Attributes:
        is_exact: whether all windows are compared. If not, a few similar windows can be missed.
    """

    def __init__(self, embedding_NE: Floats, counts: Ints, *, min_similarity: float) -> None:
        self._embedding_NE, self._counts = embedding_NE, counts
        self._threshold = min_similarity - ROUNDING
        self._ends = np.cumsum(counts)
        self._video_N = np.repeat(np.arange(len(counts)), counts)
        self._partitions = Partitions(embedding_NE, min_similarity)
        self._members = [[_EMPTY] * number for number in self._partitions.num_cells]  # windows per cell
        width = embedding_NE.shape[1]
        self._member_buffer, self._query_buffer, self._cosine_buffer = (
            np.empty((_BATCH, columns), dtype=np.float32) for columns in (width, width, _BATCH)
        )
        self.is_exact = self._partitions.num_cells == [1]
        # All videos of a block are compared with each other. With partitions, larger blocks have less overhead
        self._block = _BATCH if self.is_exact else min(_MAX_BLOCK, max(_BATCH, len(embedding_NE) // _BLOCKS))

    def per_video(self, needed_V: Ints, is_kept_V: NDArray[np.bool_]) -> Iterator[list[tuple[int, int]]]:
        """Yield the candidates of each video: pairs of an earlier video and a number of windows, in order.

        The number is a lower bound of how many windows of the video are similar to a window of the earlier one.

        Args:
            needed_V: minimum of this number, for each video.
            is_kept_V: whether a video may be a candidate. The caller sets it for each video before taking the next.
        """
        first = 0
        while first < len(self._counts):
            block_end = self._ends[first] - self._counts[first] + self._block
            last = max(first + 1, int(np.searchsorted(self._ends, block_end, side="right")))
            pair_P, similar_P = self._find_pairs(first, last, needed_V, is_kept_V)
            videos = np.arange(first, last)
            ends = np.searchsorted(pair_P // len(self._counts), videos, side="right")
            for begin, end in zip([0, *ends[:-1]], ends, strict=True):
                earlier = pair_P[begin:end] % len(self._counts)
                is_kept = is_kept_V[earlier]
                num_similar = similar_P[begin:end][is_kept]
                yield list(zip(earlier[is_kept].tolist(), num_similar.tolist(), strict=True))
            first = last

    def _find_pairs(self, first: int, last: int, needed_V: Ints, is_kept_V: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Find the candidates of the videos `first` to `last` - 1 among themselves and the kept earlier videos.

        Returns:
            Sorted pairs, encoded as video * V + candidate, and the number of similar windows of each.
        """
        allowed_V = is_kept_V.copy()
        allowed_V[first:last], allowed_V[last:] = True, False
        rows = np.arange(self._ends[first] - self._counts[first], self._ends[last - 1])
        num_videos = len(self._counts)
        pairs, counts = _EMPTY, _EMPTY
        for start in range(0, len(rows), self._block):
            keys = self._find_similar(rows[start : start + self._block], allowed_V)
            new_pairs = self._video_N[keys // num_videos] * num_videos + keys % num_videos
            new_pairs, new_counts = np.unique(new_pairs, return_counts=True)
            pairs, at = np.unique(np.concatenate([pairs, new_pairs]), return_inverse=True)
            counts = np.bincount(at, weights=np.concatenate([counts, new_counts])).astype(np.int64)
        is_enough = counts >= needed_V[pairs // num_videos]
        return pairs[is_enough], counts[is_enough]

    def _find_similar(self, rows: Ints, allowed_V: NDArray[np.bool_]) -> Ints:
        """Return the pairs of a window and an earlier video similar to it: distinct, sorted keys window * V + video."""
        keys, new_keys, num_new = _EMPTY, [_EMPTY], 0
        for members, nearest_QP in zip(self._members, self._partitions.nearest_cells(rows), strict=True):
            for cell, queries in enumerate(_positions_per_cell(nearest_QP[:, 0], len(members))):
                if len(queries):
                    members[cell] = np.concatenate([members[cell], rows[queries]])
            for cell, probes in enumerate(_positions_per_cell(nearest_QP.ravel(), len(members))):
                if not len(probes) or not len(members[cell]):
                    continue
                members[cell] = members[cell][allowed_V[self._video_N[members[cell]]]]
                for batch in self._compare(rows[probes // nearest_QP.shape[1]], members[cell]):
                    new_keys.append(batch)
                    num_new += len(batch)
                    if num_new > _MAX_KEYS:
                        keys, new_keys, num_new = _distinct([keys, *new_keys]), [], 0
        return _distinct([keys, *new_keys])

    def _compare(self, rows: Ints, members: Ints) -> Iterator[Ints]:
        """Yield keys of `_find_similar` for windows and the members of one cell."""
        for member in range(0, len(members), _BATCH):
            member_M = members[member : member + _BATCH]
            video_M = self._video_N[member_M]
            member_ME = torch.from_numpy(self._gather(member_M, self._member_buffer))
            for query in range(0, len(rows), _BATCH):
                query_Q = rows[query : query + _BATCH]
                shape = len(query_Q), len(member_M)
                cosine_QM = self._cosine_buffer.ravel()[: shape[0] * shape[1]].reshape(shape)
                query_QE = torch.from_numpy(self._gather(query_Q, self._query_buffer))
                torch.mm(query_QE, member_ME.T, out=torch.from_numpy(cosine_QM))
                is_similar_QM = cosine_QM >= self._threshold
                num_similar = np.count_nonzero(is_similar_QM)
                if not num_similar:
                    continue
                video_R = video_M
                if num_similar > len(member_M):  # many pairs of windows can be few pairs of a window and a video
                    first_R = np.flatnonzero(np.diff(video_M, prepend=-1))
                    is_similar_QM, video_R = np.maximum.reduceat(is_similar_QM, first_R, axis=1), video_M[first_R]
                position, run = np.divmod(np.flatnonzero(is_similar_QM), len(video_R))
                is_earlier = video_R[run] < self._video_N[query_Q[position]]
                yield query_Q[position[is_earlier]] * len(self._counts) + video_R[run[is_earlier]]

    def _gather(self, rows: Ints, buffer_NE: Floats) -> Floats:
        """Copy embeddings into a reused buffer: allocating memory can take longer than the arithmetic."""
        return np.take(self._embedding_NE, rows, axis=0, out=buffer_NE[: len(rows)], mode="clip")


def _distinct(parts: list[Ints]) -> Ints:
    """Return the distinct integers, sorted; several times as fast as `np.unique` for many integers."""
    keys: Ints = np.sort(np.concatenate(parts))
    distinct: Ints = keys[np.diff(keys, prepend=-1) != 0]
    return distinct


def _positions_per_cell(cell_Q: Ints, num_cells: int) -> list[Ints]:
    """Return, for each cell, its positions in `cell_Q`."""
    return np.split(cell_Q.argsort(kind="stable"), np.cumsum(np.bincount(cell_Q, minlength=num_cells))[:-1])
