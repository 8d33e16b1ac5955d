"""Estimate what indexing a source takes, from a few of its videos that are read and encoded in part."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from openxclip.common.sizes import format_bytes
from openxclip.errors import VideoError
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.clip_reading import ClipReader, ReadClip
from openxclip.search.bulk.fetching import fetched
from openxclip.search.bulk.items import SourceItem
from openxclip.search.bulk.rows import PLAN, reading_options
from openxclip.search.maintenance import VECTORS_INDEXED_FROM
from openxclip.search.patches import compress_patches
from openxclip.search.schema import IndexInfo
from openxclip.video import ClipPlan, DecodeWorker, ReadOptions, VideoReader, VideoSource
from openxclip.video.clips import PlannedClips

PROBES = 16
_READ_S = 60.0  # footage of a probe that is read; of a longer video, the rest is taken to cost as much
_READ_CPU_S = 5.0  # after which no more of a probe is read
_ENCODE_S = 3.0  # for which the model is measured
_CLIPS_KEPT = 16  # that the model is measured with
# Compressed, as measured: of a window without its embedding and patches, and of the rest of a video's only window
_WINDOW_BYTES, _VIDEO_BYTES = 6, 95

OnProbe = Callable[[int, int], object]


class _Probe(NamedTuple):
    """What one video showed.

    Attributes:
        duration: seconds.
        windows: number of its windows.
        size: bytes.
        reading: CPU seconds to read and resize the whole video on one core.
        fetching: seconds to copy it from an object store; 0 for a file.
    """

    duration: float
    windows: int
    size: int
    reading: float
    fetching: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What indexing the videos of a source takes, judged by a random sample of them.

    Attributes:
        videos: number of videos to index.
        probed: number of videos that were read.
        errors: errors of the probed videos that can't be read.
        error: standard error of the footage of a video, as a share of it, because few videos were probed; NaN if it is
            unknown.
        hours: hours of footage.
        windows: number of windows.
        source_bytes: bytes of the videos.
        index_bytes: bytes of the index.
        reading: core-hours to decode and resize.
        model: hours of the device on which the model was measured: of one core if it was a CPU, of the GPU if not.
        fetching: hours to copy all videos from the object store one after the other, as measured here; 0 for files.
        device: kind of the device on which the model was measured, "cpu" or "cuda".
    """

    videos: int
    probed: int
    errors: tuple[VideoError, ...]
    error: float
    hours: float
    windows: int
    source_bytes: int
    index_bytes: int
    reading: float
    model: float
    fetching: float
    device: str

    def hours_on(self, cores: float, gpus: float = 0) -> tuple[float, str]:
        """Return the hours that a cluster takes, and the stage that limits it.

        Cores read, and run the model if there are no GPUs. What commits, starts of workers and waiting take isn't
        counted.

        Args:
            cores: number of CPU cores.
            gpus: number of GPUs like the one that was measured.

        Raises:
            ValueError: there are no cores; or the model was measured on the other kind of device.
        """
        if cores <= 0 or gpus < 0:
            raise ValueError(f"cores={cores:g}, gpus={gpus:g}: give the numbers of a cluster.")
        if gpus and self.device == "cpu":
            raise ValueError("the model was measured on a CPU: measure it on a GPU of the cluster's kind.")
        if not gpus and self.device != "cpu":
            raise ValueError("the model was measured on a GPU: measure it on a CPU (device='cpu').")
        if not gpus:
            stage = "reading" if self.reading > self.model else "the model"
            return (self.reading + self.model) / cores, stage
        reading, model = self.reading / cores, self.model / gpus
        return max((reading, "reading"), (model, "the model"))

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "errors"}
        return {**values, "errors": [str(error) for error in self.errors]}


