"""Partition embeddings into cells, so that similar pairs are found without comparing all pairs.

Randomly chosen windows are centres, and each window belongs to the cell of its most similar centre. Two similar windows
usually lie in the same cell or in neighbouring ones. Several partitions are made, because a pair that one of them
separates is seldom separated by the next.

The number of cells to compare depends on the embeddings and on the minimum similarity, so it is measured. If partitions
save nothing, because there are few embeddings or all are similar, all pairs are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_CELL = 256  # average number of windows per cell
_PARTITIONS = 12
_TRIALS = 8192
# Compare twice as many cells as 99.9 % of the trials need: only a few pairs in 100,000 are missed. The maximum of all
# trials would be little higher, but would vary from index to index.
_QUANTILE, _MARGIN = 0.999, 2
_MIN_SAVING = 1.5  # partitions are used if this divides the number of compared pairs
_PROJECTED = 128  # size of the random projection in which cells are found; it roughly preserves distances
_SEED = 0


class Partitions:
    """Several partitions of N embeddings into cells.

    Args:
        embedding_NE: embeddings of length 1.
        min_similarity: minimum cosine of the pairs to find.

    Attributes:
        num_cells: number of cells of each partition; [1] if all pairs are compared.
        num_probes: number of cells to compare with a window, per partition.
    """

    def __init__(self, embedding_NE: Floats, min_similarity: float) -> None:
        self._centres_PKD: list[Floats] = []
        self.num_cells, self.num_probes = [1], 1
        number, random = len(embedding_NE) // _CELL, np.random.default_rng(_SEED)
        if number < _MIN_SAVING * _PARTITIONS:
            return
        # Without their mean, embeddings spread evenly over the cells even if all share a direction
        self._mean_E = embedding_NE.mean(0)
        width = min(_PROJECTED, embedding_NE.shape[1])
        self._projection_ED = random.standard_normal((embedding_NE.shape[1], width), dtype=np.float32)
        self._projected_ND = self._project(embedding_NE)
        self._centres_PKD = [self._choose_centres(number, random) for _ in range(_PARTITIONS)]
        num_probes = _MARGIN * (1 + self._measure_rank(embedding_NE, min_similarity, random))
        if number < _MIN_SAVING * num_probes * _PARTITIONS:
            self._centres_PKD = []
            return
        self.num_cells, self.num_probes = [number] * _PARTITIONS, num_probes

    def nearest_cells(self, rows: Ints) -> Iterator[Ints]:
        """Yield, for each partition, the cells to compare with Q windows, (Q, num_probes), their own cells first."""
        if not self._centres_PKD:
            yield np.zeros((len(rows), 1), dtype=np.int64)
            return
        projected_QD = self._projected_ND[rows]
        for centres_KD in self._centres_PKD:
            cosine_QK = torch.from_numpy(projected_QD @ centres_KD.T)
            yield cosine_QK.topk(self.num_probes, dim=1).indices.numpy()

    def _project(self, embedding_NE: Floats) -> Floats:
        return np.asarray((embedding_NE - self._mean_E) @ self._projection_ED)

    def _choose_centres(self, number: int, random: np.random.Generator) -> Floats:
        centres_KD = self._projected_ND[random.choice(len(self._projected_ND), number, replace=False)]
        return np.asarray(centres_KD / np.maximum(np.linalg.norm(centres_KD, axis=1, keepdims=True), 1e-6))

    def _measure_rank(self, embedding_NE: Floats, min_similarity: float, random: np.random.Generator) -> int:
        """Return how many cells are nearer to a window than the cell of a window that is just similar enough.

        In each trial, the second window is the first one, moved towards a random window until their cosine is
        `min_similarity`, and the partition with the fewest nearer cells counts. Returns a high quantile of the trials.
        """
        from_T, to_T = random.integers(len(embedding_NE), size=(2, _TRIALS))
        first_TE, target_TE = embedding_NE[from_T], embedding_NE[to_T]
        cosine_T1 = np.einsum("te,te->t", first_TE, target_TE)[:, None]
        across_TE = target_TE - cosine_T1 * first_TE
        across_TE /= np.maximum(np.linalg.norm(across_TE, axis=1, keepdims=True), 1e-6)
        moved_TE = min_similarity * first_TE + math.sqrt(1 - min_similarity**2) * across_TE
        moved_TE = np.where(cosine_T1 >= min_similarity, target_TE, moved_TE)
        first_TD, moved_TD = self._projected_ND[from_T], self._project(moved_TE)
        ranks_PT = [_cell_ranks(first_TD, moved_TD, centres_KD) for centres_KD in self._centres_PKD]
        return int(np.quantile(np.min(ranks_PT, axis=0), _QUANTILE, method="higher"))


def _cell_ranks(first_TD: Floats, second_TD: Floats, centres_KD: Floats) -> Ints:
    """Return, for each pair, how many cells are nearer to the first embedding than the cell of the second."""
    cell_T = (second_TD @ centres_KD.T).argmax(1)
    cosine_TK = first_TD @ centres_KD.T
    return np.asarray((cosine_TK > np.take_along_axis(cosine_TK, cell_T[:, None], 1)).sum(1))
