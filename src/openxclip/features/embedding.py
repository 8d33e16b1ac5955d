"""Write the features of many videos to one file, as `openxclip embed` does."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

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

_UNKNOWN_S = 1.0  # stands for the model's window until the model is loaded


def embed(
    paths: Videos,
    out: str | Path,
    *,
    model: str | Path | VideoPipeline = DEFAULT_MODEL,
    num_frames: int | None = None,
    num_clips: int = 1,
    window: float | Literal["auto"] | None = None,
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

    The file is written atomically at the end; if no video can be read, it isn't written. Until then, rows are kept in a
    folder beside it, called `out` with `.part` added. After an interruption, the same call resumes and writes the same
    file.

    The columns have N rows, in the order of the videos and of time:

    - `path` (.parquet), or `video` (N,) int64, an index into the metadata's `paths` (.npz, .safetensors);
    - `start`, `end` (N,) float64: bounds of the window, in seconds; for clips over the whole video, 0 and its duration;
    - `times` (N, T) float64: times of the clip's frames, in seconds;
    - `pooled` (N, E) float32: as `XCLIPModel.get_video_features` (MIT's output), normalised only with `normalize`;
    - `patches` (N, P, E) float32, if asked for: with these and `pooled`, `XCLIPModel.forward(video_features=(pooled,
      patches))` scores the clips against any texts. (Scores don't depend on the length of `pooled`.)

    Metadata is JSON under the name "openxclip" (in .parquet in the schema, in .npz an array of shape ()): `openxclip`,
    the version; `model`, its name; `weights`, their SHA-256; `config`, `transforms`, `num_frames`, `num_clips`,
    `window`, `stride`, `sampling`, `decode`, `normalized`; `kernel`, how products were computed; `paths` of all videos;
    `errors`.

    Args:
        paths: one or more files, folders and globs (see `openxclip.video.find_videos`); or frames in memory, in the
            forms that `openxclip.iter_classify` takes, whose paths are "frames 1", "frames 2", …. To resume with
            frames, give the same frames.
        out: path of the file, whose suffix chooses the format: .parquet, .npz or .safetensors.
        model: a folder, a hub id, or "mini", which knows only the rendered playground; or a loaded pipeline.
        num_frames: frames of a clip (T); the default is the number that the model was trained with, and with
            `window="auto"` the contract's.
        num_clips: number of clips of each video (see `openxclip.video.sample_clips`); not with `window`.
        window: length of a window, in seconds; `openxclip.video.ClipPlan` says which windows a video has. "auto" is the
            window of the model's contract of time.
        stride: seconds from the start of a window to the start of the next; the default is `window`, and with
            `window="auto"` the contract's.
        sampling: how to choose the frames of a clip, see `openxclip.video.sampling.Timeline`.
        patches: whether to write `patches`.
        normalize: whether to scale each `pooled` to length 1.
        batch: the number of clips in one call of the model; see `VideoPipeline.encode_videos`.
        force: overwrite `out` if it exists, and start again if the folder beside it belongs to another call.
        device, dtype, precision, isolate: see `VideoPipeline.from_pretrained`.
        read: how to read videos; the default is the pipeline's `read`, or `ReadOptions()`. `limits.seconds` applies to
            each piece of a video.
        on_video: called after the last clip of each video with its path, and its error if it can't be read.
        on_clip: called after each clip with the video's path, the clip's end and the video's duration, in seconds.

    Raises:
        ValueError: an argument is invalid, `out` included; or `window` is "auto" and the model's contract has none; or
            the folder beside `out` belongs to another call, or is in use.
        FileExistsError: `out` exists.
        OSError: the file can't be written; the rows are kept.
        CheckpointError: the model can't be found or loaded, or its contract is needed and invalid.

    Examples:
        >>> import openxclip
        >>> embedding = openxclip.embed("samples", "features.npz", model="mini")
        >>> embedding.rows, embedding.width
        (6, 192)
    """
    target = _check_target(out, force)
    if isinstance(window, str) and window != "auto":
        raise ValueError(f"window={window!r}: must be a number of seconds, or 'auto'.")
    seconds = _UNKNOWN_S if window == "auto" else window
    plan = ClipPlan(num_frames=num_frames, num_clips=num_clips, window=seconds, stride=stride, sampling=sampling)
    check_batch(batch)
    sources = _find_sources(paths)
    videos = [source.name if isinstance(source, MemoryVideo) else source for source in sources]
    check_names(target, videos)
    with Unfinished(target) as work:  # before the model is loaded, in case the folder can't be written
        pipeline = as_pipeline(model, device=device, dtype=dtype, precision=precision, isolate=isolate, read=read)
        if window == "auto":
            plan = take_windows(pipeline, plan)
        read, plan = read or pipeline.read, pipeline.complete_plan(plan)
        metadata = metadata_of(pipeline, plan, read, normalize=normalize)
        size = pipeline.clips_per_call(batch, plan)
        optimized = pipeline.model if isinstance(pipeline.model, OptimizedXCLIPModel) else None
        manifest = work.begin(
            {
                "options": {**metadata, **resuming_options(pipeline, plan, read, patches=patches)},
                "videos": [[name, *_version_of(source)] for name, source in zip(videos, sources, strict=True)],
                "batch": size,
                "packed": None if optimized is None else optimized.kernel.packed,
            },
            overwrite=force,
        )
        # A resumed run uses the kernel and the batches of the first run, so that features are the same to the bit
        if optimized is not None:
            kernel = optimized.kernel
            optimized.use_kernel(Kernel(kernel.dtype, packed=manifest["packed"]))
            metadata["kernel"] = str(optimized.kernel)
        if batch == "auto":
            size = int(manifest["batch"])
        run = EmbedRun(
            work, pipeline, videos, plan, patches=patches, normalize=normalize, on_video=on_video, on_clip=on_clip
        )
        run.encode(sources, batch=size, read=read)
        return run.finish(target, metadata)


