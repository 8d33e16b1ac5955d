"""Encode videos into the folder of an unfinished file of features, resuming an interrupted run."""

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

# Rows are written this often. A killed run loses the rows since the last time, and its last batch.
_WRITE_EVERY_S = 20.0
_WRITE_EVERY_BYTES = 64 << 20

OnVideo = Callable[[str, VideoError | None], object]
OnClip = Callable[[str, float, float], object]


@dataclass(frozen=True)
class Embedding:
    """The result of `embed`.

    Attributes:
        path: path of the file.
        rows: number of rows in the file, one for each clip; 0 if no video could be read, so that there is no file.
        width: E, the number of values in each `pooled`.
        paths: paths of all videos, in the order in which they were given.
        errors: errors of the videos that could not be read.
        kernel: how an optimised model computed, such as "float32, weights packed by oneDNN"; else "".
    """

    path: Path
    rows: int
    width: int
    paths: tuple[str, ...]
    errors: tuple[VideoError, ...] = ()
    kernel: str = ""


class EmbedRun:
    """One run of `embed`, from the beginning or from where an earlier run stopped.

    Args:
        work: the folder of the unfinished file.
        pipeline: the pipeline that encodes clips.
        videos: names of the videos.
        plan: which clips to read of each video.
        patches: whether to write `patches`.
        normalize: whether to scale `pooled` to length 1.
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
        self._rows: list[dict[str, Any]] = []  # these and the errors below aren't written yet
        self._errors: list[tuple[int, str]] = []
        self._bytes, self._written_at = 0, time.monotonic()
        # Rows are written up to the end of a batch, so that a resumed run makes the same batches as one run would
        self._batch_end: Position = self._written
        self._num_rows, self._num_errors = 0, 0  # unwritten rows and errors up to there

    def encode(self, sources: Sequence[VideoSource], *, batch: int, read: ReadOptions) -> None:
        """Encode the videos that are left, and write their rows to the folder."""
        video, clip = self._start.next
        self._report_earlier(video)
        remaining = [sources[i] for i in range(video, len(self._videos)) if is_utf8(self._videos[i])]
        encoded = self._pipeline.encode_clips(remaining, self._plan, first=clip, batch=batch, read=read)
        video = self._skip_unstorable(video)
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
                    video, clip = self._skip_unstorable(video + 1), 0
                if count % batch == 0 or video == len(self._videos):
                    self._end_batch(video, clip)
                    if self._bytes > _WRITE_EVERY_BYTES or time.monotonic() > self._written_at + _WRITE_EVERY_S:
                        self._write()
        except BaseException:
            with suppress(OSError):  # perhaps the disk failed
                self._written = self._work.progress().next  # `_write` may have been interrupted
                self._write()
            raise
        finally:
            encoded.close()
        self._write()

    def _report_earlier(self, video: int) -> None:
        """Report the videos before this one, which earlier runs completed."""
        errors = dict(self._start.errors)
        for number, path in enumerate(self._videos[:video]):
            self._on_video(path, VideoError(path, errors[number]) if number in errors else None)

    def _skip_unstorable(self, video: int) -> int:
        """Report an error for each next video whose name isn't UTF-8; return the first video with a valid name."""
        while video < len(self._videos) and not is_utf8(self._videos[video]):
            self._errors.append((video, NOT_UTF8))
            self._on_video(self._videos[video], VideoError(self._videos[video], NOT_UTF8))
            video += 1
        return video

    def _add(self, video: int, clip: EncodedClip) -> None:
        row = row_of(clip, patches=self._with_patches, normalize=self._normalize)
        row["video"] = np.int64(video)
        self._rows.append(row)
        self._bytes += sum(value.nbytes for value in row.values())

    def _end_batch(self, video: int, clip: int) -> None:
        self._batch_end = (video, clip)
        self._num_rows, self._num_errors = len(self._rows), len(self._errors)

    def _write(self) -> None:
        """Write the rows and errors up to the end of the last batch to the folder."""
        rows, errors = self._rows[: self._num_rows], self._errors[: self._num_errors]
        if self._batch_end != self._written:
            columns = {"video": np.empty(0, dtype=np.int64)}
            if rows:
                columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            self._work.add(columns, Progress(self._batch_end, tuple(errors)))
            self._written = self._batch_end
        del self._rows[: len(rows)], self._errors[: len(errors)]
        self._num_rows, self._num_errors = 0, 0
        self._bytes, self._written_at = 0, time.monotonic()

    def finish(self, target: Path, metadata: dict[str, Any]) -> Embedding:
        """Write the file from the rows in the folder."""
        errors = dict(self._work.progress().errors)
        unread = tuple(VideoError(self._videos[number], reason) for number, reason in errors.items())
        count = sum(len(part["video"]) for part in self._work.rows([], without=errors))
        width = self._pipeline.model.config.projection_dim
        if count:
            failed = [{"path": self._videos[number], "error": reason} for number, reason in errors.items()]
            metadata = {**metadata, "paths": self._videos, "errors": failed}
            shapes = shapes_of(self._pipeline, self._plan, count, patches=self._with_patches)
            with self._work.finish() as path:
                write_features(path, lambda names: self._work.rows(names, without=errors), shapes, metadata)
        else:  # the next run would refuse to overwrite an empty file
            self._work.clear()
        return Embedding(target, count, width, tuple(self._videos), unread, metadata.get("kernel", ""))


def row_of(clip: EncodedClip, *, patches: bool, normalize: bool) -> dict[str, Any]:
    """Return the row of a clip as numpy values; see `openxclip.embed` for the columns."""
    assert clip.features is not None
    pooled_E = clip.features.pooled[0].float()
    row: dict[str, Any] = {
        "start": np.float64(clip.start),
        "end": np.float64(clip.end),
        "times": np.array(clip.times, dtype=np.float64),
        "pooled": (F.normalize(pooled_E, dim=0) if normalize else pooled_E).cpu().numpy(),
    }
    if patches:
        row["patches"] = clip.features.patches[0].float().cpu().numpy()
    return row


def shapes_of(pipeline: VideoPipeline, plan: ClipPlan, count: int, *, patches: bool) -> Shapes:
    """Return the columns of `count` rows, with the clips of a plan."""
    vision, width = pipeline.model.config.vision_config, pipeline.model.config.projection_dim
    shapes: Shapes = {
        "video": ("int64", (count,)),
        "start": ("float64", (count,)),
        "end": ("float64", (count,)),
        "times": ("float64", (count, plan.frames_per_clip)),
        "pooled": ("float32", (count, width)),
    }
    if patches:
        shapes["patches"] = ("float32", (count, (vision.image_size // vision.patch_size) ** 2, width))
    return shapes
