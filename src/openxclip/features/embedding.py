"""Features of many videos in one file: what `openxclip embed` does."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from openxclip._version import __version__
from openxclip.checkpoints.fingerprints import fingerprint
from openxclip.common.files import NOT_UTF8, is_utf8, reason_of, stamp_of
from openxclip.engine import OptimizedXCLIPModel, Precision
from openxclip.engine.linears import Kernel
from openxclip.errors import VideoError
from openxclip.features.files import Shapes, check_names, check_suffix, write_features
from openxclip.features.resuming import Progress, Unfinished
from openxclip.hub import DEFAULT_MODEL
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch, EncodedClip, batch_size, check_batch
from openxclip.pipeline.loading import as_pipeline
from openxclip.processing.sources import Videos, as_sources
from openxclip.video import Limits, VideoSource, find_videos
from openxclip.video.assumptions import ASSUMED_FPS
from openxclip.video.clips import WINDOW_RULE, ClipPlan
from openxclip.video.finding import check_found
from openxclip.video.memory import MemoryVideo
from openxclip.video.sampling import Sampling, check_fps

_KEPT_EVERY_S = 20.0  # what a run that is killed loses, at most, and the batch that it was at
_KEPT_EVERY_BYTES = 64 << 20

OnVideo = Callable[[str, VideoError | None], object]
OnClip = Callable[[str, float, float], object]


@dataclass(frozen=True)
class Embedding:
    """What was written.

    Attributes:
        path: of the file.
        rows: how many clips it holds, each with its features; 0 if no video could be read, and then there is no file.
        width: E, numbers in `pooled`.
        paths: of all videos, in the order in which they were named.
        errors: of the videos that could not be read.
        kernel: how an optimised model computed, such as "float32, weights packed by oneDNN"; else "".
    """

    path: Path
    rows: int
    width: int
    paths: tuple[str, ...]
    errors: tuple[VideoError, ...] = ()
    kernel: str = ""


def embed(
    paths: Videos,
    out: str | Path,
    *,
    model: str | Path | VideoPipeline = DEFAULT_MODEL,
    num_frames: int | None = None,
    num_clips: int = 1,
    window: float | None = None,
    stride: float | None = None,
    sampling: Sampling = "time",
    fps: float | None = None,
    patches: bool = False,
    normalize: bool = False,
    batch: Batch = "auto",
    force: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    precision: Precision | None = None,
    isolate: bool | None = None,
    limits: Limits | None = None,
    allow_protocols: Sequence[str] | None = None,
    track: int | None = None,
    on_video: OnVideo = lambda path, error: None,
    on_clip: OnClip = lambda path, end, duration: None,
) -> Embedding:
    """Write the features of videos to a file, a row for each clip or window; the twin of `openxclip embed`.

    The file appears whole or not at all; if no video can be read, it isn't written. Until then, what is done lies in a
    folder beside it, `out` with `.part` added; after an interruption, the same call goes on from there, to the same
    file.

    Columns, N rows in the order of the videos and of time:

    - `path` (.parquet), or `video` (N,) int64, which counts the metadata's `paths` from 0 (.npz, .safetensors);
    - `start`, `end` (N,) float64: the window in seconds; of clips over the whole of a video, 0 and its length;
    - `times` (N, T) float64: of the clip's frames, in seconds;
    - `pooled` (N, E) float32: what `XCLIPModel.get_video_features` gives, MIT's output, not normalised unless asked;
    - `patches` (N, P, E) float32, if asked for: with `pooled`, all that `XCLIPModel.forward(video_features=(pooled,
      patches))` needs to score the clips against any texts. (Scores don't depend on the length of `pooled`.)

    Metadata, as JSON by the name "openxclip" (in .parquet of the schema, in .npz an array of shape ()): `openxclip`,
    the version; `model`, its name; `weights`, their SHA-256; `config`, `transforms`, `num_frames`, `num_clips`,
    `window`, `stride`, `sampling`, `normalized`; `kernel`, how products were computed; `paths` of all videos; `errors`.

    Args:
        paths: one or more files, folders and globs (see `openxclip.video.find_videos`); and frames in memory, as
            `openxclip.iter_classify` takes them, whose paths are "frames 1", "frames 2", …. To resume with frames, give
            the same ones.
        out: the file; its suffix says the format: .parquet, .npz or .safetensors.
        model: a folder, a hub id, or "mini", which knows only the rendered playground; or a loaded pipeline.
        num_frames: frames of a clip (T); default is what the model was trained with.
        num_clips: clips over the whole of each video (see `openxclip.video.sample_clips`); not with `window`.
        window: seconds of a window; which windows a video has: see `openxclip.video.clips.ClipPlan`.
        stride: seconds from the start of a window to that of the next; default is `window`.
        sampling: how the frames of a clip are chosen, see `openxclip.video.sampling.Timeline`.
        fps: frames per second of what has no times: frames in memory, folders of images, `.npy` arrays.
        patches: write `patches` too.
        normalize: make each `pooled` one of length 1.
        batch: clips in one call of the model; see `VideoPipeline.encode_videos`.
        force: write over `out` if it is there, and begin anew if what is beside it is of another call.
        device, dtype, precision, isolate, allow_protocols, track: see `VideoPipeline.from_pretrained`.
        limits: what reading one video may cost; the time is that of every 32 windows or less.
        on_video: called with each video's path when all of it is done, and with its error if it can't be read.
        on_clip: called after each clip with the video's path, the clip's end and the video's duration, in seconds.

    Raises:
        ValueError: an argument that can't be, `out` included; what is beside it is of another or a running call.
        FileExistsError: `out` is there already.
        OSError: it can't be written. What was done is kept.
        CheckpointError: the model can't be found or loaded.
    """
    target = _checked_target(out, force)
    given = partial(ClipPlan, num_clips=num_clips, window=window, stride=stride, sampling=sampling)
    given(num_frames=1 if num_frames is None else num_frames)
    check_batch(batch)
    check_fps(fps)
    sources = _sources(paths)
    videos = [source.name if isinstance(source, MemoryVideo) else source for source in sources]
    check_names(target, videos)
    with Unfinished(target) as work:  # before the model is loaded: it may be that nothing can be written there
        pipeline = as_pipeline(
            model,
            device=device,
            dtype=dtype,
            precision=precision,
            isolate=isolate,
            limits=limits,
            allow_protocols=allow_protocols,
            track=track,
        )
        of_model, limits = pipeline.model, limits or pipeline.limits
        frames = of_model.config.vision_config.num_frames if num_frames is None else num_frames
        plan = given(num_frames=frames)
        size = batch_size(batch, of_model.config, num_frames=frames, device=of_model.device, dtype=of_model.dtype)
        about = {
            "openxclip": __version__,
            "model": pipeline.name,
            "weights": fingerprint(of_model),
            "config": of_model.config.to_dict(),
            "transforms": pipeline.processor.image_processor.to_dict(),
            **asdict(plan),
            "normalized": normalize,
        }
        options = {
            **about,
            "model_class": type(of_model).__qualname__,  # another may compute otherwise with the same weights
            "precision": str(of_model.kernel.dtype) if isinstance(of_model, OptimizedXCLIPModel) else "",
            "patches": patches,
            "window_rule": None if window is None else WINDOW_RULE,
            "fps": fps or ASSUMED_FPS,
            **asdict(limits),
            "allow_protocols": pipeline.allow_protocols,
            "track": pipeline.track,
        }
        begun = {
            "options": options,
            "videos": [[name, *_stamp(source)] for name, source in zip(videos, sources, strict=True)],
            "batch": size,
            "packed": of_model.kernel.packed if isinstance(of_model, OptimizedXCLIPModel) else None,
        }
        manifest = work.begin(begun, anew=force)
        if isinstance(of_model, OptimizedXCLIPModel):  # a resumed run computes as it began
            kernel = of_model.kernel
            of_model.use_kernel(Kernel(kernel.dtype, packed=manifest.get("packed", kernel.packed)))
            about["kernel"] = str(of_model.kernel)
        if batch == "auto":
            size = int(manifest["batch"])  # as before an interruption, for the same features to the bit
        run = _Run(work, pipeline, videos, patches=patches, normalize=normalize, on_video=on_video, on_clip=on_clip)
        run.encode(sources, plan, size, fps=fps, limits=limits)
        return run.finish(target, plan, about)


class _Run:
    """From where the work has come to, to its end."""

    def __init__(
        self,
        work: Unfinished,
        pipeline: VideoPipeline,
        videos: list[str],
        *,
        patches: bool,
        normalize: bool,
        on_video: OnVideo,
        on_clip: OnClip,
    ) -> None:
        self._work, self._pipeline, self._videos = work, pipeline, videos
        self._with_patches, self._normalize, self._on_video = patches, normalize, on_video
        self._on_clip = on_clip
        self._before = work.progress()
        self._done = self._kept = self._before.next  # video and clip
        self._rows: list[dict[str, Any]] = []  # not kept yet, as the next are
        self._errors: list[tuple[int, str]] = []
        self._kept_at, self._bytes = time.monotonic(), 0
        self._safe = (0, 0)  # of these rows and errors, how many there were at the end of a batch, when all was `_done`

    def encode(self, sources: Sequence[VideoSource], plan: ClipPlan, batch: int, **reading: Any) -> None:
        """Have every row in the folder of the work."""
        (video, clip), errors, count = self._before.next, dict(self._before.errors), 0
        for number, path in enumerate(self._videos[:video]):
            self._on_video(path, VideoError(path, errors[number]) if number in errors else None)
        todo = [sources[i] for i in range(video, len(self._videos)) if is_utf8(self._videos[i])]
        encoded = self._pipeline.encode_clips(todo, plan, first=clip, batch=batch, **reading)
        video = self._past_odd_names(video)
        if video == len(self._videos):
            self._safe, self._done = (0, len(self._errors)), (video, 0)
        try:
            for one in encoded:
                if one.features is not None:
                    self._add(video, one)
                    self._on_clip(self._videos[video], one.end, one.duration)
                    clip, count = clip + 1, count + 1
                else:
                    if one.error is not None:
                        self._errors.append((video, one.error.reason))
                    self._on_video(self._videos[video], one.error)
                    video, clip = self._past_odd_names(video + 1), 0
                if count % batch == 0 or video == len(self._videos):
                    # only there may a later run go on, if its batches are to be those of a run that goes through
                    self._safe, self._done = (len(self._rows), len(self._errors)), (video, clip)
                    if self._bytes > _KEPT_EVERY_BYTES or time.monotonic() > self._kept_at + _KEPT_EVERY_S:
                        self._keep()
        except BaseException:
            with suppress(OSError):  # which may be what has interrupted it
                self._kept = self._work.progress().next  # it may have been in the middle of keeping
                self._keep()
            raise
        finally:
            encoded.close()
        self._keep()

    def _past_odd_names(self, video: int) -> int:
        """The first video from this one on whose name can be stored; those before it are errors."""
        while video < len(self._videos) and not is_utf8(self._videos[video]):
            self._errors.append((video, NOT_UTF8))
            self._on_video(self._videos[video], VideoError(self._videos[video], NOT_UTF8))
            video += 1
        return video

    def _add(self, video: int, one: EncodedClip) -> None:
        assert one.features is not None
        pooled_E = one.features.pooled[0].float()
        row: dict[str, Any] = {
            "video": np.int64(video),
            "start": np.float64(one.start),
            "end": np.float64(one.end),
            "times": np.array(one.times, dtype=np.float64),
            "pooled": (F.normalize(pooled_E, dim=0) if self._normalize else pooled_E).cpu().numpy(),
        }
        if self._with_patches:
            row["patches"] = one.features.patches[0].float().cpu().numpy()
        self._rows.append(row)
        self._bytes += sum(value.nbytes for value in row.values())

    def _keep(self) -> None:
        """Put what is done into the folder of the work."""
        rows, errors = self._safe
        if self._done != self._kept:
            columns = {"video": np.empty(0, dtype=np.int64)}
            if rows:
                columns = {name: np.stack([row[name] for row in self._rows[:rows]]) for name in self._rows[0]}
            self._work.add(columns, Progress(self._done, tuple(self._errors[:errors])))
            self._kept = self._done
        del self._rows[:rows], self._errors[:errors]
        self._safe, self._kept_at, self._bytes = (0, 0), time.monotonic(), 0

    def finish(self, target: Path, plan: ClipPlan, about: dict[str, Any]) -> Embedding:
        """Make the file of what is in the folder of the work."""
        errors = dict(self._work.progress().errors)
        config = self._pipeline.model.config
        width = config.projection_dim
        grid = config.vision_config.image_size // config.vision_config.patch_size
        count = sum(len(part["video"]) for part in self._work.rows([], without=errors))
        shapes: Shapes = {
            "video": ("int64", (count,)),
            "start": ("float64", (count,)),
            "end": ("float64", (count,)),
            "times": ("float64", (count, plan.num_frames)),
            "pooled": ("float32", (count, width)),
        }
        if self._with_patches:
            shapes["patches"] = ("float32", (count, grid**2, width))
        unread = tuple(VideoError(self._videos[number], reason) for number, reason in errors.items())
        if not count:  # an empty file would only be in the way of the next run
            self._work.discard()
            return Embedding(target, 0, width, tuple(self._videos), unread, about.get("kernel", ""))
        failed = [{"path": self._videos[number], "error": reason} for number, reason in errors.items()]
        metadata = {**about, "paths": self._videos, "errors": failed}
        with self._work.finishing() as path:
            write_features(path, lambda names: self._work.rows(names, without=errors), shapes, metadata)
        return Embedding(target, count, width, tuple(self._videos), unread, about.get("kernel", ""))


def _checked_target(out: str | Path, force: bool) -> Path:
    """Where to write: of a link, where it leads."""
    check_suffix(Path(out))
    target = Path(out).expanduser()
    try:
        target = target.resolve() if target.is_symlink() else target
        if target.exists() and not target.is_file():
            raise ValueError(f"{out}: is a {'folder' if target.is_dir() else 'device or pipe'}, not a file.")
    except (OSError, RuntimeError) as error:  # a link to itself, a name too long
        raise ValueError(f"{out}: can't be written ({reason_of(error)}).") from error
    check_suffix(target)
    if target.exists() and not force:
        with suppress(OSError, ValueError):
            Unfinished(target).close()  # of the run that made it, if that was ended before it had cleaned up
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
    return target


def _sources(paths: Videos) -> list[str | MemoryVideo]:
    """The videos that are named, by their paths, and those of frames in memory."""
    given = as_sources(paths)
    for source in given:
        if not isinstance(source, str | Path | MemoryVideo):
            raise TypeError(
                f"embed takes paths and frames in memory, not {type(source).__name__}: save it to a file first."
            )
    found = check_found(find_videos(given))
    if not found:
        raise ValueError("no videos are named.")
    return [source if isinstance(source, MemoryVideo) else str(source) for source in found]


def _stamp(source: str | MemoryVideo) -> tuple[int | str, ...]:
    """By what a video is known to be the same when a run is resumed."""
    return (source.digest(),) if isinstance(source, MemoryVideo) else stamp_of(source)
