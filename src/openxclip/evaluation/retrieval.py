"""Text-video retrieval: how far down a list of videos a text's own is found, and the other way.

Shapes: K texts, V videos; a video has one text or several. Measures and their names are those of the field: R@k, the
share of queries whose match is among the first k; MdR, the median rank of the match, 1 being the best.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.evaluation.metrics import Numbers, as_array

RECALLS_AT = (1, 5, 10)


def text_to_video_ranks(similarity_KV: Numbers, video_of_text_K: Numbers) -> NDArray[np.int64]:
    """For each text, how many of the wrong videos come before its own.

    Equal scores count against the match: the wrong videos of a score as high all come before it. So scores that tell
    nothing (constant ones, of a model that has collapsed) find nothing, as they would not in most ways to sort.

    Args:
        similarity_KV: the greater, the better a text and a video fit.
        video_of_text_K: index of the video that each text belongs to. Every video must have a text.

    Returns:
        (K,) int64, 0 for the best.

    Raises:
        ValueError: shapes don't fit, a score is NaN, an index is no video, or a video has no text.
    """
    similarity_KV, video_of_text_K = _checked(similarity_KV, video_of_text_K)
    own_K1 = np.take_along_axis(similarity_KV, video_of_text_K[:, None], axis=1)
    ranks: NDArray[np.int64] = (similarity_KV >= own_K1).sum(axis=1) - 1  # one of them is its own
    return ranks


def video_to_text_ranks(similarity_KV: Numbers, video_of_text_K: Numbers) -> NDArray[np.int64]:
    """For each video, how many of the texts of other videos come before the best of its own.

    Args:
        similarity_KV, video_of_text_K: see `text_to_video_ranks`, which also says what happens to equal scores.

    Returns:
        (V,) int64, 0 for the best.

    Raises:
        ValueError: as `text_to_video_ranks`.
    """
    similarity_KV, video_of_text_K = _checked(similarity_KV, video_of_text_K)
    is_own_KV = video_of_text_K[:, None] == np.arange(similarity_KV.shape[1])
    best_V = np.where(is_own_KV, similarity_KV, -np.inf).max(axis=0)
    ranks: NDArray[np.int64] = ((similarity_KV >= best_V) & ~is_own_KV).sum(axis=0)
    return ranks


def retrieval_metrics(similarity_KV: Numbers, video_of_text_K: Numbers) -> dict[str, dict[str, float]]:
    """R@1, R@5, R@10 and MdR, both ways.

    An R@k that no scores could miss is left out: where there are fewer than k wrong candidates, it is always 1.

    Args:
        similarity_KV, video_of_text_K: see `text_to_video_ranks`.

    Returns:
        `{"text_to_video": {"R@1": …, "R@5": …, "R@10": …, "MdR": …}, "video_to_text": {…}}`, shares from 0 to 1.

    Raises:
        ValueError: as `text_to_video_ranks`, or there is one video only.
    """
    _, of_text_K = _checked(similarity_KV, video_of_text_K)
    texts_of_V = np.bincount(of_text_K)
    if len(texts_of_V) < 2:
        raise ValueError("there is one video only: retrieval needs two or more to choose from.")
    return {
        "text_to_video": _measures(text_to_video_ranks(similarity_KV, of_text_K), len(texts_of_V) - 1),
        "video_to_text": _measures(
            video_to_text_ranks(similarity_KV, of_text_K), int(len(of_text_K) - texts_of_V.max())
        ),
    }


def _measures(ranks_Q: NDArray[np.int64], wrong: int) -> dict[str, float]:
    """Of queries that have `wrong` candidates or more beside the right ones."""
    measures = {f"R@{k}": float((ranks_Q < k).mean()) for k in RECALLS_AT if k <= wrong}
    return {**measures, "MdR": float(np.median(ranks_Q)) + 1}


def _checked(similarity_KV: Numbers, video_of_text_K: Numbers) -> tuple[NDArray[Any], NDArray[np.int64]]:
    similarity_KV, of_text_K = as_array(similarity_KV), as_array(video_of_text_K)
    if similarity_KV.ndim != 2 or of_text_K.shape != similarity_KV.shape[:1] or not similarity_KV.size:
        raise ValueError(
            f"similarity of {similarity_KV.shape} and video_of_text of {of_text_K.shape}: must be (texts, videos) and "
            "(texts,), one or more of each."
        )
    videos = similarity_KV.shape[1]
    if not np.issubdtype(of_text_K.dtype, np.integer) or of_text_K.min() < 0 or of_text_K.max() >= videos:
        raise ValueError(f"video_of_text must hold indices of the {videos} videos, from 0 to {videos - 1}.")
    of_text_K = of_text_K.astype(np.int64)
    without = np.bincount(of_text_K, minlength=videos) == 0
    if without.any():
        raise ValueError(f"video {int(without.argmax())} has no text: leave it out.")
    broken = np.isnan(similarity_KV).any(axis=1)
    if broken.any():
        raise ValueError(f"the scores of text {int(broken.argmax())} have a NaN, so they have no order.")
    return similarity_KV, of_text_K
