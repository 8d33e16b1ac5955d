"""Windows that are proposed to be labelled."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from openxclip.serve.correct.proposals import k_means, most_typical, propose, typicality_of


def clusters(
    sizes: tuple[int, ...], width: int = 16, noise: float = 0.05
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings around one axis for each cluster, and their clusters."""
    draw = np.random.default_rng(0)
    cluster_N = np.repeat(np.arange(len(sizes)), sizes)
    embedding_NE = np.eye(width, dtype=np.float32)[cluster_N]
    embedding_NE += noise * draw.normal(size=embedding_NE.shape).astype(np.float32)
    return embedding_NE / np.linalg.norm(embedding_NE, axis=1, keepdims=True), cluster_N


def generator() -> np.random.Generator:
    return np.random.default_rng(1)


def test_k_means_finds_clusters_that_are_apart() -> None:
    embedding_NE, truth_N = clusters((30, 20, 10, 5))
    found_N = k_means(embedding_NE, 4, generator())
    assert len({(a, b) for a, b in zip(found_N.tolist(), truth_N.tolist(), strict=True)}) == 4


def test_k_means_of_equal_embeddings_ends() -> None:
    same_NE = np.tile(np.eye(4, dtype=np.float32)[0], (6, 1))
    assert set(k_means(same_NE, 3, generator()).tolist()) == {0}


def test_a_window_of_each_cluster_is_typical_the_largest_first() -> None:
    embedding_NE, truth_N = clusters((30, 20, 10))
    chosen = most_typical(embedding_NE, np.zeros(60, bool), 3, generator())
    assert truth_N[chosen].tolist() == [0, 1, 2]


def test_clusters_without_labels_come_first() -> None:
    embedding_NE, truth_N = clusters((30, 20, 10))
    labelled_N = np.zeros(60, bool)
    labelled_N[[0, 30]] = True  # one of each large cluster
    assert truth_N[most_typical(embedding_NE, labelled_N, 1, generator())].tolist() == [2]


def test_a_rare_kind_of_window_is_found_before_common_ones_come_again() -> None:
    embedding_NE, truth_N = clusters((30, 20, 2))
    labelled_N = np.zeros(52, bool)
    labelled_N[[0, 30]] = True
    assert truth_N[most_typical(embedding_NE, labelled_N, 1, generator())].tolist() == [2]


def test_a_typical_window_is_near_others() -> None:
    embedding_NE, _ = clusters((20, 1))
    typicality_N = typicality_of(embedding_NE)
    assert typicality_N.argmin() == 20


@pytest.mark.parametrize("order", ["typical", "margin", "random", "typical, then margin"])
def test_every_window_is_proposed_once_and_no_labelled_one(order: str) -> None:
    embedding_NE, _ = clusters((6, 4))
    labelled_N = np.zeros(10, bool)
    labelled_N[[1, 7]] = True
    chosen, _ = propose(
        embedding_NE, labelled_N, np.full((10, 2), 0.5, np.float32), 100,
        order=order, labels_per_class=[1, 1], generator=generator(),  # type: ignore[arg-type]
    )  # fmt: skip
    assert sorted(chosen) == [0, 2, 3, 4, 5, 6, 8, 9]


def test_the_least_certain_window_comes_first() -> None:
    probability_NK = np.array([[0.9, 0.1, 0], [0.4, 0.35, 0.25], [0.5, 0.1, 0.4], [0.34, 0.33, 0.33]], np.float32)
    labelled_N = np.array([False, False, False, True])
    chosen, order = propose(
        clusters((4,))[0], labelled_N, probability_NK, 2,
        order="margin", labels_per_class=[], generator=generator(),
    )  # fmt: skip
    assert (chosen, order) == ([1, 2], "margin")


@pytest.mark.parametrize(
    ("labels", "order"), [([9, 0], "typical"), ([9, 1], "margin"), ([9], "typical"), ([], "typical")]
)
def test_margins_count_once_each_class_has_a_label(labels: list[int], order: str) -> None:
    embedding_NE, _ = clusters((4, 4))
    _, used = propose(
        embedding_NE, np.zeros(8, bool), np.full((8, 2), 0.5, np.float32), 1,
        order="typical, then margin", labels_per_class=labels, generator=generator(),
    )  # fmt: skip
    assert used == order


def test_nothing_is_left_to_propose() -> None:
    embedding_NE, _ = clusters((3,))
    assert most_typical(embedding_NE, np.ones(3, bool), 2, generator()) == []


@pytest.mark.parametrize(("order", "classes"), [("margin", 1), ("best", 2)])
def test_what_can_not_be_honoured_is_refused(order: str, classes: int) -> None:
    with pytest.raises(ValueError, match="order="):
        propose(
            clusters((3,))[0], np.zeros(3, bool), np.ones((3, classes), np.float32), 1,
            order=order, labels_per_class=[9], generator=generator(),  # type: ignore[arg-type]
        )  # fmt: skip
