"""Measure segments against annotated moments.

The rules are those of two public evaluations:

- ActivityNet's (Caba Heilbron et al., CVPR 2015; `eval_detection.py`): the average precision of a label over all
  videos. Segments are taken by falling score. Each takes the moment of its video with the highest tIoU that is free,
  and is right if that tIoU reaches the level. Precision is interpolated as in Pascal VOC.
- QVHighlights' (Lei et al., NeurIPS 2021, arXiv 2107.09609; `standalone_eval/eval.py`): R1, and the average precision
  of each query in its own video.

tIoU (temporal intersection over union) is the duration that two spans share, divided by the duration that they cover.
Shapes: N moments, M segments, L levels of tIoU; a span is a pair of start and end, in seconds.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

DETECTION_LEVELS = (0.3, 0.5, 0.7)
RETRIEVAL_LEVELS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # 0.5 to 0.95, as in QVHighlights
MAX_PER_QUERY = 10  # segments of a query that count, as in QVHighlights
VERY_GOOD = 4  # the lowest rating of a clip that counts for HIT@1, as in QVHighlights' HL-min-VeryGood


class Found(NamedTuple):
    """Segments of one label in one video.

    Attributes:
        spans: starts and ends, in seconds, (M, 2).
        scores: their scores, (M,).
    """

    spans: Floats
    scores: Floats

    @classmethod
    def of(cls, spans: ArrayLike, scores: ArrayLike) -> Found:
        """Return the segments with these spans (M, 2) and scores (M,)."""
        return cls(as_spans(spans), np.asarray(scores, np.float64).reshape(-1))


NOTHING = Found(np.zeros((0, 2)), np.zeros(0))


class Counts(NamedTuple):
    """How many segments and moments belong together, for precision, recall and F1.

    Attributes:
        matched: number of pairs of a segment and a moment.
        found: number of segments.
        true: number of moments.
    """

    matched: int
    found: int
    true: int

    @property
    def precision(self) -> float:
        """Share of the segments that are right; NaN without segments."""
        return self.matched / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """Share of the moments that were found; NaN without moments."""
        return self.matched / self.true if self.true else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN without segments and moments."""
        return 2 * self.matched / (self.found + self.true) if self.found + self.true else float("nan")


def as_spans(spans: ArrayLike) -> Floats:
    """Return spans as float64 of shape (N, 2); an empty list has N = 0."""
    return np.asarray(spans, np.float64).reshape(-1, 2)


def tiou(spans_M2: ArrayLike, others_N2: ArrayLike) -> Floats:
    """Return the temporal intersection over union of each pair of spans, (M, N); 0 for two spans without duration."""
    first_M12, second_1N2 = as_spans(spans_M2)[:, None], as_spans(others_N2)[None]
    shared_MN = np.minimum(first_M12[..., 1], second_1N2[..., 1]) - np.maximum(first_M12[..., 0], second_1N2[..., 0])
    shared_MN = shared_MN.clip(min=0)
    all_MN = (first_M12[..., 1] - first_M12[..., 0]) + (second_1N2[..., 1] - second_1N2[..., 0]) - shared_MN
    result: Floats = np.divide(shared_MN, all_MN, out=np.zeros_like(shared_MN), where=all_MN > 0)
    return result


def match(found_M2: ArrayLike, true_N2: ArrayLike, level: float = 0.5) -> list[tuple[int, int]]:
    """Pair segments with moments of the same label and video, one to one, the pairs of the highest tIoU first.

    Args:
        found_M2, true_N2: spans of the segments and of the moments.
        level: lowest tIoU of a pair.

    Returns:
        Pairs of the numbers of a segment and a moment, by falling tIoU.
    """
    tiou_MN = tiou(found_M2, true_N2)
    found, true = np.nonzero((tiou_MN >= level) & (tiou_MN > 0))
    order = np.argsort(-tiou_MN[found, true], kind="stable")
    pairs: list[tuple[int, int]] = []
    used_found, used_true = set[int](), set[int]()
    for m, n in zip(found[order].tolist(), true[order].tolist(), strict=True):
        if m not in used_found and n not in used_true:
            used_found.add(m)
            used_true.add(n)
            pairs.append((m, n))
    return pairs


