"""Retrieval both ways, against numbers worked out by hand; scores that tell nothing find nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from openxclip.evaluation.retrieval import retrieval_metrics, text_to_video_ranks, video_to_text_ranks


def test_one_text_a_video_by_hand() -> None:
    similarity = [[0.9, 0.1, 0.2], [0.8, 0.7, 0.1], [0.3, 0.2, 0.1]]
    assert text_to_video_ranks(similarity, [0, 1, 2]).tolist() == [0, 1, 2]
    assert video_to_text_ranks(similarity, [0, 1, 2]).tolist() == [0, 0, 2]  # the last ties with text 1
    metrics = retrieval_metrics(similarity, [0, 1, 2])
    assert metrics["text_to_video"] == {"R@1": pytest.approx(1 / 3), "MdR": 2.0}
    assert metrics["video_to_text"] == {"R@1": pytest.approx(2 / 3), "MdR": 1.0}


def test_several_texts_a_video_by_hand() -> None:
    similarity = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.7, 0.6], [0.3, 0.4]])
    of = [0, 0, 1, 1]
    assert text_to_video_ranks(similarity, of).tolist() == [1, 0, 1, 0]
    assert video_to_text_ranks(similarity, of).tolist() == [0, 1]  # by the best of a video's texts
    metrics = retrieval_metrics(similarity, of)
    assert metrics == {"text_to_video": {"R@1": 0.5, "MdR": 1.5}, "video_to_text": {"R@1": 0.5, "MdR": 1.5}}


def test_a_perfect_model() -> None:
    metrics = retrieval_metrics(np.eye(20), np.arange(20))
    for way in metrics.values():
        assert way == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "MdR": 1.0}


@pytest.mark.parametrize("texts", [1, 3])
@pytest.mark.parametrize("videos", [2, 6, 11, 50])
def test_constant_scores_are_never_better_than_chance(videos: int, texts: int) -> None:
    of = np.repeat(np.arange(videos), texts)
    metrics = retrieval_metrics(np.full((len(of), videos), 0.3), of)
    for way, wrong in (("text_to_video", videos - 1), ("video_to_text", (videos - 1) * texts)):
        recalls = {name: value for name, value in metrics[way].items() if name != "MdR"}
        assert set(recalls) == {f"R@{k}" for k in (1, 5, 10) if k <= wrong}
        assert set(recalls.values()) == {0.0}
        assert metrics[way]["MdR"] == wrong + 1


def test_one_constant_direction_is_no_better_either() -> None:
    """Scores of a model whose texts have all become one: each video has one score for all of them, and is not found."""
    similarity = np.tile(np.random.default_rng(0).random(30), (30, 1))
    metrics = retrieval_metrics(similarity, np.arange(30))
    assert metrics["text_to_video"]["R@1"] == pytest.approx(1 / 30)
    assert metrics["video_to_text"] == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "MdR": 30.0}


def test_order_does_not_matter() -> None:
    draw = np.random.default_rng(3)
    similarity, of = draw.integers(0, 9, size=(40, 12)).astype(float), np.arange(40) % 12
    texts, videos = draw.permutation(40), draw.permutation(12)
    shuffled = similarity[texts][:, videos]
    assert retrieval_metrics(similarity, of) == retrieval_metrics(shuffled, np.argsort(videos)[of[texts]])


def test_ranks_are_those_of_a_sort_with_the_match_last_of_its_equals() -> None:
    similarity, of = np.random.default_rng(4).integers(0, 5, size=(60, 15)), np.arange(60) % 15
    for text, (row, own) in enumerate(zip(similarity, of, strict=True)):
        order = sorted(range(15), key=lambda video, row=row, own=own: (-row[video], video == own))  # type: ignore[misc]
        assert text_to_video_ranks(similarity, of)[text] == order.index(own)


@pytest.mark.parametrize(
    ("similarity", "of", "said"),
    [
        ([[1.0, math.nan], [0.0, 1.0]], [0, 1], "scores of text 0 have a NaN"),
        ([[1.0, 0.0], [0.0, 1.0]], [0, 2], "indices of the 2 videos, from 0 to 1"),
        ([[1.0, 0.0], [0.0, 1.0]], [0, -1], "indices of the 2 videos"),
        ([[1.0, 0.0], [0.0, 1.0]], [0.0, 1.0], "indices of the 2 videos"),
        ([[1.0, 0.0], [0.0, 1.0]], [0, 0], "video 1 has no text"),
        ([[1.0, 0.0], [0.0, 1.0]], [0], r"must be \(texts, videos\) and \(texts,\)"),
        (np.empty((0, 2)), [], "one or more of each"),
        ([[1.0], [0.5]], [0, 0], "one video only"),
    ],
)
def test_what_cannot_be(similarity: Any, of: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        retrieval_metrics(similarity, of)
