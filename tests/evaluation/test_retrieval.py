"""Retrieval metrics in both directions against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from openxclip.evaluation.retrieval import retrieval_metrics, text_to_video_ranks, video_to_text_ranks


def test_one_text_a_video_by_hand() -> None:
    similarity, of = np.array([[0.9, 0.1, 0.2], [0.8, 0.7, 0.1], [0.3, 0.2, 0.1]]), np.arange(3)
    assert text_to_video_ranks(similarity, of).tolist() == [0, 1, 2]
    assert video_to_text_ranks(similarity, of).tolist() == [0, 0, 2]  # the last ties with text 1
    metrics = retrieval_metrics(similarity, of)
    assert metrics["text_to_video"] == {"R@1": pytest.approx(1 / 3), "MdR": 2.0}
    assert metrics["video_to_text"] == {"R@1": pytest.approx(2 / 3), "MdR": 1.0}


def test_several_texts_a_video_by_hand() -> None:
    similarity = np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.6], [0.3, 0.4]])
    of = np.array([0, 0, 1, 1])
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


def test_equal_texts_are_no_better_than_chance() -> None:
    """If all texts have collapsed into one, each video has the same score for all of them and isn't found."""
    similarity = np.tile(np.random.default_rng(0).random(30), (30, 1))
    metrics = retrieval_metrics(similarity, np.arange(30))
    assert metrics["text_to_video"]["R@1"] == pytest.approx(1 / 30)
    assert metrics["video_to_text"] == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "MdR": 30.0}


def test_the_order_of_texts_and_videos_doesnt_matter() -> None:
    draw = np.random.default_rng(3)
    similarity, of = draw.integers(0, 9, size=(40, 12)).astype(float), np.arange(40) % 12
    texts, videos = draw.permutation(40), draw.permutation(12)
    shuffled = similarity[texts][:, videos]
    assert retrieval_metrics(similarity, of) == retrieval_metrics(shuffled, np.argsort(videos)[of[texts]])


def test_ranks_match_a_sort_that_puts_the_match_after_equal_scores() -> None:
    similarity, of = np.random.default_rng(4).integers(0, 5, size=(60, 15)), np.arange(60) % 15
    for text, (row, own) in enumerate(zip(similarity, of, strict=True)):
        order = sorted(range(15), key=lambda video, row=row, own=own: (-row[video], video == own))  # type: ignore[misc]
        assert text_to_video_ranks(similarity, of)[text] == order.index(own)


@pytest.mark.parametrize(
    ("similarity", "of", "message"),
    [
        ([[1.0, math.nan], [0.0, 1.0]], [0, 1], "scores of text 0 contain NaN"),
        ([[1.0, 0.0], [0.0, 1.0]], [0, 2], "indices of the 2 videos, from 0 to 1"),
        ([[1.0, 0.0], [0.0, 1.0]], [0, -1], "indices of the 2 videos"),
        ([[1.0, 0.0], [0.0, 1.0]], [0.0, 1.0], "indices of the 2 videos"),
        ([[1.0, 0.0], [0.0, 1.0]], [0, 0], "video 1 has no text"),
        ([[1.0, 0.0], [0.0, 1.0]], [0], r"must be \(texts, videos\) and \(texts,\)"),
        (np.empty((0, 2)), [], "one or more of each"),
        ([[1.0], [0.5]], [0, 0], "only one video"),
    ],
)
def test_invalid_input_is_refused(similarity: Any, of: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(similarity, of)