def average_precision(
    true: Mapping[Hashable, Floats], found: Mapping[Hashable, Found], levels: Sequence[float]
) -> Floats:
    """Return the average precision of one label at each level of tIoU, (L,); NaN if there are no moments.

    Args:
        true: spans (N, 2) of the moments by video.
        found: segments by video; those of a video without moments are wrong.
        levels: levels of tIoU.
    """
    number = sum(len(spans_N2) for spans_N2 in true.values())
    if not number:
        return np.full(len(levels), np.nan)
    videos = list(found)
    scores = np.concatenate([found[video].scores for video in videos] or [np.zeros(0)])
    places = [(video, m) for video in videos for m in range(len(found[video].scores))]
    tious = {video: tiou(found[video].spans, true[video]) for video in videos if len(true.get(video, ()))}
    is_right = np.zeros((len(levels), len(places)), bool)
    taken = [{video: np.zeros(len(true[video]), bool) for video in tious} for _ in levels]
    for rank, i in enumerate(np.argsort(-scores, kind="stable").tolist()):
        video, m = places[i]
        if video not in tious:
            continue
        tiou_N = tious[video][m]
        for number_of_level, level in enumerate(levels):
            free_N = np.where(taken[number_of_level][video], -1.0, tiou_N)
            best = int(free_N.argmax())
            if free_N[best] >= level:
                taken[number_of_level][video][best] = is_right[number_of_level, rank] = True
    return np.array([_area_below(row, number) for row in is_right])


def _area_below(is_right_M: NDArray[np.bool_], number: int) -> float:
    """Return the area below the interpolated curve of precision over recall, as in Pascal VOC."""
    right_M = is_right_M.cumsum()
    precision_M = right_M / np.arange(1, len(is_right_M) + 1)
    envelope_M = np.maximum.accumulate(precision_M[::-1])[::-1]  # the best precision at this recall or a higher one
    return float(envelope_M[is_right_M].sum() / number)


def frame_average_precision(is_true_F: ArrayLike, scores_F: ArrayLike) -> float:
    """Return the average precision of one label over frames; NaN if it is in no frame.

    It is the sum of precision times the gain of recall over falling scores, without interpolation, as in scikit-learn's
    `average_precision_score`: frames of equal score are taken together.

    Args:
        is_true_F: whether the label's moments include each of F frames.
        scores_F: the label's score in each frame.
    """
    is_true_F, scores_F = np.asarray(is_true_F, bool), np.asarray(scores_F, np.float64)
    if not is_true_F.any():
        return float("nan")
    order = np.argsort(-scores_F, kind="stable")
    right_F, sorted_F = is_true_F[order].cumsum(), scores_F[order]
    last = np.append(np.flatnonzero(np.diff(sorted_F)), len(sorted_F) - 1)  # the last frame of each score
    precision, recall = right_F[last] / (last + 1), right_F[last] / right_F[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def best_tiou(found: Found, true_N2: Floats) -> float:
    """Return the highest tIoU of the segment with the highest score with one of the moments; 0 without segments.

    R1 at a level is the share of queries for which this reaches the level.
    """
    if not len(found.scores) or not len(true_N2):
        return 0.0
    return float(tiou(found.spans[found.scores.argmax()], true_N2).max())


def query_average_precision(found: Found, true_N2: Floats) -> Floats:
    """Return the average precision of one query in its video at each of `RETRIEVAL_LEVELS`, (L,).

    The 10 segments with the highest scores count, as in QVHighlights.
    """
    first = np.argsort(-found.scores, kind="stable")[:MAX_PER_QUERY]
    return average_precision({0: true_N2}, {0: Found(found.spans[first], found.scores[first])}, RETRIEVAL_LEVELS)


def is_hit(scores_C: ArrayLike, ratings_CA: ArrayLike) -> bool:
    """Return whether one of the raters finds the clip with the highest score very good: HIT@1 is the share of these.

    Args:
        scores_C: score of each clip of a video; clips beyond the ratings' are no hit.
        ratings_CA: ratings of C clips by A raters, from 0 to 4; 0 for a clip that wasn't rated.
    """
    best, ratings_CA = int(np.argmax(scores_C)), np.asarray(ratings_CA)
    return best < len(ratings_CA) and bool((ratings_CA[best] >= VERY_GOOD).any())
