"""Similar embeddings without comparing all pairs: windows are sorted into cells, and few cells are compared.

Some windows, chosen at random, are centres, and each window lies in the cell of the centre that it is most similar to.
Two similar windows often lie in one cell, or in cells whose centres are both similar to them. This is done several
times with other centres, because a pair that one choice of centres separates is seldom separated by the next.

How many cells must be compared depends on the embeddings and on the similarity asked for, so it is measured. Where that
saves nothing, because the embeddings are all similar to each other or because there are few, all pairs are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_CELL = 256  # windows, on average
_CHOICES = 12  # of centres
_TRIALS = 8192
# Twice as many cells as 999 of 1,000 trials need: then only a few in 100,000 fail. The largest number that any trial
# needs would be little more, but would differ from index to index.
_FOUND, _MARGIN = 0.999, 2
_PAYS = 1.5  # times as many pairs can be compared if all are
_WIDTH = 128  # of the random projection in which cells are found: it keeps distances, and is shorter
_SEED = 0


class Cells:
    """The cells of N embeddings.

    Args:
        embedding_NE: of length 1.
        min_similarity: the cosine of the pairs that are to be found.

    Attributes:
        numbers: how many cells there are, for each choice of centres. One cell means that all pairs are compared.
        probes: how many cells are compared with a window, for each choice.
    """

    def __init__(self, embedding_NE: Floats, min_similarity: float) -> None:
        self._centres_CKD: list[Floats] = []
        self.numbers, self.probes = [1], 1
        number, random = len(embedding_NE) // _CELL, np.random.default_rng(_SEED)
        if number < _PAYS * _CHOICES:
            return
        # With their mean at 0, embeddings spread evenly over the cells even if all have a direction in common
        self._mean_E = embedding_NE.mean(0)
        width = min(_WIDTH, embedding_NE.shape[1])
        self._projection_ED = random.standard_normal((embedding_NE.shape[1], width), dtype=np.float32)
        self._short_ND = self._short(embedding_NE)
        self._centres_CKD = [self._chosen(number, random) for _ in range(_CHOICES)]
        probes = _MARGIN * (1 + self._rank(embedding_NE, min_similarity, random))
        if number < _PAYS * probes * _CHOICES:
            self._centres_CKD = []
            return
        self.numbers, self.probes = [number] * _CHOICES, probes

    def nearest(self, rows: Ints) -> Iterator[Ints]:
        """For each choice of centres, the cells to compare with these windows, (Q, probes); their own cell is first."""
        if not self._centres_CKD:
            yield np.zeros((len(rows), 1), dtype=np.int64)
            return
        short_QD = self._short_ND[rows]
        for centres_KD in self._centres_CKD:
            cosine_QK = torch.from_numpy(short_QD @ centres_KD.T)
            yield cosine_QK.topk(self.probes, dim=1).indices.numpy()

    def _short(self, embedding_NE: Floats) -> Floats:
        return np.asarray((embedding_NE - self._mean_E) @ self._projection_ED)

    def _chosen(self, number: int, random: np.random.Generator) -> Floats:
        centres_KD = self._short_ND[random.choice(len(self._short_ND), number, replace=False)]
        return np.asarray(centres_KD / np.maximum(np.linalg.norm(centres_KD, axis=1, keepdims=True), 1e-6))

    def _rank(self, embedding_NE: Floats, min_similarity: float, random: np.random.Generator) -> int:
        """Count the cells that are nearer to a window than the cell of a window that is just similar enough.

        The second window is made: a window is moved towards another one until the cosine with the original is
        `min_similarity`. Of all choices of centres, the one with the fewest nearer cells counts.
        """
        from_T, to_T = random.integers(len(embedding_NE), size=(2, _TRIALS))
        here_TE, there_TE = embedding_NE[from_T], embedding_NE[to_T]
        cosine_T1 = np.einsum("te,te->t", here_TE, there_TE)[:, None]
        across_TE = there_TE - cosine_T1 * here_TE
        across_TE /= np.maximum(np.linalg.norm(across_TE, axis=1, keepdims=True), 1e-6)
        moved_TE = min_similarity * here_TE + math.sqrt(1 - min_similarity**2) * across_TE
        moved_TE = np.where(cosine_T1 >= min_similarity, there_TE, moved_TE)
        here_TD, moved_TD = self._short_ND[from_T], self._short(moved_TE)
        ranks_CT = [_ranks(here_TD, moved_TD, centres_KD) for centres_KD in self._centres_CKD]
        return int(np.quantile(np.min(ranks_CT, axis=0), _FOUND, method="higher"))


def _ranks(here_TD: Floats, there_TD: Floats, centres_KD: Floats) -> Ints:
    """For each pair, how many cells are nearer to the first than the cell of the second."""
    cell_T = (there_TD @ centres_KD.T).argmax(1)
    cosine_TK = here_TD @ centres_KD.T
    return np.asarray((cosine_TK > np.take_along_axis(cosine_TK, cell_T[:, None], 1)).sum(1))