def estimate(
    parts: Iterable[Sequence[SourceItem]],
    pipeline: VideoPipeline,
    info: IndexInfo,
    *,
    probes: int = PROBES,
    seed: int | None = None,
    read: ReadOptions | None = None,
    on_probe: OnProbe = lambda done, total: None,
) -> Estimate:
    """Probe a random sample of videos.

    The sample is drawn while the whole source is listed, in constant memory. Up to a minute of each probed video is
    read, first in another process, in case that reading it crashes the decoder.

    Args:
        parts: the videos to index, for example a `Plan`.
        pipeline: the model.
        info: description of the index.
        probes: number of videos to read.
        seed: seed of the sample; None draws another one each time.
        read: how videos are read.
        on_probe: called after each probe with the number of probes done and their total.

    Raises:
        ValueError: there are no videos, or `probes` is below 1.
        VideoError: none of the probed videos can be read.
        StoreError: the store doesn't answer.
    """
    if probes < 1:
        raise ValueError(f"probes={probes}: must be 1 or more.")
    total, sample = _draw(parts, probes, random.Random(seed))
    if not sample:
        raise ValueError("there are no videos to index.")
    prober = _Prober(pipeline, info, reading_options(info, read or pipeline.read))
    found: list[_Probe] = []
    errors: list[VideoError] = []
    with tempfile.TemporaryDirectory(prefix="openxclip-probe-") as folder, DecodeWorker() as worker, _one_thread():
        for number, item in enumerate(sample, start=1):
            try:
                found.append(prober.probe(item, Path(folder), worker))
            except VideoError as error:
                errors.append(error)
            on_probe(number, len(sample))
    if not found:
        raise errors[0]
    with _one_thread():
        seconds_per_window, patches_bytes = prober.measure_model()

    share = total / len(sample)  # videos for which one probe stands
    durations = [probe.duration for probe in found]
    windows = share * sum(probe.windows for probe in found)
    width = pipeline.model.config.projection_dim
    per_window = _WINDOW_BYTES + 4 * width + patches_bytes
    per_window += width if windows >= VECTORS_INDEXED_FROM else 0  # of the vector index
    return Estimate(
        videos=total,
        probed=len(sample),
        errors=tuple(errors),
        error=_relative_error(durations) if len(sample) < total else 0.0,
        hours=share * sum(durations) / 3600,
        windows=round(windows),
        source_bytes=round(share * sum(probe.size for probe in found)),
        index_bytes=round(windows * per_window + share * len(found) * _VIDEO_BYTES),
        reading=share * sum(probe.reading for probe in found) / 3600,
        model=windows * seconds_per_window / 3600,
        fetching=share * sum(probe.fetching for probe in found) / 3600,
        device=pipeline.model.device.type,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch use one thread, so that CPU time is the time of one core: threads that wait take time too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _draw(parts: Iterable[Sequence[SourceItem]], count: int, generator: random.Random) -> tuple[int, list[SourceItem]]:
    """Return the number of items, and a random sample of them (Vitter's algorithm R)."""
    total, sample = 0, list[SourceItem]()
    for part in parts:
        for item in part:
            total += 1
            if len(sample) < count:
                sample.append(item)
            elif (place := generator.randrange(total)) < count:
                sample[place] = item
    return total, sample


def _relative_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean as a share of the mean; NaN if it can't be known."""
    mean = sum(values) / len(values)
    if len(values) < 2 or not mean:
        return math.nan
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values)) / mean


