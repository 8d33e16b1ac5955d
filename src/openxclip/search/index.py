"""`VideoIndex`: add videos, search them; what `openxclip index` and `openxclip search` do."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from openxclip import __version__
from openxclip.batching import Batch
from openxclip.embedding import fingerprint
from openxclip.engine import Precision
from openxclip.errors import VideoError, VideoIndexError
from openxclip.hub import DEFAULT_MODEL
from openxclip.loading import as_pipeline
from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.search.adding import Adding, OnVideo, absolute, stamp_of
from openxclip.search.packing import unpack
from openxclip.search.store import Store
from openxclip.video import Limits, VideoSource, find_videos
from openxclip.video.clips import ClipPlan

WINDOW_S = 10.0
RERANK = 200
_SCORED_AT_ONCE = 64


@dataclass(frozen=True)
class Hit:
    """A window that was found.

    Attributes:
        path: of its video.
        start, end: of the window, in seconds.
        duration: of the video, in seconds.
        score: by which hits are in order: the cosine of the video and the text with its prompts, where it was reranked;
            else `similarity`.
        similarity: the cosine of the video's features and the query's, without prompts.
        reranked: whether `score` has the prompts in it.
    """

    path: str
    start: float
    end: float
    duration: float
    score: float
    similarity: float
    reranked: bool


@dataclass(frozen=True)
class Added:
    """What came of some files.

    Attributes:
        added: that are in the index now and weren't, or were with another content.
        unchanged: that are in it as they were.
        removed: that are in it no longer.
        errors: of those that can't be read.
    """

    added: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    errors: tuple[VideoError, ...] = ()


class VideoIndex:
    """An index of the windows of many videos; see `open`."""

    def __init__(
        self,
        store: Store,
        about: dict[str, Any] | None,
        model: str | Path | VideoPipeline,
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
            ValueError: an argument that can't be, or that is not the index's; LanceDB isn't installed.
            VideoIndexError: what is there is no index.
        """
        store = Store(os.path.expanduser(uri))  # noqa: PTH111 (a path would make one slash of two)
        about = store.open()
        given = {"window": window, "stride": stride, "num_frames": num_frames, "patches": patches}
        given = {name: value for name, value in given.items() if value is not None}
        if about is None:
            ClipPlan(
                num_frames=1 if num_frames is None else num_frames,
                window=WINDOW_S if window is None else window,
                stride=stride,
            )
        else:
            for name, value in given.items():
                if about[name] != value:
                    raise ValueError(
                        f"{name}={value}: the index {uri} was made with {name}={about[name]}; leave it out."
                    )
        named: str | Path | VideoPipeline = (about["model"] if about else DEFAULT_MODEL) if model is None else model
        loading = {name: value for name, value in (("device", device), ("precision", precision)) if value is not None}
        return cls(store, about, named, wanted=given, loading=loading)

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
        batch: Batch = "auto",
        limits: Limits | None = None,
        on_video: OnVideo = lambda path, error: None,
    ) -> Added:
        """Put videos into the index.

        A file that is in it, unchanged by its length and time or by its content, is passed over; one that has changed
        takes the place of what it was. What is done is written every ten seconds; when this is interrupted, call it
        again. Others may search meanwhile, but not write.

        Args:
            paths: one or more files, folders and globs (see `openxclip.video.find_videos`).
            batch, limits: see `VideoPipeline.encode_videos`.
            on_video: called with each video's path when it is done or passed over, and its error if it can't be read.

        Raises:
            ValueError: the model isn't the index's.
            CheckpointError: the model can't be found or loaded.
            VideoIndexError: another process is writing to the index.
        """
        named = [paths] if isinstance(paths, str | Path) else list(paths)
        videos = list(dict.fromkeys(absolute(path) for path in find_videos(named)))
        known, failures = (self._store.files(), self._store.failures()) if self._begun() else ({}, {})
        todo: list[str] = []
        added: list[str] = []
        unchanged: list[str] = []
        errors: list[VideoError] = []
        for path in videos:
            stamp = stamp_of(path)
            if path in known and stamp == known[path][:2]:
                unchanged.append(path)
                on_video(path, None)
            elif path in failures and stamp == failures[path][:2] and stamp != (0, 0):
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

    def update(self, **options: Any) -> Added:
        """Look at every file that is in the index again: what has changed is read anew, what is gone is removed.

        Args:
            **options: see `add`.
        """
        if not self._begun():
            return Added()
        known = [*self._store.files(), *self._store.failures()]
        gone = {path: None for path in known if "://" not in path and not os.path.lexists(path)}
        if gone:
            with self._store.writing():
                self._store.remove(list(gone))
        done = self.add([path for path in known if path not in gone], **options)
        return Added(done.added, done.unchanged, tuple(gone), done.errors)

    def remove(self, paths: str | Path | Iterable[str | Path]) -> Added:
        """Forget videos: files, or folders with all that the index has below them.

        Raises:
            VideoIndexError: one of them isn't in the index.
        """
        named = [paths] if isinstance(paths, str | Path) else list(paths)
        known = [*self._store.files(), *self._store.failures()] if self._begun() else []
        gone: list[str] = []
        for name in map(absolute, named):
            found = [path for path in known if path == name or path.startswith(f"{name.rstrip(os.sep)}{os.sep}")]
            if not found:
                raise VideoIndexError(f"{name}: isn't in the index {self._store.uri}.")
            gone += found
        if gone:
            with self._store.writing():
                self._store.remove(gone)
        return Added(removed=tuple(dict.fromkeys(gone)))

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
        about = self._begun()
        if about is None:
            raise VideoIndexError(f"{self._store.uri}: there is no index: make one with `openxclip index`.")
        pipeline = self._ready()
        text_1E = None if text is None else pipeline.encode_texts([text])
        feature_E = _feature(pipeline, video, about["num_frames"]) if text_1E is None else text_1E[0]
        query_E = F.normalize(feature_E.float(), dim=0)
        reranks = text_1E is not None and bool(about["patches"]) and rerank > 0
        rows = self._store.nearest(query_E.cpu().numpy(), max(k, rerank) if reranks else k, where, patches=reranks)
        scores = (
            _with_prompts(pipeline, text_1E, rows)
            if text_1E is not None and reranks
            else [row["similarity"] for row in rows]
        )
        hits = [
            Hit(row["path"], row["start"], row["end"], row["duration"], score, row["similarity"], reranks)
            for row, score in zip(rows, scores, strict=True)
        ]
        return sorted(hits, key=lambda hit: -hit.score)[:k]

    # -- the model ---------------------------------------------------------------------------------------------------

    def _begun(self) -> dict[str, Any] | None:
        """What the index is of, as it is now; None if there is none yet."""
        if self._about is None:
            self._about = self._store.open()
        else:
            self._store.refresh()
        return self._about

    def _ready(self) -> VideoPipeline:
        """The model, which is loaded once and checked to be the index's; of a new index, which is made."""
        if self._pipeline is not None:
            return self._pipeline
        pipeline = as_pipeline(self._model, **self._loading)
        weights = fingerprint(pipeline.model)
        if self._about is None:
            config = pipeline.model.config
            name = pipeline.name
            if name is not None and Path(name).is_dir():
                name = str(Path(name).resolve())  # it may be opened from elsewhere
            window = self._wanted.get("window", WINDOW_S)
            about = {
                "openxclip": __version__,
                "model": name,
                "weights": weights,
                "transforms": pipeline.processor.image_processor.to_dict(),
                "num_frames": self._wanted.get("num_frames", config.vision_config.num_frames),
                "window": window,
                "stride": self._wanted.get("stride", window),
                "patches": self._wanted.get("patches", True),
            }
            self._store.create(about, config.projection_dim)
            self._about = self._store.open()
            assert self._about is not None
        if weights != self._about["weights"]:
            raise ValueError(
                f"the index {self._store.uri} is of the model {self._about['model']}, whose weights are others than "
                f"those of {pipeline.name or 'the one given'}: features of two models can't be compared."
            )
        self._pipeline = pipeline
        return pipeline


