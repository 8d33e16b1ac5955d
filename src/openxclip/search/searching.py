"""A search of an index: candidates, their scores, and which of them together are one hit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from openxclip.pipeline import VideoPipeline
from openxclip.recognition.background import BACKGROUND_TEXTS
from openxclip.search.results import Hit
from openxclip.search.scoring import cosines_with_prompts, feature_of, scores_of_rows
from openxclip.search.store import Store
from openxclip.video import VideoSource
from openxclip.video.sampling import Sampling, check_stretch

RERANK = 200
_CANDIDATES = 200  # where nothing is reranked
_MORE = 4  # times as many candidates in each further round
_MOST_CANDIDATES = 100_000
_GROWN_OVER = 3000  # candidates: hits grow over so many of them at least
_SAMPLED = 2048  # windows, about, whose mean embedding stands for the whole index
_LEVEL = 0.5  # of the way from the typical similarity to the best window's, which a neighbour must reach
_TOUCHING_S = 1e-3


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which hits are wanted; the arguments are those of `VideoIndex.search`.

    Raises:
        ValueError: an argument that can't be.
    """

    k: int
    where: str | None
    rerank: int
    per_video: int | None
    min_score: float | None
    min_similarity: float | None
    merge: bool

    def __post_init__(self) -> None:
        if self.k < 1 or self.rerank < 0:
            raise ValueError(f"k={self.k} must be 1 or more, rerank={self.rerank} 0 or more.")
        if self.per_video is not None and self.per_video < 1:
            raise ValueError(f"per_video={self.per_video}: must be 1 or more.")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score={self.min_score}: must be from 0 to 1.")
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise ValueError(f"min_similarity={self.min_similarity}: must be from -1 to 1.")


@dataclass(eq=False, slots=True)
class Window:
    """A candidate.

    Attributes:
        row: the store's, with `embedding` and `patches` where it is reranked.
        similarity: the cosine that orders candidates: with prompts where it is reranked.
        reranked: whether it is.
        score: the text's share against the neutral texts; None until it is asked for.
    """

    row: dict[str, Any]
    similarity: float
    reranked: bool
    score: float | None = None

    @property
    def plain(self) -> float:
        """The cosine without prompts."""
        return float(self.row["similarity"])

    @property
    def length(self) -> float:
        """In seconds."""
        return float(self.row["end"] - self.row["start"])


@dataclass(frozen=True)
class Stretch:
    """Neighbouring windows of one video.

    Attributes:
        best: of them.
        start, end: in seconds.
        windows: how many they are.
        level: the plain similarity that a neighbour needs to become part of it.
    """

    best: Window
    start: float
    end: float
    windows: int
    level: float

    @property
    def video(self) -> int:
        """The store's id of the video."""
        return int(self.best.row["video"])

    def hit(self) -> Hit:
        """As it is returned."""
        best, row = self.best, self.best.row
        return Hit(
            path=row["path"],
            start=self.start,
            end=self.end,
            best_start=row["start"],
            best_end=row["end"],
            windows=self.windows,
            duration=row["duration"],
            score=best.score,
            similarity=best.similarity,
            reranked=best.reranked,
        )


def check_query(
    text: str | None, video: VideoSource | None, start: float | None, end: float | None, min_score: float | None
) -> None:
    """Refuse what can't be searched for.

    Raises:
        ValueError: not one of text and video, an empty text, an argument that the other kind of search takes.
    """
    if (text is None) == (video is None):
        raise ValueError("search for a text or for a video: give one of them.")
    if text is not None and not text.strip():
        raise ValueError("the text to search for is empty.")
    if video is None and (start is not None or end is not None):
        raise ValueError("start and end are the part of a video to search for: give video= too.")
    if video is not None and min_score is not None:
        raise ValueError(
            f"min_score={min_score}: a search by video has no score, because it has no text: use min_similarity."
        )
    check_stretch(start, end)


