"""Write the features of many videos to one file, as `openxclip embed` does."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from openxclip._version import __version__
from openxclip.checkpoints.fingerprints import fingerprint
from openxclip.common.files import resolve_target, stamp_of
from openxclip.engine import OptimizedXCLIPModel, Precision
from openxclip.engine.linears import Kernel
from openxclip.features.files import check_names, check_suffix
from openxclip.features.resuming import Unfinished
from openxclip.features.run import Embedding, EmbedRun, OnClip, OnVideo
from openxclip.hub import DEFAULT_MODEL
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch, check_batch
from openxclip.pipeline.loading import as_pipeline
from openxclip.processing.sources import Videos, as_sources
from openxclip.video import ClipPlan, ReadOptions, find_videos
from openxclip.video.assumptions import ASSUMED_FPS
from openxclip.video.clips import WINDOW_RULE
from openxclip.video.finding import require_videos
from openxclip.video.memory import MemoryVideo
from openxclip.video.sampling import Sampling

__all__ = ["Embedding", "embed"]


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
    patches: bool = False,
    normalize: bool = False,
    batch: Batch = "auto",
    force: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    precision: Precision | None = None,
    isolate: bool | None = None,
    read: ReadOptions | None = None,
    on_video: OnVideo = lambda path, error: None,
    on_clip: OnClip = lambda path, end, duration: None,
) -> Embedding:
    """Write the features of videos to a file, a row for each clip or window; the twin of `openxclip embed`.

    The file is written atomically; if no video can be read, it isn't written. Until then, what is done is in a folder
    beside it, named `out` with `.part` added. After an interruption, the same call resumes from there and writes the
    same file.

    Columns of N rows, in the order of the videos and of time:

    - `path` (.parquet), or `video` (N,) int64, an index into the metadata's `paths` (.npz, .safetensors);
    - `start`, `end` (N,) float64: the window in seconds; for clips over the whole video, 0 and its duration;
    - `times` (N, T) float64: times of the clip's frames, in seconds;
    - `pooled` (N, E) float32: as `XCLIPModel.get_video_features` (MIT's output), normalised only with `normalize`;
    - `patches` (N, P, E) float32, with `patches`: together with `pooled`, all that `XCLIPModel.forward(
      video_features=(pooled, patches))` needs to score the clips against any texts. (Scores don't depend on the length
      of `pooled`.)

    Metadata, as JSON under the name "openxclip" (in .parquet in the schema, in .npz an array of shape ()): `openxclip`,
    the version; `model`, its name; `weights`, their SHA-256; `config`, `transforms`, `num_frames`, `num_clips`,
    `window`, `stride`, `sampling`, `normalized`; `kernel`, how products were computed; `paths` of all videos; `errors`.

    Args:
        paths: one or more files, folders and globs (see `openxclip.video.find_videos`); and frames in memory, as
            `openxclip.iter_classify` takes them, whose paths are "frames 1", "frames 2", …. To resume with frames, give
            the same frames.
        out: the file; its suffix decides the format: .parquet, .npz or .safetensors.
        model: a folder, a hub id, or "mini", which knows only the rendered playground; or a loaded pipeline.
        num_frames: frames of a clip (T); default is the number that the model was trained with.
        num_clips: clips over the whole of each video (see `openxclip.video.sample_clips`); not with `window`.
        window: seconds of a window; `openxclip.video.ClipPlan` says which windows a video has.
        stride: seconds from the start of a window to the start of the next; default is `window`.
        sampling: how the frames of a clip are chosen, see `openxclip.video.sampling.Timeline`.
        patches: write `patches` too.
        normalize: scale each `pooled` to length 1.
        batch: clips in one call of the model; see `VideoPipeline.encode_videos`.
        force: overwrite `out` if it exists, and start again if the folder beside it is another call's.
        device, dtype, precision, isolate: see `VideoPipeline.from_pretrained`.
        read: how videos are read; default is the pipeline's `read`, or `ReadOptions()`. `limits.seconds` holds for
            every 32 windows or less.
        on_video: called with each video's path when all of it is done, and with its error if it can't be read.
        on_clip: called after each clip with the video's path, the clip's end and the video's duration, in seconds.

    Raises:
        ValueError: an argument can't be used, `out` included; or the folder beside `out` belongs to another call, or
            to one that is running.
        FileExistsError: `out` exists.
        OSError: it can't be written. What was done is kept.
        CheckpointError: the model can't be found or loaded.
    """
    target = _checked_target(out, force)
    plan = ClipPlan(num_frames=num_frames, num_clips=num_clips, window=window, stride=stride, sampling=sampling)
    check_batch(batch)
    sources = _named_sources(paths)
    videos = [source.name if isinstance(source, MemoryVideo) else source for source in sources]
    check_names(target, videos)
    with Unfinished(target) as work:  # before the model is loaded, because nothing may be writable there
        pipeline = as_pipeline(model, device=device, dtype=dtype, precision=precision, isolate=isolate, read=read)
        read, plan = read or pipeline.read, pipeline.complete_plan(plan)
        metadata = _metadata(pipeline, plan, normalize)
        size = pipeline.clips_per_call(batch, plan)
        optimized = pipeline.model if isinstance(pipeline.model, OptimizedXCLIPModel) else None
        manifest = work.begin(
            {
                "options": {**metadata, **_options(pipeline, plan, read, patches=patches)},
                "videos": [[name, *_version_of(source)] for name, source in zip(videos, sources, strict=True)],
                "batch": size,
                "packed": None if optimized is None else optimized.kernel.packed,
            },
            overwrite=force,
        )
        if optimized is not None:  # a resumed run computes as the first one did
            own = optimized.kernel
            optimized.use_kernel(Kernel(own.dtype, packed=manifest.get("packed", own.packed)))
            metadata["kernel"] = str(optimized.kernel)
        if batch == "auto":
            size = int(manifest["batch"])  # as before an interruption, for the same features to the bit
        run = EmbedRun(
            work, pipeline, videos, plan, patches=patches, normalize=normalize, on_video=on_video, on_clip=on_clip
        )
        run.encode(sources, batch=size, read=read)
        return run.finish(target, metadata)


def _metadata(pipeline: VideoPipeline, plan: ClipPlan, normalize: bool) -> dict[str, Any]:
    """Return what the file says of its features."""
    return {
        "openxclip": __version__,
        "model": pipeline.name,
        "weights": fingerprint(pipeline.model),
        "config": pipeline.model.config.to_dict(),
        "transforms": pipeline.processor.image_processor.to_dict(),
        "num_frames": plan.num_frames,
        "num_clips": plan.num_clips,
        "window": plan.window,
        "stride": plan.stride,
        "sampling": plan.sampling,
        "normalized": normalize,
    }


def _options(pipeline: VideoPipeline, plan: ClipPlan, read: ReadOptions, *, patches: bool) -> dict[str, Any]:
    """Return what else must be the same when a run is resumed."""
    model = pipeline.model
    return {
        "model_class": type(model).__qualname__,  # another class may compute otherwise with the same weights
        "precision": str(model.kernel.dtype) if isinstance(model, OptimizedXCLIPModel) else "",
        "patches": patches,
        "window_rule": None if plan.window is None else WINDOW_RULE,
        "fps": read.fps or ASSUMED_FPS,
        **asdict(read.limits),
        "allow_protocols": read.allow_protocols,
        "track": read.track,
    }


def _checked_target(out: str | Path, force: bool) -> Path:
    """Return the path to write to: the target of `out`, if it is a link."""
    check_suffix(Path(out))
    target = resolve_target(out)
    if target.is_dir():
        raise ValueError(f"{out}: is a folder, not a file.")
    check_suffix(target)
    if target.exists() and not force:
        with suppress(OSError, ValueError):
            Unfinished(target).close()  # cleans up if the run that made the file was killed before it had
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
    return target


def _named_sources(paths: Videos) -> list[str | MemoryVideo]:
    """Return the paths of the videos that are named, and the frames in memory."""
    given = as_sources(paths)
    for source in given:
        if not isinstance(source, str | Path | MemoryVideo):
            raise TypeError(
                f"embed takes paths and frames in memory, not {type(source).__name__}: save it to a file first."
            )
    found = require_videos(find_videos(given))
    if not found:
        raise ValueError("no videos are named.")
    return [source if isinstance(source, MemoryVideo) else str(source) for source in found]


def _version_of(source: str | MemoryVideo) -> tuple[int | str, ...]:
    """Return what identifies this version of a video when a run is resumed."""
    return (source.digest(),) if isinstance(source, MemoryVideo) else stamp_of(source)
