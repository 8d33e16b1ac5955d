"""`VideoIndex`: opened, searched and looked through for copies; `contents` has how its videos are changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from openxclip.common.files import target_path
from openxclip.engine import Precision
from openxclip.pipeline import VideoPipeline
from openxclip.search.compared import Videos
from openxclip.search.contents import WINDOW_S, IndexContents, check_wanted
from openxclip.search.duplicates import MIN_SIMILARITY, OVERLAP, DuplicateGroup, Keep, find_duplicates
from openxclip.search.not_duplicates import NotDuplicates
from openxclip.search.results import Hit
from openxclip.search.schema import sampling_of
from openxclip.search.searching import RERANK, Searcher, Wanted, check_query
from openxclip.search.store import Store
from openxclip.video import VideoSource
from openxclip.video.clips import ClipPlan
from openxclip.video.sampling import Sampling


class VideoIndex(IndexContents):
    """An index of the windows of many videos; see `open`."""

    _searcher: Searcher | None = None

    @classmethod
    def open(
        cls,
        uri: str | Path,
        *,
        model: str | Path | VideoPipeline | None = None,
        window: float | None = None,
        stride: float | None = None,
        num_frames: int | None = None,
        sampling: Sampling | None = None,
        patches: bool | None = None,
        device: torch.device | str | None = None,
        precision: Precision | None = None,
    ) -> VideoIndex:
        """An index that is there, or one that the first `add` makes there.

        Args:
            uri: its folder, or another place that LanceDB takes (`s3://…`).
            model: a folder, a hub id, or "mini"; or a loaded pipeline. An index is of one model: of one that is there,
                the model that it is of, by default; a new one's default is that of `VideoPipeline.from_pretrained`.
            window: seconds of a window, default 10; a new index's alone, as the next are.
            stride: seconds from one window to the next, default the window.
            num_frames: frames of a window; default is what the model was trained with.
            sampling: how the frames of a window are chosen, see `openxclip.video.sampling.Timeline`; default "time".
            patches: keep what the prompts are made from, so that hits can be reranked; default True.
            device, precision: see `VideoPipeline.from_pretrained`.

        Raises:
            MissingPackageError: LanceDB isn't installed, or is too old.
            ValueError: an argument that can't be, or that is not the index's.
            VideoIndexError: what is there is no index.
        """
        uri = str(uri)  # a path would make one slash of the two of s3://
        store = Store(uri if "://" in uri or not uri else str(target_path(uri)))
        about = store.open()
        given: dict[str, Any] = {"window": window, "stride": stride, "num_frames": num_frames, "sampling": sampling}
        given = {name: value for name, value in {**given, "patches": patches}.items() if value is not None}
        if about is None:
            ClipPlan(
                num_frames=1 if num_frames is None else num_frames,
                window=WINDOW_S if window is None else window,
                stride=stride,
                sampling=sampling or "time",
            )
        else:
            check_wanted(str(uri), about, given)
        loading = {name: value for name, value in (("device", device), ("precision", precision)) if value is not None}
        return cls(store, about, model, wanted=given, loading=loading)

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        text: str | None = None,
        *,
        video: VideoSource | None = None,
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
        k: int = 10,
        where: str | None = None,
        rerank: int = RERANK,
        per_video: int | None = None,
        min_score: float | None = None,
        min_similarity: float | None = None,
        merge: bool = True,
    ) -> list[Hit]:
        """The moments that are most like a sentence, or like a video, the best first.

        Neighbouring windows of a video are one hit. From its best window, a hit grows to both sides over candidates
        that touch or overlap it. A candidate's similarity must be at least halfway from the average window's
        similarity to the best window's. `docs/search.md` has the details.

        Args:
            text: a sentence.
            video: or a video, as one clip.
            start, end: the part of `video` to search for, in seconds; default is all of it.
            fps: frames per second of a `video` without times, see `VideoReader`.
            k: the most hits to return.
            where: only windows that meet a condition of SQL on `path`, `start`, `end`, `duration`, `size` (bytes) and
                `modified` (nanoseconds since 1970): "duration < 60 and path like '%cam2%'".
            rerank: how many candidates, found by the plain text, are ordered by their cosine with prompts; 0 turns
                prompts off. A search by video isn't reranked, because prompts change texts only.
            per_video: the most hits from one video; None is no limit.
            min_score: only hits of a text with this score or more, from 0 to 1. The search ends when a round of
                candidates brings no such hit.
            min_similarity: only hits with this similarity or more, from -1 to 1.
            merge: False makes each window a hit of its own.

        Raises:
            ValueError: an argument that can't be.
            VideoIndexError: there is no index.
            VideoError: the video can't be read.
        """
        check_query(text, video, start, end, min_score)
        wanted = Wanted(
            k=k,
            where=where,
            rerank=rerank,
            per_video=per_video,
            min_score=min_score,
            min_similarity=min_similarity,
            merge=merge,
        )
        about = self._needed()
        if self._searcher is None:
            self._searcher = Searcher(
                self._store,
                self._ready(),
                num_frames=about["num_frames"],
                sampling=sampling_of(about),
                patches=bool(about["patches"]),
            )
        if text is not None:
            return self._searcher.by_text(text, wanted)
        assert video is not None
        return self._searcher.by_video(video, start, end, fps, wanted)

    def duplicates(
        self,
        *,
        min_similarity: float = MIN_SIMILARITY,
        overlap: float = OVERLAP,
        keep: Keep = "longest",
        not_duplicates: Iterable[tuple[str | Path, str | Path]] = (),
        where: str | None = None,
        on_video: Callable[[], object] = lambda: None,
    ) -> list[DuplicateGroup]:
        """Videos that are copies of others, or parts of them, by their embeddings; the model isn't needed.

        Featureless windows (black, white, frozen) don't count. If files of the index are on this machine, those that
        are gone, have changed since, or are links to another one are left out.

        Args:
            min_similarity: the cosine from which on two windows are similar. What is right depends on the model, and on
                how similar videos are that are no copies.
            overlap: the share of a video's windows that must be similar to one of the other's.
            keep: which video of a group comes first, among those that contain all the others: "longest" (lengths that
                differ by up to 0.25 s are equal), "largest" in bytes, "oldest" by the time of modification, or
                "highest-resolution". The others, in the order longest, highest-resolution, largest, oldest, decide
                between equals.
            not_duplicates: pairs of paths that are never reported as duplicates, now and by later calls: the index
                remembers them.
            where: only windows that meet a condition, as in `search`.
            on_video: called after each video.

        Raises:
            ValueError: an argument is out of its range, or a pair isn't of two videos of the index.
            VideoIndexError: there is no index, or it can't remember a pair.
        """
        self._needed()
        remembered = NotDuplicates(self._store.uri)
        table = self._store.videos_table()
        remembered.add(not_duplicates, table)
        pairs = remembered.pairs()
        videos = Videos.of(table, self._store.tables(Videos.COLUMNS, where)).unchanged()
        return find_duplicates(
            videos,
            min_similarity=min_similarity,
            overlap=overlap,
            keep=keep,
            not_duplicates=pairs,
            on_video=on_video,
        )
