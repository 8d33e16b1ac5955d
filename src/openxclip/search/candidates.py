"""Which earlier videos have enough windows that are similar to those of a video."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from openxclip.search.cells import Cells, Floats, Ints

ROUNDING = 1e-6  # by which the cosine of a window and itself may miss 1
_NOBODY: Ints = np.zeros(0, dtype=np.int64)
_AT_ONCE = 2048  # windows whose cosines are in memory: 16 MiB
_BLOCKS = 4  # of windows, if they aren't larger than the next number
_MOST_AT_ONCE = 32768
_KEYS_AT_ONCE = 1 << 22  # 32 MiB


class Candidate(NamedTuple):
    """An earlier video that may contain a later one.

    Attributes:
        video: its number.
        found: how many windows of the later one are similar to one of its own, at least.
    """

    video: int
    found: int


class Candidates:
    """Pairs of a video and an earlier one.

    Args:
        embedding_NE: of the windows of all videos, one video after the other; of length 1.
        counts: windows of each of V videos, (V,).
        min_similarity: the cosine from which on two windows are similar.

    Attributes:
        is_complete: whether all windows are compared. If not, a few similar ones can be missed.
    """

    def __init__(self, embedding_NE: Floats, counts: Ints, *, min_similarity: float) -> None:
        self._embedding_NE, self._counts = embedding_NE, counts
        self._threshold = min_similarity - ROUNDING
        self._ends = np.cumsum(counts)
        self._video_N = np.repeat(np.arange(len(counts)), counts)
        self._cells = Cells(embedding_NE, min_similarity)
        self._members = [[_NOBODY] * number for number in self._cells.numbers]
        width = embedding_NE.shape[1]
        self._room = [np.empty((_AT_ONCE, columns), dtype=np.float32) for columns in (width, width, _AT_ONCE)]
        self.is_complete = self._cells.numbers == [1]
        # All videos of a block are compared with each other. Where only few cells are, larger blocks have less overhead
        self._at_once = (
            _AT_ONCE if self.is_complete else min(_MOST_AT_ONCE, max(_AT_ONCE, len(embedding_NE) // _BLOCKS))
        )

    def of_each(self, least_V: Ints, is_kept_V: NDArray[np.bool_]) -> Iterator[list[Candidate]]:
        """For each video in turn its candidates, in order.

        Args:
            least_V: how many windows of each video must be found similar to one of a candidate.
            is_kept_V: only earlier videos that are kept are candidates. The caller sets it for each video before it
                takes the next.
        """
        first = 0
        while first < len(self._counts):
            reached = self._ends[first] - self._counts[first] + self._at_once
            last = max(first + 1, int(np.searchsorted(self._ends, reached, side="right")))
            pair_P, found_P = self._pairs(first, last, least_V, is_kept_V)
            videos = np.arange(first, last)
            ends = np.searchsorted(pair_P // len(self._counts), videos, side="right")
            for begin, end in zip([0, *ends[:-1]], ends, strict=True):
                earlier = pair_P[begin:end] % len(self._counts)
                is_kept = is_kept_V[earlier]
                pairs = zip(earlier[is_kept].tolist(), found_P[begin:end][is_kept].tolist(), strict=True)
                yield [Candidate(*pair) for pair in pairs]
            first = last

    def _pairs(self, first: int, last: int, least_V: Ints, is_kept_V: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Of some videos that follow each other, the candidates among themselves and the earlier ones that are kept.

        Returns:
            Pairs, ascending, as video * V + candidate; and how many windows were found similar.
        """
        allowed_V = is_kept_V.copy()
        allowed_V[first:last], allowed_V[last:] = True, False
        rows = np.arange(self._ends[first] - self._counts[first], self._ends[last - 1])
        videos = len(self._counts)
        pairs, counts = _NOBODY, _NOBODY
        for start in range(0, len(rows), self._at_once):
            keys = self._similar(rows[start : start + self._at_once], allowed_V)
            here, here_counts = np.unique(self._video_N[keys // videos] * videos + keys % videos, return_counts=True)
            pairs, at = np.unique(np.concatenate([pairs, here]), return_inverse=True)
            counts = np.bincount(at, weights=np.concatenate([counts, here_counts])).astype(np.int64)
        enough = counts >= least_V[pairs // videos]
        return pairs[enough], counts[enough]

    def _similar(self, rows: Ints, allowed_V: NDArray[np.bool_]) -> Ints:
        """Which windows are similar to one of which earlier video: window * V + video, each once, ascending."""
        keys, more, size = _NOBODY, [_NOBODY], 0
        for members, nearest_QP in zip(self._members, self._cells.nearest(rows), strict=True):
            for cell, those in enumerate(_split(nearest_QP[:, 0], len(members))):
                if len(those):
                    members[cell] = np.concatenate([members[cell], rows[those]])
            for cell, those in enumerate(_split(nearest_QP.ravel(), len(members))):
                if not len(those) or not len(members[cell]):
                    continue
                members[cell] = members[cell][allowed_V[self._video_N[members[cell]]]]
                for found in self._compared(rows[those // nearest_QP.shape[1]], members[cell]):
                    more.append(found)
                    size += len(found)
                    if size > _KEYS_AT_ONCE:
                        keys, more, size = _distinct([keys, *more]), [], 0
        return _distinct([keys, *more])

    def _compared(self, rows: Ints, members: Ints) -> Iterator[Ints]:
        """As `_similar`, of these windows and members of a cell alone."""
        for at in range(0, len(members), _AT_ONCE):
            some = members[at : at + _AT_ONCE]
            video_M = self._video_N[some]
            member_ME = torch.from_numpy(self._taken(some, self._room[0]))
            for i in range(0, len(rows), _AT_ONCE):
                part = rows[i : i + _AT_ONCE]
                cosine_QM = self._room[2].ravel()[: len(part) * len(some)].reshape(len(part), len(some))
                query_QE = torch.from_numpy(self._taken(part, self._room[1]))
                torch.mm(query_QE, member_ME.T, out=torch.from_numpy(cosine_QM))
                is_similar_QM = cosine_QM >= self._threshold
                number = np.count_nonzero(is_similar_QM)
                if not number:
                    continue
                video_R = video_M
                if number > len(some):  # many pairs of windows can be few pairs of a window and a video
                    first_R = np.flatnonzero(np.diff(video_M, prepend=-1))
                    is_similar_QM, video_R = np.maximum.reduceat(is_similar_QM, first_R, axis=1), video_M[first_R]
                query, run = np.divmod(np.flatnonzero(is_similar_QM), len(video_R))
                is_earlier = video_R[run] < self._video_N[part[query]]
                yield part[query[is_earlier]] * len(self._counts) + video_R[run[is_earlier]]

    def _taken(self, rows: Ints, room_NE: Floats) -> Floats:
        """Their embeddings, in memory that is used again: new memory can cost more time than the arithmetic."""
        return np.take(self._embedding_NE, rows, axis=0, out=room_NE[: len(rows)], mode="clip")


def _distinct(parts: list[Ints]) -> Ints:
    """As `np.unique`, which is several times as slow for many integers."""
    keys: Ints = np.sort(np.concatenate(parts))
    distinct: Ints = keys[np.diff(keys, prepend=-1) != 0]
    return distinct


def _split(cell_Q: Ints, number: int) -> list[Ints]:
    """For each of some cells, the positions that have it."""
    return np.split(cell_Q.argsort(kind="stable"), np.cumsum(np.bincount(cell_Q, minlength=number))[:-1])