class _Prober:
    """Reads parts of videos, and keeps some of their clips to measure the model with."""

    def __init__(self, pipeline: VideoPipeline, info: IndexInfo, read: ReadOptions) -> None:
        self._pipeline, self._info = pipeline, info
        self._read = replace(read, threads=1)
        self._reader = ClipReader(
            plan=ClipPlan(**{name: getattr(info, name) for name in PLAN}),
            read=self._read,
            views=lambda frames_TCHW: [pipeline.processor.image_processor.levels(frames_TCHW)],
            bytes_kept=3 * pipeline.model.config.vision_config.image_size**2,
        )
        self._clips: list[ReadClip] = []

    def probe(self, item: SourceItem, folder: Path, worker: DecodeWorker) -> _Probe:
        """Read up to a minute of a video.

        Raises:
            VideoError: it can't be read.
        """
        began = time.monotonic()
        with fetched(item, folder) as video:
            fetching = time.monotonic() - began if "://" in item.path else 0.0
            try:
                self._read_part(worker, video.path)
                return self._measure(video.path, video.item.size, fetching)
            except VideoError as error:
                raise VideoError(item.path, error.reason) from error

    def _measure(self, path: Path, size: int, fetching: float) -> _Probe:
        began = time.process_time()
        with VideoReader(path, read=self._read) as video:
            opening = time.process_time() - began
            windows, duration = len(PlannedClips(self._reader.plan, video)), video.duration
        began = time.process_time()
        seen, clips = self._read_part(None, path)
        spent = max(0.0, time.process_time() - began - opening)
        if len(self._clips) < _CLIPS_KEPT:
            self._clips += clips[: _CLIPS_KEPT - len(self._clips)]
        return _Probe(
            duration, windows, size, opening + spent * max(1.0, duration / seen) if seen else opening, fetching
        )

    def _read_part(self, worker: DecodeWorker | None, path: Path) -> tuple[float, list[ReadClip]]:
        """Read the beginning of a video; return the seconds of footage and its first clips."""
        seen, kept, began = 0.0, list[ReadClip](), time.process_time()
        with closing(self._reader.read_clips(worker, path)) as read:
            for clips in read:
                kept += clips[: _CLIPS_KEPT - len(kept)]
                seen = clips[-1].info.end if clips else seen
                if seen >= _READ_S or time.process_time() - began > _READ_CPU_S:
                    break
        return seen, kept

    def measure_model(self) -> tuple[float, float]:
        """Return the seconds of the device for a window, and the bytes of its patches in the index.

        On a CPU, these are seconds of one core.
        """
        is_cpu = self._pipeline.model.device.type == "cpu"
        clock = time.process_time if is_cpu else time.monotonic
        features = self._encode(1)  # the first calls prepare the weights
        patches = 0.0
        if self._info.patches:
            sizes = [len(compress_patches(clip.patches[0].float().cpu().numpy())) for clip in features]
            patches = sum(sizes) / len(sizes)
        began, since, rounds = clock(), time.monotonic(), 0
        while not rounds or time.monotonic() - since < _ENCODE_S:
            self._encode(4)
            rounds += 1
        return (clock() - began) / (rounds * 4 * len(self._clips)), patches

    def _encode(self, times: int) -> list[Any]:
        """Encode the kept clips several times in one run, as an index does; return their features."""

        def reading(
            reader: ClipReader, worker: DecodeWorker | None, source: VideoSource
        ) -> Generator[list[ReadClip], None, None]:
            for _ in range(times):
                yield list(self._clips)

        encoded = self._pipeline.encode_clips(["probes"], self._reader.plan, reading=reading)
        return [clip.features for clip in encoded if clip.features is not None]


def describe(found: Estimate) -> list[str]:
    """Return an estimate in lines of text, without the time that it takes."""
    unsure = f" (± {200 * found.error:.0f} %)" if found.error and math.isfinite(found.error) else ""
    lines = [
        f"{found.videos} videos, about {format_hours(found.hours)}{unsure} of footage in "
        f"{format_bytes(found.source_bytes)}; {found.probed} of them were probed",
        f"{found.windows} windows, an index of about {format_bytes(found.index_bytes)}",
        f"reading: {format_hours(found.reading)} of one core",
        f"the model: {format_hours(found.model)} of one {'core' if found.device == 'cpu' else 'GPU'}",
    ]
    if found.errors:
        lines.append(f"{len(found.errors)} of {found.probed} probed videos could not be read: {found.errors[0]}")
    return lines


def format_hours(hours: float) -> str:
    """Return a time in words: 3.2 seconds, 12 minutes, 5 hours, 80 days."""
    if hours >= 48:
        return f"{hours / 24:.3g} days"
    if hours >= 1:
        return f"{hours:.3g} hours"
    return f"{60 * hours:.3g} minutes" if hours >= 1 / 60 else f"{3600 * hours:.3g} seconds"
