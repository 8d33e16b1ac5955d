"""Choose the windows to label next.

Few labels are worth most on typical windows, and many on uncertain ones. So windows typical of their cluster come first
(TypiClust, Hacohen et al., ICML 2022, arXiv 2202.02794, algorithm 1), and once each class has a label, those whose two
most likely classes differ least in probability. `benchmarks/corrections.py` compares the orders, and when to change.

Legend: N windows, E width of an embedding, K classes, C clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Order = Literal["typical", "margin", "random", "typical, then margin"]
ORDERS: tuple[str, ...] = get_args(Order)

ENOUGH_LABELS = 1  # of each class: from then on what is uncertain teaches more; 2 and 5 were measured, too
_MAX_CLUSTERS = 128  # the paper allows 500, which take longer than a user waits
_NEIGHBOURS = 20  # whose mean distance says how typical a window is, as in the paper
_ROUNDS = 20  # of k-means
_ROWS_AT_ONCE = 4096

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def propose(
    embedding_NE: Floats,
    labelled_N: NDArray[np.bool_],
    probability_NK: Floats,
    count: int,
    *,
    order: Order,
    labels_per_class: Sequence[int],
    enough: int = ENOUGH_LABELS,
    generator: np.random.Generator,
) -> tuple[list[int], Order]:
    """Return the windows to label next, most useful first, and the order that was used to choose them.

    Args:
        embedding_NE: embeddings of the windows, of length 1.
        labelled_N: which windows have a label.
        probability_NK: probability of each class, by the model or a head.
        count: maximum number of windows to return.
        order: how to choose.
        labels_per_class: number of labels of each class so far.
        enough: number of labels that every class needs before "typical, then margin" switches to margin.
        generator: draws random numbers.

    Raises:
        ValueError: the order is unknown, or there are fewer than two classes to compare.
    """
    if order not in ORDERS:
        raise ValueError(f"order={order!r}: must be one of {', '.join(map(repr, ORDERS))}.")
    if order == "typical, then margin":
        has_enough = len(labels_per_class) >= 2 and min(labels_per_class) >= enough
        order = "margin" if has_enough else "typical"
    if order == "typical":
        return most_typical(embedding_NE, labelled_N, count, generator), order
    free = np.flatnonzero(~labelled_N)
    if order == "random":
        return generator.permutation(free)[:count].tolist(), order
    if probability_NK.shape[1] < 2:
        raise ValueError("order='margin': needs two or more classes: name more labels, or choose another order.")
    highest = np.partition(probability_NK[free], -2, axis=1)[:, -2:]
    margin = highest[:, 1] - highest[:, 0]
    return free[np.argsort(margin, kind="stable")][:count].tolist(), order


def most_typical(
    embedding_NE: Floats, labelled_N: NDArray[np.bool_], count: int, generator: np.random.Generator
) -> list[int]:
    """Return the most typical unlabelled window of each of `count` clusters.

    Clusters with the fewest labels come first, and of these the largest. The paper leaves out clusters of fewer than
    five windows. Here they come after larger ones: in a small collection, they may be all there is of a rare event.

    There are as many clusters as there will be labels, so that each has a label at the end.

    Args:
        embedding_NE, labelled_N, count, generator: see `propose`.
    """
    count = min(count, int((~labelled_N).sum()))
    if count == 0:
        return []
    clusters = min(int(labelled_N.sum()) + count, _MAX_CLUSTERS, len(embedding_NE))
    cluster_N = k_means(embedding_NE, clusters, generator)
    size_C = np.bincount(cluster_N, minlength=clusters)
    labels_C = np.bincount(cluster_N[labelled_N], minlength=clusters)
    chosen: list[int] = []
    free_N = ~labelled_N
    while len(chosen) < count:
        left_C = np.bincount(cluster_N[free_N], minlength=clusters)
        best = min(
            np.flatnonzero(left_C).tolist(),
            key=lambda c: (labels_C[c], -size_C[c]),
        )
        members = np.flatnonzero(cluster_N == best)
        free = free_N[members]
        typicality = np.where(free, typicality_of(embedding_NE[members]), -np.inf)
        window = int(members[np.argmax(typicality)])
        chosen.append(window)
        free_N[window] = False
        labels_C[best] += 1
    return chosen


def typicality_of(embedding_NE: Floats) -> Floats:
    """Return the inverse mean distance of each embedding to its nearest neighbours among them, (N,)."""
    neighbours = min(_NEIGHBOURS, len(embedding_NE) - 1)
    if neighbours < 1:
        return np.ones(len(embedding_NE), np.float32)
    mean_N = np.empty(len(embedding_NE), np.float32)
    for start in range(0, len(embedding_NE), _ROWS_AT_ONCE):
        rows = embedding_NE[start : start + _ROWS_AT_ONCE]
        squared = np.maximum(2 - 2 * rows @ embedding_NE.T, 0)  # embeddings have length 1
        nearest = np.partition(squared, neighbours, axis=1)[:, : neighbours + 1]  # with the embedding itself, at 0
        mean_N[start : start + len(rows)] = np.sqrt(nearest).sum(axis=1) / neighbours
    result: Floats = np.reciprocal(np.maximum(mean_N, np.float32(1e-6)), dtype=np.float32)
    return result


def k_means(embedding_NE: Floats, clusters: int, generator: np.random.Generator) -> Ints:
    """Return the cluster of each embedding, (N,), by Lloyd's algorithm from k-means++ centres.

    A cluster may be empty if fewer embeddings differ than there are clusters.

    Args:
        embedding_NE: embeddings of length 1.
        clusters: number of clusters, 1 or more and at most N.
        generator: draws the first centres.
    """
    centre_CE = _spread_centres(embedding_NE, clusters, generator)
    cluster_N = _nearest(embedding_NE, centre_CE)
    for _ in range(_ROUNDS):
        size_C = np.bincount(cluster_N, minlength=clusters)
        used = np.flatnonzero(size_C)
        member_CN = (cluster_N == used[:, None]).astype(np.float32)
        centre_CE[used] = member_CN @ embedding_NE / size_C[used, None]
        before_N, cluster_N = cluster_N, _nearest(embedding_NE, centre_CE)
        if np.array_equal(before_N, cluster_N):
            break
    return cluster_N


def _spread_centres(embedding_NE: Floats, clusters: int, generator: np.random.Generator) -> Floats:
    """Draw centres by k-means++: the further from all centres an embedding is, the likelier it becomes one."""
    chosen = [int(generator.integers(len(embedding_NE)))]
    squared_N = np.full(len(embedding_NE), np.inf, np.float32)
    while len(chosen) < clusters:
        squared_N = np.minimum(squared_N, np.maximum(2 - 2 * embedding_NE @ embedding_NE[chosen[-1]], 0))
        total = np.cumsum(squared_N, dtype=np.float64)
        if total[-1] <= 0:
            break  # all embeddings equal a centre
        chosen.append(int(np.searchsorted(total, generator.random() * total[-1], side="right")))
    return embedding_NE[chosen].copy()


def _nearest(embedding_NE: Floats, centre_CE: Floats) -> Ints:
    half_C = (centre_CE**2).sum(axis=1) / 2
    nearest = [
        np.argmax(embedding_NE[i : i + _ROWS_AT_ONCE] @ centre_CE.T - half_C, axis=1)
        for i in range(0, len(embedding_NE), _ROWS_AT_ONCE)
    ]
    return np.concatenate(nearest)