class Searcher:
    """Searches one index with its model.

    Args:
        store: of the index.
        pipeline: the model of the index.
        num_frames, sampling: of a clip that is searched for.
        patches: whether the index has what reranking needs.
    """

    def __init__(
        self, store: Store, pipeline: VideoPipeline, *, num_frames: int, sampling: Sampling = "time", patches: bool
    ) -> None:
        self._store, self._pipeline, self._patches = store, pipeline, patches
        self._clip: dict[str, Any] = {"num_frames": num_frames, "sampling": sampling}
        self._mean: tuple[int, NDArray[np.float32]] | None = None  # of how many windows, and their mean embedding

    def by_text(self, text: str, wanted: Wanted) -> list[Hit]:
        """The hits of a text."""
        return self._search(self._pipeline.encode_texts([text, *BACKGROUND_TEXTS]), wanted, is_text=True)

    def by_video(
        self, video: VideoSource, start: float | None, end: float | None, fps: float | None, wanted: Wanted
    ) -> list[Hit]:
        """The hits of a video, or of a part of it; `fps` is of one without times.

        Raises:
            VideoError: it can't be read.
        """
        feature_E = feature_of(self._pipeline, video, start=start, end=end, fps=fps, **self._clip)
        return self._search(feature_E[None], wanted, is_text=False)

    def _search(self, queries_QE: Tensor, wanted: Wanted, *, is_text: bool) -> list[Hit]:
        """The best hits.

        Args:
            queries_QE: what is searched for, then the neutral texts if it is a text.
            wanted: which hits.
            is_text: whether hits have a score.
        """
        there = max(1, self._store.count())
        k, rerank = min(wanted.k, there), min(wanted.rerank, there)
        reranks = is_text and self._patches and rerank > 0
        count = max(k, rerank if reranks else min(_CANDIDATES, there) if wanted.merge else 0)
        unit_E = F.normalize(queries_QE[0].float(), dim=0).cpu().numpy()
        typical = float(unit_E @ self._mean_embedding(there)) if wanted.merge else 0.0
        windows: dict[tuple[int, int], Window] = {}
        found: list[Stretch] = []
        full: list[str] = []
        while True:
            first_round = not windows
            rows = self._store.nearest(unit_E, count, _without(wanted.where, full), patches=reranks and first_round)
            fresh = [row for row in rows if (row["video"], row["number"]) not in windows]
            cosines = [row["similarity"] for row in fresh]
            if reranks and first_round:
                cosines = cosines_with_prompts(self._pipeline, queries_QE[:1], fresh)
            for row, cosine in zip(fresh, cosines, strict=True):
                windows[row["video"], row["number"]] = Window(row, cosine, reranks and first_round)
            stretches = merged(windows.values(), typical) if wanted.merge else singly(windows.values())
            if wanted.min_score is not None:
                self._score(queries_QE, [stretch.best for stretch in stretches])
            before, found = len(found), chosen(stretches, wanted)
            if len(rows) < count or not fresh or count >= _MOST_CANDIDATES:
                break
            lowest = rows[-1]["similarity"]
            may_grow = wanted.merge and count < _GROWN_OVER and any(lowest > stretch.level for stretch in found)
            if not may_grow:
                is_over = wanted.min_score is not None and len(found) == before
                is_over = is_over or (wanted.min_similarity is not None and lowest < wanted.min_similarity)
                if is_over or len(found) >= k:
                    break
                per_video = Counter(stretch.best.row["path"] for stretch in found)
                full = [path for path, number in per_video.items() if number == wanted.per_video]
            count = min(_MORE * count, there, _MOST_CANDIDATES)
        if is_text:
            self._score(queries_QE, [stretch.best for stretch in found])
        return [stretch.hit() for stretch in found]

    def _score(self, texts_KE: Tensor, windows: Sequence[Window]) -> None:
        """Compute the scores that are missing."""
        for is_reranked in (True, False):
            todo = [window for window in windows if window.score is None and window.reranked == is_reranked]
            rows = [window.row for window in todo]
            if not is_reranked:
                self._fetch_embeddings(rows)
            scores = scores_of_rows(self._pipeline, texts_KE, rows, prompts=is_reranked)
            for window, score in zip(todo, scores, strict=True):
                window.score = score

    def _fetch_embeddings(self, rows: Sequence[dict[str, Any]]) -> None:
        """Put the embeddings into rows that were found without them."""
        numbers: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
        for row in rows:
            if "embedding" not in row:
                numbers[row["video"]][row["number"]] = row
        if not numbers:
            return
        where = " OR ".join(
            f"(video = {video} AND number IN ({', '.join(map(str, of_video))}))" for video, of_video in numbers.items()
        )
        for table in self._store.tables(["video", "number", "embedding"], where):
            for read in table.to_pylist():
                numbers[read["video"]][read["number"]]["embedding"] = read["embedding"]

    def _mean_embedding(self, count: int) -> NDArray[np.float32]:
        """(E,), of a sample that is even over videos and over the windows of each: video ids are random."""
        if self._mean is None or self._mean[0] != count:
            step = max(1, count // _SAMPLED)
            total_E, number = np.zeros(self._store.width, np.float64), 0
            where = f"(video % {step} + number) % {step} = 0" if step > 1 else None
            for table in self._store.tables(["embedding"], where):
                embeddings = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
                total_E += embeddings.sum(axis=0, dtype=np.float64)
                number += len(table)
            self._mean = count, (total_E / max(1, number)).astype(np.float32)
        return self._mean[1]


def in_order(windows: Iterable[Window]) -> list[Window]:
    """The best first. What was reranked comes before what wasn't, whose similarity is of another kind."""
    return sorted(windows, key=lambda window: (not window.reranked, -window.similarity))


def singly(windows: Iterable[Window]) -> list[Stretch]:
    """Each window alone, the best first."""
    return [Stretch(window, window.row["start"], window.row["end"], 1, window.plain) for window in in_order(windows)]


def merged(windows: Iterable[Window], typical: float) -> list[Stretch]:
    """Windows put together with their neighbours, the best first.

    From the best window on, each that isn't part of a stretch yet begins one. It grows to both sides over windows that
    touch or overlap it, as long as their plain similarity is at least halfway between `typical` and the best window's.
    A window of which half or more lies in a better one's stretch, without being part of it, is left out.

    Args:
        windows: candidates of any videos.
        typical: the plain similarity of the query and the average window of the index.
    """
    lines: dict[int, list[Window]] = defaultdict(list)
    for window in windows:
        lines[window.row["video"]].append(window)
    for line in lines.values():
        line.sort(key=lambda window: int(window.row["number"]))
    places = {id(window): i for line in lines.values() for i, window in enumerate(line)}
    taken: set[int] = set()
    stretches: list[Stretch] = []
    for best in in_order(window for line in lines.values() for window in line):
        if id(best) in taken:
            continue
        line = lines[best.row["video"]]
        level = typical + _LEVEL * (best.plain - typical)
        start, end, first, last = best.row["start"], best.row["end"], places[id(best)], places[id(best)]
        for i in range(last + 1, len(line)):
            if id(line[i]) in taken or line[i].row["start"] > end + _TOUCHING_S:
                break
            if line[i].plain >= level:
                end, last = max(end, line[i].row["end"]), i
        for i in range(first - 1, -1, -1):
            if id(line[i]) in taken or line[i].row["end"] < start - _TOUCHING_S:
                break
            if line[i].plain >= level:
                start, first = min(start, line[i].row["start"]), i
        taken.update(id(window) for window in line[first : last + 1])
        for i in range(last + 1, len(line)):
            if end - line[i].row["start"] < 0.5 * line[i].length:
                break
            taken.add(id(line[i]))
        for i in range(first - 1, -1, -1):
            if line[i].row["end"] - start < 0.5 * line[i].length:
                break
            taken.add(id(line[i]))
        stretches.append(Stretch(best, start, end, last + 1 - first, level))
    return stretches


def chosen(stretches: Iterable[Stretch], wanted: Wanted) -> list[Stretch]:
    """The first k that meet the conditions; with `min_score`, scores are there."""
    per_video: Counter[int] = Counter()
    found: list[Stretch] = []
    for stretch in stretches:
        best = stretch.best
        if wanted.min_similarity is not None and best.similarity < wanted.min_similarity:
            continue
        if wanted.min_score is not None and (best.score is None or best.score < wanted.min_score):
            continue
        if wanted.per_video is not None and per_video[stretch.video] >= wanted.per_video:
            continue
        per_video[stretch.video] += 1
        found.append(stretch)
        if len(found) == wanted.k:
            break
    return found


def _without(where: str | None, paths: Sequence[str]) -> str | None:
    """The condition that also leaves out videos that have all the hits that they may have."""
    if not paths:
        return where
    listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return f"path NOT IN ({listed})" + ("" if where is None else f" AND ({where})")
