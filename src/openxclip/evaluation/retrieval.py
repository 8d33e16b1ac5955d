"""Compute text-video retrieval metrics, in both directions.

R@k is the share of queries whose match is among the first k; MdR is the median rank of the match, counted from 1.

Shapes: K texts, V videos; a video has one or more texts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RECALLS_AT = (1, 5, 10)


def retrieval_metrics(similarity_KV: ArrayLike, video_of_text_K: ArrayLike) -> dict[str, dict[str, float]]:
    """Return R@1, R@5, R@10 and MdR in both directions.

    R@k is omitted if there are fewer than k wrong candidates, since it would always be 1.

    Args:
        similarity_KV: scores; higher is better.
        video_of_text_K: index of the video that each text belongs to. Every video must have a text.

    Returns:
        `{"text_to_video": {"R@1": …, "R@5": …, "R@10": …, "MdR": …}, "video_to_text": {…}}`, shares from 0 to 1.

    Raises:
        ValueError: the shapes don't match, a score is NaN, an index is out of range, a video has no text, or there are
            fewer than two videos.
    """
    similarity_KV, of_text_K = np.asarray(similarity_KV), np.asarray(video_of_text_K)
    _check(similarity_KV, of_text_K)
    num_texts, num_videos = similarity_KV.shape
    most_own = int(np.bincount(of_text_K).max())
    return {
        "text_to_video": _summarize(text_to_video_ranks(similarity_KV, of_text_K), num_wrong=num_videos - 1),
        "video_to_text": _summarize(video_to_text_ranks(similarity_KV, of_text_K), num_wrong=num_texts - most_own),
    }


def text_to_video_ranks(similarity_KV: NDArray[np.floating], video_of_text_K: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many wrong videos rank before each text's own video: (K,) int64, 0 for the best.

    Wrong videos with the same score rank first, so a collapsed model, whose scores are all equal, gets no credit.

    Args:
        similarity_KV, video_of_text_K: see `retrieval_metrics`.
    """
    own_K1 = np.take_along_axis(similarity_KV, video_of_text_K[:, None], axis=1)
    ranks: NDArray[np.int64] = (similarity_KV >= own_K1).sum(axis=1) - 1  # its own video doesn't count
    return ranks


def video_to_text_ranks(similarity_KV: NDArray[np.floating], video_of_text_K: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many other videos' texts rank before the best of each video's own texts: (V,) int64, 0 for the best.

    Equal scores are treated as in `text_to_video_ranks`.

    Args:
        similarity_KV, video_of_text_K: see `retrieval_metrics`.
    """
    is_own_KV = video_of_text_K[:, None] == np.arange(similarity_KV.shape[1])
    best_V = np.where(is_own_KV, similarity_KV, -np.inf).max(axis=0)
    ranks: NDArray[np.int64] = ((similarity_KV >= best_V) & ~is_own_KV).sum(axis=0)
    return ranks


def _summarize(ranks_Q: NDArray[np.int64], *, num_wrong: int) -> dict[str, float]:
    """Return R@k and MdR of queries from their ranks; each query has at least `num_wrong` wrong candidates."""
    recalls = {f"R@{k}": float((ranks_Q < k).mean()) for k in RECALLS_AT if k <= num_wrong}
    return {**recalls, "MdR": float(np.median(ranks_Q)) + 1}


def _check(similarity_KV: NDArray[np.generic], of_text_K: NDArray[np.generic]) -> None:
    if similarity_KV.ndim != 2 or of_text_K.shape != similarity_KV.shape[:1] or not similarity_KV.size:
        raise ValueError(
            f"similarity has shape {similarity_KV.shape} and video_of_text {of_text_K.shape}: the shapes must be "
            "(texts, videos) and (texts,), with one or more of each."
        )
    num_videos = similarity_KV.shape[1]
    if num_videos < 2:
        raise ValueError("there is only one video: retrieval needs two or more to choose from.")
    if not np.issubdtype(of_text_K.dtype, np.integer) or not 0 <= of_text_K.min() <= of_text_K.max() < num_videos:
        raise ValueError(f"video_of_text must hold indices of the {num_videos} videos, from 0 to {num_videos - 1}.")
    has_no_text_V = np.bincount(of_text_K, minlength=num_videos) == 0
    if has_no_text_V.any():
        raise ValueError(f"video {int(has_no_text_V.argmax())} has no text: remove it.")
    has_nan_K = np.isnan(similarity_KV).any(axis=1)
    if has_nan_K.any():
        raise ValueError(f"the scores of text {int(has_nan_K.argmax())} contain NaN, so they can't be ranked.")