def _with_prompts(pipeline: VideoPipeline, text_1E: Tensor, rows: list[Any]) -> list[float]:
    """The cosine of each of the store's rows and a text with the prompts that the row's video makes."""
    vision, width = pipeline.model.config.vision_config, pipeline.model.config.projection_dim
    number = (vision.image_size // vision.patch_size) ** 2
    scores: list[float] = []
    for start in range(0, len(rows), _SCORED_AT_ONCE):
        part = rows[start : start + _SCORED_AT_ONCE]
        pooled_CE = np.array([row["embedding"] for row in part], dtype=np.float32)
        patches_CPE = np.stack([unpack(row["patches"], width, number) for row in part])
        features = VideoFeatures(*(torch.from_numpy(array).to(text_1E) for array in (pooled_CE, patches_CPE)))
        cosine_C = pipeline.score(text_1E, features)[:, 0] / pipeline.model.logit_scale.detach().exp()
        scores += cosine_C.tolist()
    return scores


def _feature(pipeline: VideoPipeline, video: VideoSource | None, num_frames: int) -> Tensor:
    """(E,), of the whole of a video."""
    assert video is not None
    (encoded,) = pipeline.encode_videos([video], num_frames=num_frames)
    if encoded.error is not None:
        raise encoded.error
    assert encoded.features is not None
    return encoded.features.pooled[0]