def take_windows(pipeline: VideoPipeline, plan: ClipPlan) -> ClipPlan:
    """Return the plan with the windows of the model's contract; the plan's own stride and frames are kept."""
    contract = pipeline.contract
    if contract.window is None:
        raise ValueError(
            f"window=auto: {pipeline.name or 'the model'} states no window in its contract of time: say how many "
            "seconds a window lasts."
        )
    chosen = contract.windows(stride=plan.stride, num_frames=plan.num_frames)
    return replace(plan, window=chosen.window, stride=chosen.stride, num_frames=chosen.num_frames)


def metadata_of(pipeline: VideoPipeline, plan: ClipPlan, read: ReadOptions, *, normalize: bool) -> dict[str, Any]:
    """Return the metadata of the file that is known before any video is read."""
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
        "decode": read.decode,
        "normalized": normalize,
    }


def resuming_options(pipeline: VideoPipeline, plan: ClipPlan, read: ReadOptions, *, patches: bool) -> dict[str, Any]:
    """Return the options besides the metadata that must be equal when a run is resumed."""
    model = pipeline.model
    return {
        "model_class": type(model).__qualname__,  # another class may compute differently with the same weights
        "precision": str(model.kernel.dtype) if isinstance(model, OptimizedXCLIPModel) else "",
        "patches": patches,
        "window_rule": None if plan.window is None else WINDOW_RULE,
        "fps": read.fps or ASSUMED_FPS,
        **asdict(read.limits),
        "allow_protocols": read.allow_protocols,
        "track": read.track,
        "allow_cut_off": read.allow_cut_off,
    }


def _check_target(out: str | Path, force: bool) -> Path:
    """Check `out`, and return the path to write to, which is the target of a link."""
    check_suffix(Path(out))
    target = resolve_target(out)
    if target.is_dir():
        raise ValueError(f"{out}: is a folder, not a file.")
    check_suffix(target)
    if target.exists() and not force:
        with suppress(OSError, ValueError):
            Unfinished(target).close()  # removes the folder that a run left if it was killed after writing the file
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
    return target


def _find_sources(paths: Videos) -> list[str | MemoryVideo]:
    """Return the paths of all videos, and the frames in memory."""
    sources = as_sources(paths)
    for source in sources:
        if not isinstance(source, str | Path | MemoryVideo):
            raise TypeError(
                f"embed takes paths and frames in memory, not {type(source).__name__}: save it to a file first."
            )
    videos = require_videos(find_videos(sources))
    if not videos:
        raise ValueError("no videos are named.")
    return [video if isinstance(video, MemoryVideo) else str(video) for video in videos]


def _version_of(source: str | MemoryVideo) -> tuple[int | str, ...]:
    """Return values that change if the video does."""
    return (source.digest(),) if isinstance(source, MemoryVideo) else stamp_of(source)
