"""Which earlier videos have enough windows that are similar to those of a video."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from openxclip.search.cells import Cells, Floats, Ints

ROUNDING = 1e-6  # by which the cosine of a window and itself may miss 1
_BLOCKS = 8  # windows are looked at in so many blocks,
_FEWEST_AT_ONCE, _MOST_AT_ONCE = 2048, 16384  # but of so many windows
_NOBODY: Ints = np.zeros(0, dtype=np.int64)
_AT_ONCE = 2048  # windows whose cosines are in memory: 16 MiB
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
        self._at_once = min(_MOST_AT_ONCE, max(_FEWEST_AT_ONCE, len(embedding_NE) // _BLOCKS))
        width = embedding_NE.shape[1]
        self._room = [np.empty((_AT_ONCE, columns), dtype=np.float32) for columns in (width, width, _AT_ONCE)]
        self.is_complete = self._cells.numbers == [1]

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
            found = self._found(first, last, least_V, is_kept_V)
            for video in range(first, last):
                yield [one for one in found.get(video, []) if is_kept_V[one.video]]
            first = last

    def _found(self, first: int, last: int, least_V: Ints, is_kept_V: NDArray[np.bool_]) -> dict[int, list[Candidate]]:
        """Of some videos that follow each other, the candidates among themselves and the earlier ones that are kept."""
        allowed_V = is_kept_V.copy()
        allowed_V[first:last], allowed_V[last:] = True, False
        rows = np.arange(self._ends[first] - self._counts[first], self._ends[last - 1])
        videos = len(self._counts)
        pairs = np.zeros(0, dtype=np.int64)
        counts = np.zeros(0, dtype=np.int64)
        for start in range(0, len(rows), self._at_once):
            keys = self._similar(rows[start : start + self._at_once], allowed_V)
            here, here_counts = np.unique(self._video_N[keys // videos] * videos + keys % videos, return_counts=True)
            pairs, at = np.unique(np.concatenate([pairs, here]), return_inverse=True)
            counts = np.bincount(at, weights=np.concatenate([counts, here_counts])).astype(np.int64)
        enough = counts >= least_V[pairs // videos]
        found: dict[int, list[Candidate]] = {}
        for pair, count in zip(pairs[enough].tolist(), counts[enough].tolist(), strict=True):
            found.setdefault(pair // videos, []).append(Candidate(pair % videos, count))
        return found

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
                        keys, more, size = np.unique(np.concatenate([keys, *more])), [], 0
        return np.unique(np.concatenate([keys, *more]))

    def _compared(self, rows: Ints, members: Ints) -> Iterator[Ints]:
        """As `_similar`, of these windows and members of a cell alone."""
        for at in range(0, len(members), _AT_ONCE):
            some = members[at : at + _AT_ONCE]
            video_M = self._video_N[some]
            starts = np.flatnonzero(np.diff(video_M, prepend=-1))
            member_ME = self._taken(some, self._room[0])
            for i in range(0, len(rows), _AT_ONCE):
                part = rows[i : i + _AT_ONCE]
                best_QR = self._room[2].ravel()[: len(part) * len(some)].reshape(len(part), len(some))
                torch.mm(
                    torch.from_numpy(self._taken(part, self._room[1])),
                    torch.from_numpy(member_ME).T,
                    out=torch.from_numpy(best_QR),
                )
                if len(starts) < len(some):
                    best_QR = np.maximum.reduceat(best_QR, starts, axis=1)
                query, run = np.divmod(np.flatnonzero(best_QR >= self._threshold), len(starts))
                video = video_M[starts[run]]
                is_earlier = video < self._video_N[part[query]]
                yield part[query[is_earlier]] * len(self._counts) + video[is_earlier]

    def _taken(self, rows: Ints, room_NE: Floats) -> Floats:
        """Their embeddings, in memory that is used again: new memory can cost more time than the arithmetic."""
        return np.take(self._embedding_NE, rows, axis=0, out=room_NE[: len(rows)], mode="clip")


def _split(cell_Q: Ints, number: int) -> list[Ints]:
    """For each of some cells, the positions that have it."""
    return np.split(cell_Q.argsort(kind="stable"), np.cumsum(np.bincount(cell_Q, minlength=number))[:-1])
