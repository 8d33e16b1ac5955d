"""`VideoIndex`: add videos, search them; what `openxclip index` and `openxclip search` do."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from openxclip import __version__
from openxclip.batching import Batch
from openxclip.engine import Precision
from openxclip.errors import VideoError, VideoIndexError
from openxclip.files import NO_STAMP, checked_target, stamp_of, target_path
from openxclip.loading import as_pipeline
from openxclip.pipeline import VideoPipeline
from openxclip.search.adding import Adding, OnVideo, absolute, is_parquet, is_text
from openxclip.search.duplicates import OVERLAP, THRESHOLD, DuplicateGroup, Videos, find_duplicates
from openxclip.search.of_model import about_model, check_weights, named_model
from openxclip.search.parquet import SUFFIX, ParquetWindows, add_parquet, write_parquet
from openxclip.search.results import Added, Hit
from openxclip.search.scoring import feature_of, with_prompts
from openxclip.search.store import Store
from openxclip.video import Limits, VideoSource, find_videos
from openxclip.video.clips import ClipPlan

WINDOW_S = 10.0
RERANK = 200


class VideoIndex:
    """An index of the windows of many videos; see `open`."""

    def __init__(
        self,
        store: Store,
        about: dict[str, Any] | None,
        model: str | Path | VideoPipeline | None,
        *,
        wanted: dict[str, Any],
        loading: dict[str, Any],
    ) -> None:
        self._store, self._about, self._model = store, about, model
        self._wanted, self._loading = wanted, loading  # of an index that is yet to be made, and of its model
        self._pipeline: VideoPipeline | None = None

    @classmethod
    def open(
        cls,
        uri: str | Path,
        *,
        model: str | Path | VideoPipeline | None = None,
        window: float | None = None,
        stride: float | None = None,
        num_frames: int | None = None,
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
        given: dict[str, Any] = {"window": window, "stride": stride, "num_frames": num_frames, "patches": patches}
        given = {name: value for name, value in given.items() if value is not None}
        if about is None:
            ClipPlan(
                num_frames=1 if num_frames is None else num_frames,
                window=WINDOW_S if window is None else window,
                stride=stride,
            )
        else:
            _check_wanted(str(uri), about, given)
        loading = {name: value for name, value in (("device", device), ("precision", precision)) if value is not None}
        return cls(store, about, model, wanted=given, loading=loading)

    def __len__(self) -> int:
        """How many windows there are."""
        return self._store.count() if self._about else 0

    @property
    def about(self) -> dict[str, Any] | None:
        """What it is of: `model`, its `weights`' SHA-256, `window`, `stride`, `num_frames`, `patches`; None of none."""
        return dict(self._about) if self._about else None

    def files(self) -> list[str]:
        """The videos in it."""
        return sorted(self._store.files()) if self._about else []

    # -- adding ------------------------------------------------------------------------------------------------------

    def add(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        retry: bool = False,
        batch: Batch = "auto",
        limits: Limits | None = None,
        on_video: OnVideo = lambda path, error: None,
    ) -> Added:
        """Put videos into the index.

        A file that is in it, unchanged by its length and time or by its content, is passed over; one that has changed
        takes the place of what it was. What is done is written every ten seconds; when this is interrupted, call it
        again. Others may search meanwhile, but not write.

        A Parquet file that `export` wrote, on another machine perhaps, stands for the videos whose windows it has: they
        are put there without being read. All of it is one pass; interrupted, it is to be done again.

        Args:
            paths: one or more files, folders and globs (see `openxclip.video.find_videos`).
            retry: read again what could not be read before and hasn't changed since, which otherwise is only reported.
            batch, limits: see `VideoPipeline.encode_videos`.
            on_video: called with each video's path when it is done or passed over, and its error if it can't be read.

        Raises:
            ValueError: the model isn't the index's.
            CheckpointError: the model can't be found or loaded.
            VideoIndexError: another process is writing to the index; a Parquet file isn't of its model and windows.
        """
        named = [paths] if isinstance(paths, str | Path) else list(paths)
        found = list(dict.fromkeys(absolute(path) for path in find_videos(named)))
        tables = [path for path in found if is_parquet(path)]
        added = self._add_tables(tables, on_video) if tables else []
        known, failures = (self._store.files(), self._store.failures()) if self._begun() else ({}, {})
        todo: list[str] = []
        unchanged: list[str] = []
        errors: list[VideoError] = []
        for path in found:
            if is_parquet(path):
                continue
            stamp = stamp_of(path)
            if not is_text(path):
                errors.append(VideoError(path, "its name is not valid UTF-8, as an index needs it: rename it"))
                on_video(path, errors[-1])
            elif path in known and stamp == known[path][:2]:
                unchanged.append(path)
                on_video(path, None)
            elif not retry and path in failures and stamp == failures[path][:2] and stamp != NO_STAMP:
                errors.append(VideoError(path, failures[path].reason))
                on_video(path, errors[-1])
            else:
                todo.append(path)
        if todo:
            pipeline = self._ready()
            assert self._about is not None
            with self._store.writing():
                self._store.refresh()  # another may have written until now
                work = Adding(self._store, self._about, pipeline, batch=batch, limits=limits, on_video=on_video)
                work.run(todo)
                self._store.tidy()
            added += work.added
            unchanged += work.unchanged
            errors += work.errors
        return Added(tuple(added), tuple(unchanged), (), tuple(errors))

    def update(self, *, retry: bool = True, **options: Any) -> Added:
        """Look at every file that is in the index again: what has changed is read anew, what is gone is removed.

        Args:
            retry: read again what could not be read before: it may be allowed by now, or the limits larger.
            **options: see `add`.
        """
        if not self._begun():
            return Added()
        known = [*self._store.files(), *self._store.failures()]
        gone = {path: None for path in known if "://" not in path and not os.path.lexists(path)}
        if gone:
            with self._store.writing():
                self._store.remove(list(gone))
        done = self.add([path for path in known if path not in gone], retry=retry, **options)
        return Added(done.added, done.unchanged, tuple(gone), done.errors)

    def remove(self, paths: str | Path | Iterable[str | Path]) -> Added:
        """Forget videos: files, folders with all that the index has below them, or patterns with `*` of their paths.

        Raises:
            VideoIndexError: one of them isn't in the index.
        """
        named = [paths] if isinstance(paths, str | Path) else list(paths)
        known = [*self._store.files(), *self._store.failures()] if self._begun() else []
        gone: list[str] = []
        for name in map(absolute, named):
            found = [path for path in known if path == name or path.startswith(f"{name.rstrip(os.sep)}{os.sep}")]
            found = found or fnmatch.filter(known, name)
            if not found:
                raise VideoIndexError(f"{name}: isn't in the index {self._store.uri}.")
            gone += found
        if gone:
            with self._store.writing():
                self._store.remove(gone)
        return Added(removed=tuple(dict.fromkeys(gone)))

    def export(self, path: str | Path) -> int:
        """Write all windows, with all that is known of them, as Parquet; `add` takes it. The number of windows.

        Args:
            path: of the file, .parquet; one that is there is replaced.

        Raises:
            ValueError: its name has another suffix, or there is no such folder.
            VideoIndexError: there is no index.
            OSError: it can't be written.
        """
        target = checked_target(path, SUFFIX)
        self._needed()
        return write_parquet(self._store, target)

    def _add_tables(self, paths: list[str], on_video: OnVideo) -> list[str]:
        files = [ParquetWindows(path) for path in paths]
        about = self._begun()
        wanted = about or {**files[0].about, **self._wanted}
        width = self._store.width if about else files[0].width
        for windows in files:
            windows.check(wanted, width)
        videos = [windows.videos() for windows in files]
        if about is None:
            if self._model is not None:
                pipeline = as_pipeline(self._model, **self._loading)
                of_model = about_model(pipeline, by_name=not isinstance(self._model, VideoPipeline))
                check_weights(wanted, of_model, self._store.uri)
                self._pipeline = pipeline
                wanted["model"] = of_model["model"]
            about = self._create(wanted, width)
        with self._store.writing():
            self._store.refresh()
            for windows, of_file in zip(files, videos, strict=True):
                add_parquet(self._store, windows, of_file, patches=about["patches"])
            self._store.tidy()
        added = list(dict.fromkeys(path for of_file in videos for path in of_file))
        for path in added:
            on_video(path, None)
        return added

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        text: str | None = None,
        *,
        video: VideoSource | None = None,
        k: int = 10,
        where: str | None = None,
        rerank: int = RERANK,
    ) -> list[Hit]:
        """The windows that are the most like a sentence, or like a video, the best first.

        Args:
            text: a sentence.
            video: or a video: the whole of it is one clip.
            k: how many.
            where: only windows that meet a condition of SQL on `path`, `start`, `end`, `duration`, `size` (bytes) and
                `modified` (nanoseconds since 1970): "duration < 60 and path like '%cam2%'".
            rerank: of how many candidates, found by the plain text, the score with prompts decides; 0 is without. A
                video isn't reranked, for there is no text that prompts would change.

        Raises:
            ValueError: an argument that can't be.
            VideoIndexError: there is no index.
            VideoError: the video can't be read.
        """
        if (text is None) == (video is None):
            raise ValueError("search for a text or for a video: give one of them.")
        if text is not None and not text.strip():
            raise ValueError("the text to search for is empty.")
        if k < 1 or rerank < 0:
            raise ValueError(f"k={k} must be 1 or more, rerank={rerank} 0 or more.")
        about = self._needed()
        pipeline = self._ready()
        there = max(1, self._store.count())
        k, rerank = min(k, there), min(rerank, there)
        if video is not None:
            query_1E = feature_of(pipeline, video, about["num_frames"])[None]
        elif text is not None:
            query_1E = pipeline.encode_texts([text])
        reranks = text is not None and bool(about["patches"]) and rerank > 0
        unit_E = F.normalize(query_1E[0].float(), dim=0).cpu().numpy()
        rows = self._store.nearest(unit_E, max(k, rerank) if reranks else k, where, patches=reranks)
        scores = with_prompts(pipeline, query_1E, rows) if reranks else [row["similarity"] for row in rows]
        hits = [
            Hit(row["path"], row["start"], row["end"], row["duration"], score, row["similarity"], reranks)
            for row, score in zip(rows, scores, strict=True)
        ]
        return sorted(hits, key=lambda hit: -hit.score)[:k]

    def duplicates(
        self,
        *,
        threshold: float = THRESHOLD,
        overlap: float = OVERLAP,
        where: str | None = None,
        on_video: Callable[[], object] = lambda: None,
    ) -> list[DuplicateGroup]:
        """Videos that are copies of others, or parts of them, by their embeddings; the model isn't needed.

        Where files of the index are on this machine, those that are gone, have changed since, or are links to another
        one of them are left out.

        Args:
            threshold: the cosine from which on two windows are alike. What it should be hangs on the model and on how
                much alike the videos are that are no copies.
            overlap: the share of a video's windows that must be alike one of the other's.
            where: only windows that meet a condition, as in `search`.
            on_video: called when a video has been compared with all others.

        Raises:
            ValueError: an argument that can't be.
            VideoIndexError: there is no index.
        """
        self._needed()
        videos = Videos.of(self._store.tables(Videos.COLUMNS, where)).as_they_are()
        return find_duplicates(videos, threshold=threshold, overlap=overlap, on_video=on_video)

    # -- the model ---------------------------------------------------------------------------------------------------

    def _begun(self) -> dict[str, Any] | None:
        """What the index is of, as it is now; None if there is none yet."""
        if self._about is None:
            self._about = self._store.open()
            if self._about is not None:  # another process has made it since
                _check_wanted(self._store.uri, self._about, self._wanted)
        else:
            self._store.refresh()
        return self._about

    def _needed(self) -> dict[str, Any]:
        about = self._begun()
        if about is None:
            raise VideoIndexError(f"{self._store.uri}: there is no index: make one with `openxclip index`.")
        return about

    def _create(self, about: dict[str, Any], width: int) -> dict[str, Any]:
        self._store.create({**about, "openxclip": __version__}, width)
        return self._needed()

    def _ready(self) -> VideoPipeline:
        """The model, which is loaded once and checked to be the index's; of a new index, which is made."""
        if self._pipeline is not None:
            return self._pipeline
        pipeline = as_pipeline(named_model(self._model, self._about, self._store.uri), **self._loading)
        of_model = about_model(pipeline, by_name=not isinstance(self._model, VideoPipeline))
        if self._about is None:
            window = self._wanted.get("window", WINDOW_S)
            plan = {
                "num_frames": pipeline.model.config.vision_config.num_frames,
                "window": window,
                "stride": window,
                "patches": True,
            }
            self._create({**of_model, **plan, **self._wanted}, pipeline.model.config.projection_dim)
        assert self._about is not None
        check_weights(self._about, of_model, self._store.uri)
        self._pipeline = pipeline
        return pipeline


def _check_wanted(uri: str, about: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if about[name] != value:
            raise ValueError(f"{name}={value}: the index {uri} was made with {name}={about[name]}; leave it out.")
