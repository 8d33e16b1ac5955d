"""Search an index: find candidate windows, rerank and score them, and merge them into hits."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from openxclip.common.counting import counted
from openxclip.pipeline import VideoPipeline
from openxclip.search.moments import (
    Moment,
    SearchOptions,
    Window,
    keep_places,
    merge_neighbours,
    select_moments,
    separate_moments,
)
from openxclip.search.rereading import add_patches
from openxclip.search.results import Hit
from openxclip.search.schema import IndexInfo, embeddings_of
from openxclip.search.scoring import cosines_with_prompts, score_rows
from openxclip.search.store import Store
from openxclip.video import ClipPlan, ReadOptions, VideoSource
from openxclip.video.sampling import check_part

RERANK = 200
_CANDIDATES = 200  # candidates of the first round without reranking
_GROWTH = 4  # each further round has this many times as many candidates
_MAX_CANDIDATES = 100_000
_GROWING_CANDIDATES = 3000  # with fewer candidates, a further round may be fetched only to let hits grow
_SAMPLE = 2048  # approximate number of windows whose mean embedding represents the index


def check_query(
    text: str | None,
    video: VideoSource | None,
    start: float | None,
    end: float | None,
    min_score: float | Literal["auto"] | None,
) -> None:
    """Check what to search for; see `VideoIndex.search` for the arguments.

    Raises:
        ValueError: both or neither of text and video are given, the text is empty, or an argument belongs to the other
            kind of search.
    """
    if (text is None) == (video is None):
        raise ValueError("search for a text or for a video: give one of them.")
    if text is not None and not text.strip():
        raise ValueError("the text to search for is empty.")
    if video is None and (start is not None or end is not None):
        raise ValueError("start and end select a part of the video to search for: give video= too.")
    if video is not None and min_score is not None:
        raise ValueError(
            f"min_score={min_score}: a search by video has no score, because it has no text: use min_similarity."
        )
    check_part(start, end)


class Searcher:
    """Searches one index with its model."""

    def __init__(self, store: Store, pipeline: VideoPipeline, info: IndexInfo) -> None:
        self._store, self._pipeline, self._info = store, pipeline, info
        self._mean: tuple[int, NDArray[np.float32]] | None = None  # number of windows, and their mean embedding

    def by_text(self, text: str, options: SearchOptions) -> list[Hit]:
        """Search for a text."""
        texts = [text, *self._pipeline.contract.neutral_texts]
        return self._search(self._pipeline.encode_texts(texts), options, is_text=True)

    def by_video(
        self,
        video: VideoSource,
        options: SearchOptions,
        *,
        start: float | None = None,
        end: float | None = None,
        read: ReadOptions | None = None,
    ) -> list[Hit]:
        """Search for a part of a video, which is read as one clip.

        Raises:
            VideoError: the video can't be read.
        """
        plan = ClipPlan(num_frames=self._info.num_frames, sampling=self._info.sampling, start=start, end=end)
        (encoded,) = self._pipeline.encode_videos([video], plan, read=read)
        if encoded.error is not None:
            raise encoded.error
        assert encoded.features is not None
        return self._search(encoded.features.pooled, options, is_text=False)

    def _search(self, queries_QE: Tensor, options: SearchOptions, *, is_text: bool) -> list[Hit]:
        """Fetch more and more candidates in rounds, until more would not change the hits.

        Args:
            queries_QE: features of the query; if it is a text, then features of the neutral texts.
            options: which hits to return.
            is_text: whether the query is a text, so that hits get a score.
        """
        num_windows = max(1, self._store.count_windows())
        k = min(options.k, num_windows)
        rerank = options.rerank
        if rerank is None:
            rerank = RERANK if self._info.patches else 0
        reranks = is_text and rerank > 0
        unranked = _CANDIDATES if options.merge else k
        count = max(k, min(rerank if reranks else unranked, num_windows))
        unit_E = F.normalize(queries_QE[0].float(), dim=0).cpu().numpy()
        typical = float(unit_E @ self._mean_embedding(num_windows)) if options.merge else 0.0

        windows: dict[tuple[int, int], Window] = {}
        moments: list[Moment] = []
        full_videos: list[str] = []  # paths of videos with all their `per_video` hits, which need no more candidates
        while True:
            reranks_now = reranks and not windows  # only in the first round
            where = _exclude_videos(options.where, full_videos)
            rows = self._store.nearest(unit_E, count, where, patches=reranks_now)
            new = [row for row in rows if (row["video"], row["number"]) not in windows]
            found = (
                self._rerank(queries_QE[:1], new)
                if reranks_now
                else [Window(row, row["similarity"], False) for row in new]
            )
            windows.update(((window.row["video"], window.row["number"]), window) for window in found)

            all_moments = (
                merge_neighbours(windows.values(), typical) if options.merge else separate_moments(windows.values())
            )
            if options.min_score is not None:
                self._score(queries_QE, [moment.best for moment in all_moments])
            num_before, moments = len(moments), select_moments(all_moments, options)
            if len(rows) < count or not new or count >= _MAX_CANDIDATES:
                break
            lowest = rows[-1]["similarity"]
            is_early = options.merge and count < _GROWING_CANDIDATES
            can_grow = is_early and any(lowest > moment.level for moment in moments)
            if not can_grow:
                is_score_too_low = options.min_score is not None and len(moments) == num_before
                is_too_dissimilar = options.min_similarity is not None and lowest < options.min_similarity
                if is_score_too_low or is_too_dissimilar or len(moments) >= k:
                    break
                hits_per_video = Counter(moment.best.row["path"] for moment in moments)
                full_videos = [path for path, number in hits_per_video.items() if number == options.per_video]
            count = min(_GROWTH * count, num_windows, _MAX_CANDIDATES)
        if is_text:
            self._score(queries_QE, [moment.best for moment in moments])
        return [moment.hit() for moment in moments]

    def _rerank(self, text_1E: Tensor, rows: Sequence[dict[str, Any]]) -> list[Window]:
        """Return windows with their cosines with prompts, in the order of the rows, which is that of plain cosines.

        Patches that the index doesn't have are computed again. A window whose video can't be read keeps its place.
        """
        without = [row for row in rows if row["patches"] is None]
        errors = add_patches(self._store, self._pipeline, self._info, without) if without else {}
        ranked = [row for row in rows if row["patches"] is not None]
        cosines = dict(zip(map(id, ranked), cosines_with_prompts(self._pipeline, text_1E, ranked), strict=True))
        windows = [Window(row, cosines.get(id(row), row["similarity"]), id(row) in cosines) for row in rows]
        if errors:
            left = len(rows) - len(ranked)
            warnings.warn(
                f"{left} of {counted(len(rows), 'candidate')} could not be read again and kept "
                f"{'its' if left == 1 else 'their'} place without prompts: {next(iter(errors.values()))}.",
                RuntimeWarning,
                stacklevel=5,  # the caller of `VideoIndex.search`
            )
            keep_places(windows)
        return windows

    def _score(self, texts_KE: Tensor, windows: Sequence[Window]) -> None:
        """Compute missing scores."""
        for reranked in (True, False):
            unscored = [window for window in windows if window.score is None and window.reranked == reranked]
            rows = [window.row for window in unscored]
            if not reranked:
                self._load_embeddings(rows)
            scores = score_rows(self._pipeline, texts_KE, rows, prompts=reranked)
            for window, score in zip(unscored, scores, strict=True):
                window.score = score

    def _load_embeddings(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add the embeddings to rows that were read without them."""
        videos: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
        for row in rows:
            if "embedding" not in row:
                videos[row["video"]][row["number"]] = row
        if not videos:
            return
        where = " OR ".join(
            f"(video = {video} AND number IN ({', '.join(map(str, of_video))}))" for video, of_video in videos.items()
        )
        for table in self._store.read_windows(["video", "number", "embedding"], where):
            for values in table.to_pylist():
                videos[values["video"]][values["number"]]["embedding"] = values["embedding"]

    def _mean_embedding(self, count: int) -> NDArray[np.float32]:
        """Return the mean embedding (E,) of a sample of all videos, whose ids are random, and of all their windows."""
        if self._mean is None or self._mean[0] != count:
            step = max(1, count // _SAMPLE)
            total_E, number = np.zeros(self._store.width, np.float64), 0
            where = f"(video % {step} + number) % {step} = 0" if step > 1 else None
            for table in self._store.read_windows(["embedding"], where):
                total_E += embeddings_of(table).sum(axis=0, dtype=np.float64)
                number += len(table)
            self._mean = count, (total_E / max(1, number)).astype(np.float32)
        return self._mean[1]


def _exclude_videos(where: str | None, paths: Sequence[str]) -> str | None:
    """Return a condition that also excludes these videos."""
    if not paths:
        return where
    listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return f"path NOT IN ({listed})" + ("" if where is None else f" AND ({where})")
