"""`VideoIndex`: add videos, search them; what `openxclip index` and `openxclip search` do."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
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
from openxclip.search.packing import pack, unpack
from openxclip.search.store import Failure, FileState, Store
from openxclip.video import Limits, VideoSource, find_videos
from openxclip.video.clips import ClipPlan

WINDOW_S = 10.0
RERANK = 200
_WRITTEN_EVERY_S = 10.0  # what a run that is killed loses, at most, and the video that it was at
_WRITTEN_EVERY_ROWS = 2048

OnVideo = Callable[[str, VideoError | None], object]


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
        self, store: Store, about: dict[str, Any] | None, model: str | Path | VideoPipeline, loading: dict[str, Any]
    ) -> None:
        self._store, self._about, self._model, self._loading = store, about, model, loading
        self._pipeline: VideoPipeline | None = None
        self._wanted: dict[str, Any] = {}

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
        loading = {"device": device, "precision": precision}
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
        index = cls(store, about, named, loading)
        index._wanted = given
        return index

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
        videos = list(dict.fromkeys(_absolute(path) for path in find_videos(named)))
        known, failures = (self._store.files(), self._store.failures()) if self._begun() else ({}, {})
        todo, unchanged, errors = [], [], []
        for path in videos:
            stamp = _stamp(path)
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
            with self._store.writing():
                self._store.refresh()
                known = self._store.files()  # another may have written until now
                work = _Work(self, pipeline, known, batch=batch, limits=limits, on_video=on_video)
                work.run(todo)
                self._store.tidy()
            unchanged += work.unchanged
            errors += work.errors
            return Added(tuple(work.added), tuple(unchanged), (), tuple(errors))
        return Added((), tuple(unchanged), (), tuple(errors))

    def update(self, **options: Any) -> Added:
        """Look at every file that is in the index again: what has changed is read anew, what is gone is removed.

        Args:
            **options: see `add`.
        """
        if not self._begun():
            return Added()
        known = [*self._store.files(), *self._store.failures()]
        gone = [path for path in known if "://" not in path and not os.path.lexists(path)]
        if gone:
            with self._store.writing():
                self._store.remove(gone)
        done = self.add([path for path in known if path not in set(gone)], **options)
        return Added(done.added, done.unchanged, tuple(gone), done.errors)

    def remove(self, paths: str | Path | Iterable[str | Path]) -> Added:
        """Forget videos: files, or folders with all that the index has below them.

        Raises:
            VideoIndexError: one of them isn't in the index.
        """
        named = [paths] if isinstance(paths, str | Path) else list(paths)
        known = [*self._store.files(), *self._store.failures()] if self._begun() else []
        gone: list[str] = []
        for name in map(_absolute, named):
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
        query_E = self._of_video(video) if text_1E is None else F.normalize(text_1E[0].float(), dim=0)  # type: ignore[arg-type]
        reranks = text_1E is not None and about["patches"] and rerank > 0
        rows = self._store.nearest(query_E.cpu().numpy(), max(k, rerank) if reranks else k, where, patches=reranks)
        scores = [row["similarity"] for row in rows]
        if reranks and rows:
            assert text_1E is not None
            scores = self._with_prompts(text_1E, rows)
        hits = [
            Hit(row["path"], row["start"], row["end"], row["duration"], score, row["similarity"], bool(reranks))
            for row, score in zip(rows, scores, strict=True)
        ]
        return sorted(hits, key=lambda hit: -hit.score)[:k]

    def _with_prompts(self, text_1E: Tensor, rows: list[Any]) -> list[float]:
        pipeline = self._ready()
        vision, width = pipeline.model.config.vision_config, pipeline.model.config.projection_dim
        number = (vision.image_size // vision.patch_size) ** 2
        scores: list[float] = []
        for start in range(0, len(rows), 64):
            part = rows[start : start + 64]
            features = VideoFeatures(
                torch.from_numpy(np.array([row["embedding"] for row in part], dtype=np.float32)),
                torch.from_numpy(np.stack([unpack(row["patches"], width, number) for row in part])),
            )
            dtype, device = text_1E.dtype, text_1E.device
            features = VideoFeatures(*(tensor.to(device=device, dtype=dtype) for tensor in features))
            logits = pipeline.score(text_1E, features)[:, 0] / pipeline.model.logit_scale.detach().exp()
            scores += logits.tolist()
        return scores

    def _of_video(self, video: VideoSource) -> Tensor:
        about = self._begun()
        assert about is not None
        for encoded in self._ready().encode_videos([video], num_frames=about["num_frames"]):
            if encoded.error is not None:
                raise encoded.error
            assert encoded.features is not None
            return F.normalize(encoded.features.pooled[0].float(), dim=0)
        raise AssertionError("every video has a result")

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
        given = {name: value for name, value in self._loading.items() if value is not None}
        pipeline = as_pipeline(self._model, **given)
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


class _Work:
    """Encoding files and writing what is done."""

    def __init__(
        self,
        index: VideoIndex,
        pipeline: VideoPipeline,
        known: dict[str, FileState],
        *,
        batch: Batch,
        limits: Limits | None,
        on_video: OnVideo,
    ) -> None:
        about = index.about
        assert about is not None
        self._store, self._pipeline, self._known, self._on_video = index._store, pipeline, known, on_video
        self._plan = ClipPlan(num_frames=about["num_frames"], window=about["window"], stride=about["stride"])
        self._patches = about["patches"]
        self._options: dict[str, Any] = {"batch": batch, "limits": limits}
        self._states: dict[str, FileState] = {}  # written by the thread that takes the sources
        self._rows: list[dict[str, Any]] = []
        self._failed: dict[str, Failure] = {}
        self._written = time.monotonic()
        self.added: list[str] = []
        self.unchanged: list[str] = []
        self.errors: list[VideoError] = []

    def run(self, paths: list[str]) -> None:
        """Encode them all, and write; what is done is written even if it is interrupted."""
        rows: list[dict[str, Any]] = []
        encoded = self._pipeline.encode_clips(self._sources(paths), self._plan, **self._options)
        try:
            for one in encoded:
                path = str(one.source)
                if one.features is not None:
                    rows.append(self._row(path, len(rows), one))
                    continue
                self._end(path, rows, one.error)
                rows = []
                due = time.monotonic() > self._written + _WRITTEN_EVERY_S
                if due or len(self._rows) > _WRITTEN_EVERY_ROWS:
                    self._write()
        except BaseException:
            with suppress(OSError, RuntimeError):
                self._write()
            raise
        finally:
            encoded.close()
        self._write()
        for path in self.unchanged:
            self._store.touch(path, self._states[path])
            self._on_video(path, None)

    def _sources(self, paths: list[str]) -> Iterator[str]:
        """What is to be read; files are hashed on the way, and those with the content that is known passed over."""
        for path in paths:
            self._states[path] = state = _state(path)
            if path in self._known and state.content and state.content == self._known[path].content:
                self.unchanged.append(path)
            else:
                yield path

    def _row(self, path: str, number: int, one: Any) -> dict[str, Any]:
        embedding = F.normalize(one.features.pooled[0].float(), dim=0).cpu().numpy()
        patches = pack(one.features.patches[0].float().cpu().numpy()) if self._patches else None
        return {
            "path": path, "number": number, "start": one.start, "end": one.end, "embedding": embedding,
            "patches": patches,
        }  # fmt: skip

    def _end(self, path: str, rows: list[dict[str, Any]], error: VideoError | None) -> None:
        state = self._states[path]
        if error is None:
            duration = max(row["end"] for row in rows)
            self._rows += [row | {"duration": duration, **state._asdict()} for row in rows]
            self.added.append(path)
        else:
            if (state.size, state.modified) != (0, 0) or path in self._known:  # what isn't there is no news tomorrow
                self._failed[path] = Failure(state.size, state.modified, error.reason)
            self.errors.append(error)
        self._on_video(path, error)

    def _write(self) -> None:
        if self._rows or self._failed:
            done = {row["path"] for row in self._rows} | self._failed.keys()
            self._store.write(self._rows, self._failed, known=[path for path in done if path in self._known])
        self._rows, self._failed, self._written = [], {}, time.monotonic()


def _absolute(path: Any) -> str:
    if not isinstance(path, str | Path):
        raise TypeError(f"videos of an index are named by their paths, which a {type(path).__name__} isn't.")
    return str(path) if "://" in str(path) else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def _stamp(path: str) -> tuple[int, int]:
    """Its length and when it was changed; zeros of what is no file."""
    with suppress(OSError, ValueError):
        status = os.stat(path)  # noqa: PTH116
        return status.st_size, status.st_mtime_ns
    return 0, 0


def _state(path: str) -> FileState:
    size, modified = _stamp(path)
    content = ""
    with suppress(OSError, ValueError):
        if os.path.isfile(path):  # noqa: PTH113
            hashed = hashlib.sha256()
            with Path(path).open("rb") as file:
                while block := file.read(1 << 20):
                    hashed.update(block)
            content = hashed.hexdigest()
    return FileState(size, modified, content)
