"""Encode videos into the folder of an unfinished file of features, from where an interrupted run stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F

from openxclip.common.files import NOT_UTF8, is_utf8
from openxclip.errors import VideoError
from openxclip.features.files import Shapes, write_features
from openxclip.features.resuming import Position, Progress, Unfinished
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import EncodedClip
from openxclip.video import ClipPlan, ReadOptions, VideoSource

# A killed run loses at most so much, and its last batch
_WRITE_EVERY_S = 20.0
_WRITE_EVERY_BYTES = 64 << 20

OnVideo = Callable[[str, VideoError | None], object]
OnClip = Callable[[str, float, float], object]


@dataclass(frozen=True)
class Embedding:
    """What was written.

    Attributes:
        path: path of the file.
        rows: how many clips it holds, each with its features; if no video could be read, 0, and there is no file.
        width: E, numbers in `pooled`.
        paths: paths of all videos, in the order in which they were named.
        errors: errors of the videos that could not be read.
        kernel: how an optimised model computed, such as "float32, weights packed by oneDNN"; else "".
    """

    path: Path
    rows: int
    width: int
    paths: tuple[str, ...]
    errors: tuple[VideoError, ...] = ()
    kernel: str = ""


@dataclass(frozen=True)
class _BatchEnd:
    """The end of a batch. Only from there a later run makes the same batches as a run without interruption.

    Attributes:
        next: which video comes next, and which of its clips.
        rows, errors: how many of the unwritten rows and errors come before it.
    """

    next: Position
    rows: int = 0
    errors: int = 0


class EmbedRun:
    """One run of `embed`, from where the work stopped to the file.

    Args:
        work: the folder of the unfinished file.
        pipeline: the model.
        videos: names of the videos.
        plan: which clips of each video.
        patches: whether rows have `patches`.
        normalize: whether `pooled` is normalised.
        on_video, on_clip: see `embed`.
    """

    def __init__(
        self,
        work: Unfinished,
        pipeline: VideoPipeline,
        videos: list[str],
        plan: ClipPlan,
        *,
        patches: bool,
        normalize: bool,
        on_video: OnVideo,
        on_clip: OnClip,
    ) -> None:
        self._work, self._pipeline, self._videos, self._plan = work, pipeline, videos, plan
        self._with_patches, self._normalize = patches, normalize
        self._on_video, self._on_clip = on_video, on_clip
        self._start = work.progress()
        self._written = self._start.next
        self._batch_end = _BatchEnd(self._written)
        self._rows: list[dict[str, Any]] = []  # not written yet, as the next are
        self._errors: list[tuple[int, str]] = []
        self._bytes, self._written_at = 0, time.monotonic()

    def encode(self, sources: Sequence[VideoSource], *, batch: int, read: ReadOptions) -> None:
        """Write the rows of all videos to the folder."""
        video, clip = self._start.next
        self._report_earlier(video)
        todo = [sources[i] for i in range(video, len(self._videos)) if is_utf8(self._videos[i])]
        encoded = self._pipeline.encode_clips(todo, self._plan, first=clip, batch=batch, read=read)
        video = self._skip_odd_names(video)
        if video == len(self._videos):
            self._end_batch(video, 0)
        count = 0
        try:
            for result in encoded:
                if result.features is not None:
                    self._add(video, result)
                    self._on_clip(self._videos[video], result.end, result.duration)
                    clip, count = clip + 1, count + 1
                else:
                    if result.error is not None:
                        self._errors.append((video, result.error.reason))
                    self._on_video(self._videos[video], result.error)
                    video, clip = self._skip_odd_names(video + 1), 0
                if count % batch == 0 or video == len(self._videos):
                    self._end_batch(video, clip)
                    if self._bytes > _WRITE_EVERY_BYTES or time.monotonic() > self._written_at + _WRITE_EVERY_S:
                        self._write()
        except BaseException:
            with suppress(OSError):  # the disk may be what failed
                self._written = self._work.progress().next  # `_write` may have been interrupted
                self._write()
            raise
        finally:
            encoded.close()
        self._write()

    def _report_earlier(self, video: int) -> None:
        """Report the videos before this one, which an earlier run did."""
        errors = dict(self._start.errors)
        for number, path in enumerate(self._videos[:video]):
            self._on_video(path, VideoError(path, errors[number]) if number in errors else None)

    def _skip_odd_names(self, video: int) -> int:
        """Return the first video from this one on whose name can be stored; those before it are errors."""
        while video < len(self._videos) and not is_utf8(self._videos[video]):
            self._errors.append((video, NOT_UTF8))
            self._on_video(self._videos[video], VideoError(self._videos[video], NOT_UTF8))
            video += 1
        return video

    def _add(self, video: int, clip: EncodedClip) -> None:
        assert clip.features is not None
        pooled_E = clip.features.pooled[0].float()
        row: dict[str, Any] = {
            "video": np.int64(video),
            "start": np.float64(clip.start),
            "end": np.float64(clip.end),
            "times": np.array(clip.times, dtype=np.float64),
            "pooled": (F.normalize(pooled_E, dim=0) if self._normalize else pooled_E).cpu().numpy(),
        }
        if self._with_patches:
            row["patches"] = clip.features.patches[0].float().cpu().numpy()
        self._rows.append(row)
        self._bytes += sum(value.nbytes for value in row.values())

    def _end_batch(self, video: int, clip: int) -> None:
        self._batch_end = _BatchEnd((video, clip), len(self._rows), len(self._errors))

    def _write(self) -> None:
        """Write what comes before the last end of a batch to the folder."""
        end = self._batch_end
        if end.next != self._written:
            columns = {"video": np.empty(0, dtype=np.int64)}
            if end.rows:
                columns = {name: np.stack([row[name] for row in self._rows[: end.rows]]) for name in self._rows[0]}
            self._work.add(columns, Progress(end.next, tuple(self._errors[: end.errors])))
            self._written = end.next
        del self._rows[: end.rows], self._errors[: end.errors]
        self._batch_end = _BatchEnd(end.next)
        self._bytes, self._written_at = 0, time.monotonic()

    def finish(self, target: Path, metadata: dict[str, Any]) -> Embedding:
        """Make the file from the rows in the folder."""
        errors = dict(self._work.progress().errors)
        unread = tuple(VideoError(self._videos[number], reason) for number, reason in errors.items())
        count = sum(len(part["video"]) for part in self._work.rows([], without=errors))
        width = self._pipeline.model.config.projection_dim
        if count:
            failed = [{"path": self._videos[number], "error": reason} for number, reason in errors.items()]
            metadata = {**metadata, "paths": self._videos, "errors": failed}
            shapes = self._shapes(count, width)
            with self._work.finishing() as path:
                write_features(path, lambda names: self._work.rows(names, without=errors), shapes, metadata)
        else:  # the next run would refuse to overwrite an empty file
            self._work.discard()
        return Embedding(target, count, width, tuple(self._videos), unread, metadata.get("kernel", ""))

    def _shapes(self, count: int, width: int) -> Shapes:
        vision = self._pipeline.model.config.vision_config
        shapes: Shapes = {
            "video": ("int64", (count,)),
            "start": ("float64", (count,)),
            "end": ("float64", (count,)),
            "times": ("float64", (count, self._plan.frames_per_clip)),
            "pooled": ("float32", (count, width)),
        }
        if self._with_patches:
            shapes["patches"] = ("float32", (count, (vision.image_size // vision.patch_size) ** 2, width))
        return shapes
