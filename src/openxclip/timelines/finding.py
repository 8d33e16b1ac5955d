"""`timeline` and `iter_timelines`: find when labels are seen in videos or in an index."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from openxclip.common.argument_names import takes_arguments_of
from openxclip.config import TimeContract
from openxclip.engine import Precision
from openxclip.hub import DEFAULT_MODEL
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch, check_batch
from openxclip.pipeline.loading import as_pipeline
from openxclip.processing.sources import Videos, as_sources
from openxclip.recognition.classification import check_labels
from openxclip.timelines.contracts import as_contract
from openxclip.timelines.finder import DEFAULT_WINDOW, TimelineFinder
from openxclip.timelines.segments import SegmentOptions
from openxclip.timelines.shot_reading import ShotReading
from openxclip.timelines.shots import Shots
from openxclip.timelines.timeline import Timeline
from openxclip.video import ClipPlan, ReadOptions, find_videos


def iter_timelines(
    paths: Videos | None,
    labels: Sequence[str],
    *,
    model: str | Path | VideoPipeline | None = None,
    index: str | Path | None = None,
    window: float | None = None,
    stride: float | None = None,
    num_frames: int | None = None,
    threshold: float | None = None,
    stop: float | None = None,
    smooth: float | None = None,
    min_duration: float | None = None,
    merge_gap: float | None = None,
    template: str = "{}",
    shots: Shots | None = None,
    neutral_texts: Sequence[str] | None = None,
    contract: TimeContract | str | Path | None = None,
    batch: Batch = "auto",
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    precision: Precision | None = None,
    isolate: bool | None = None,
    read: ReadOptions | None = None,
) -> Iterator[Timeline]:
    """Find when `labels` are seen in videos, and yield the timeline of each as soon as it is ready.

    Args:
        paths: one or more videos, see `openxclip.iter_classify`; with `index`, names of its videos, or None for all.
        labels: one or more labels. No label changes the score of another, and segments of labels may overlap.
        model: a folder, a hub id, or "mini", which knows only the rendered playground; or a loaded pipeline. None is
            the default of `VideoPipeline.from_pretrained`, and with `index` the model of the index.
        index: an index, whose stored windows are scored without decoding a video. The windows are those of the index,
            so `window`, `stride`, `num_frames` and `shots` are refused, as `read`, `batch`, `dtype` and `isolate` are.
        window, stride, num_frames, template, shots, neutral_texts: see `TimelineFinder`.
        threshold, stop, smooth, min_duration, merge_gap: see `SegmentOptions`.
        contract: a contract of time, or a JSON file with one, in place of the model's own.
        batch, read: see `VideoPipeline.encode_clips`.
        device, dtype, precision, isolate: see `VideoPipeline.from_pretrained`.

    Returns:
        An iterator over one timeline for each video, in order. If a video can't be read, or not to its end, its
        timeline has `error`, and the windows before it.

    Raises:
        ValueError, TypeError: an argument is invalid. This and the next are raised at the call, before any video is
            read.
        CheckpointError: the model can't be found or loaded, or its contract is invalid.
        MissingPackageError: a package that an option needs isn't installed.
        VideoIndexError: the index can't be opened, or doesn't have one of the videos.

    Examples:
        >>> import openxclip
        >>> labels = ["a cat moves left", "an owl vanishes"]
        >>> for timeline in openxclip.iter_timelines("samples", labels, model="mini"):
        ...     print(timeline.path, [segment.label for segment in timeline.segments])
        samples/cat_moves_left.mp4 ['a cat moves left']
        samples/eagle_picks_up_a_snake.mp4 []
        ...
    """
    labels = check_labels(labels)  # this and the next checks come before the model is loaded
    options = SegmentOptions(
        threshold=threshold, stop=stop, smooth=smooth, min_duration=min_duration, merge_gap=merge_gap
    )
    check_batch(batch)
    texts: dict[str, Any] = {
        "options": options,
        "template": template,
        "neutral_texts": neutral_texts,
        "contract": None if contract is None else as_contract(contract),
    }
    if index is not None:
        unused = {"window": window, "stride": stride, "num_frames": num_frames, "shots": shots, "read": read,
                  "dtype": dtype, "isolate": isolate, "batch": None if batch == "auto" else batch}  # fmt: skip
        for name, value in unused.items():
            if value is not None:
                raise ValueError(f"{name}={value}: the windows of an index are stored already: leave it out.")
        return _timelines_in_index(paths, labels, index, model, {"device": device, "precision": precision}, texts)
    ClipPlan(num_frames=num_frames, window=window or DEFAULT_WINDOW, stride=stride)
    if shots is not None:
        ShotReading(shots)
    if paths is None:
        raise ValueError("paths=None: name the videos, or give an index.")
    sources = as_sources(paths)
    pipeline = as_pipeline(
        DEFAULT_MODEL if model is None else model,
        device=device,
        dtype=dtype,
        precision=precision,
        isolate=isolate,
        read=read,
    )
    finder = TimelineFinder(pipeline, labels, window=window, stride=stride, num_frames=num_frames, shots=shots, **texts)
    return finder(find_videos(sources), read=read, batch=batch)


def _timelines_in_index(
    paths: Any,
    labels: Sequence[str],
    uri: str | Path,
    model: str | Path | VideoPipeline | None,
    loading: dict[str, Any],
    texts: dict[str, Any],
) -> Iterator[Timeline]:
    from openxclip.search.opening import OpenIndex  # here, because LanceDB and pyarrow take time to import
    from openxclip.timelines.indexed import IndexedTimelineFinder, videos_named

    index = OpenIndex(uri, model, {}, loading)
    names = [paths] if isinstance(paths, str | Path) else paths
    videos = videos_named(index, None if names is None else list(names))
    return IndexedTimelineFinder(index, labels, **texts)(videos)


@takes_arguments_of(iter_timelines)
def timeline(*args: Any, **arguments: Any) -> Timeline:
    """Find when labels are seen in one video; the twin of `openxclip timeline`.

    Arguments are those of `iter_timelines`, which takes several videos.

    Returns:
        The timeline of the video. If the video can't be read to its end, it has `error`, and the windows before it.

    Raises:
        ValueError, TypeError, CheckpointError: as for `iter_timelines`; or `paths` is not one video.
        VideoError: the video can't be read.

    Examples:
        >>> import openxclip
        >>> timeline = openxclip.timeline("samples/cat_moves_left.mp4", ["a cat moves left"], model="mini")
        >>> [segment.label for segment in timeline.segments]
        ['a cat moves left']
    """
    given = inspect.signature(iter_timelines).bind(*args, **arguments).arguments
    if given.get("index") is None and given["paths"] is not None:
        given["paths"] = sources = as_sources(given["paths"])
        if len(find_videos(sources)) > 1:  # before any is read
            raise ValueError("several videos, but timeline takes one: iter_timelines takes any number.")
    found = list(itertools.islice(iter_timelines(**given), 2))
    if len(found) != 1:
        number = "no video" if not found else "several videos"
        raise ValueError(f"{number}, but timeline takes one: iter_timelines takes any number.")
    if found[0].error is not None and not len(found[0].starts):
        raise found[0].error
    return found[0]
