"""Read the clips of a training in worker processes, which may die."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from openxclip.datasets.samples import Sample
from openxclip.errors import VideoError
from openxclip.training.augmentation import crop, draw_multi_scale_crop
from openxclip.training.batches import Batches, ClipKey, seeded_generator
from openxclip.video import ReadOptions, VideoReader
from openxclip.video.assumptions import FPS_ASSUMED
from openxclip.video.clips import timeline_of
from openxclip.video.sampling import Sampling


@dataclass(frozen=True)
class Pass:
    """The clips of one pass through the model.

    Attributes:
        step, pass_index, is_counted: see `ClipKey`.
        samples: index of each clip's sample.
        clips: uint8 (B, T, 3, H, W), the clips that could be read.
        errors: why the others could not be read, by the index of their sample.
        seconds: length of the part of the video that each of `samples` is; NaN if it is unknown.
    """

    step: int
    pass_index: int
    is_counted: bool
    samples: tuple[int, ...]
    clips: Tensor
    errors: dict[int, str] = field(default_factory=dict)
    seconds: tuple[float, ...] = ()

    def pin_memory(self) -> Pass:
        """Pin the clips, so that they are copied to a GPU while it computes. The DataLoader calls this."""
        return replace(self, clips=self.clips.pin_memory())


def _no_clips() -> Tensor:
    return torch.empty(0, 0, 3, 0, 0, dtype=torch.uint8, device="cpu")


class TrainClips(Dataset[Any]):
    """Read a random clip of a sample and cut a random crop of it.

    Args:
        samples: samples of the dataset.
        num_frames: T, frames per clip.
        size: side of the crops in pixels.
        crop_scales: see `augmentation.draw_multi_scale_crop`.
        seed: seeds all draws, together with the epoch and the index of the sample.
        steps_per_epoch: optimizer steps in an epoch.
        sampling: how the frames of a clip are chosen, see `openxclip.video.sampling.Timeline`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        num_frames: int,
        size: int,
        crop_scales: Sequence[float],
        seed: int,
        steps_per_epoch: int,
        sampling: Sampling = "time",
    ) -> None:
        self._samples, self._num_frames, self._size = samples, num_frames, size
        self._sampling: Sampling = sampling
        self._crop_scales, self._seed, self._steps_per_epoch = tuple(crop_scales), seed, steps_per_epoch

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: ClipKey) -> tuple[ClipKey, Tensor | str, float]:
        """Return the key; the clip as uint8 (T, 3, size, size), or the reason why it can't be read; and its seconds."""
        generator = seeded_generator(self._seed, key.step // self._steps_per_epoch, key.sample)
        try:
            return key, *self._read(self._samples[key.sample], generator)
        except VideoError as error:
            return key, error.reason, math.nan

    def _read(self, sample: Sample, generator: torch.Generator) -> tuple[Tensor, float]:
        """Return the clip, and the length of the sample in seconds."""
        threads = 0 if get_worker_info() is None else 1  # the workers already use all cores
        with VideoReader(sample.open(), read=ReadOptions(threads=threads)) as video:
            indices = self._frame_indices(video, sample, generator)
            frames_TCHW = video.get_frames(indices).frames_THWC.permute(0, 3, 1, 2)
            seconds = _length(video, sample)
        height, width = frames_TCHW.shape[-2:]
        box = draw_multi_scale_crop(height, width, size=self._size, scales=self._crop_scales, generator=generator)
        return crop(frames_TCHW, box, self._size), seconds

    def _frame_indices(self, video: VideoReader, sample: Sample, generator: torch.Generator) -> list[int]:
        try:
            timeline = timeline_of(video, self._sampling)
            return timeline.clip(num_frames=self._num_frames, start=sample.start, end=sample.end, generator=generator)
        except ValueError as error:  # the list gives a stretch that the video doesn't have
            raise VideoError(sample.source, str(error)) from error


def _length(video: VideoReader, sample: Sample) -> float:
    """Return the length of a sample in seconds; NaN for a single frame, and if the frame rate had to be assumed."""
    if video.num_frames == 1 or FPS_ASSUMED in video.notes:
        return math.nan
    end = video.duration if sample.end is None else min(sample.end, video.duration)
    return end - (sample.start or 0.0)


def make_loader(
    clips: TrainClips, batches: Batches, *, first: int, last: int, workers: int, pin: bool
) -> DataLoader[Pass]:
    """Make a DataLoader for this process's passes in steps `first` to `last - 1`. It can be iterated once."""
    return DataLoader(
        clips,
        batch_sampler=batches.keys(first, last),
        collate_fn=_collate,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_set_worker_signals,
    )


def _collate(items: list[tuple[ClipKey, Tensor | str, float]]) -> Pass:
    _, step, pass_index, is_counted = items[0][0]
    read = [(key.sample, clip, seconds) for key, clip, seconds in items if isinstance(clip, Tensor)]
    errors = {key.sample: reason for key, reason, _ in items if isinstance(reason, str)}
    clips = torch.stack([clip for _, clip, _ in read]) if read else _no_clips()
    samples, lengths = tuple(sample for sample, _, _ in read), tuple(seconds for _, _, seconds in read)
    return Pass(step, pass_index, is_counted, samples, clips, errors, lengths)


def _set_worker_signals(_: int) -> None:
    """Let the main process decide what to do on Ctrl-C and SIGTERM, which may reach the whole process group.

    A worker ignores Ctrl-C. SIGTERM, which the main process also sends to a worker that hangs, ends it silently; the
    inherited handler would print a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class PassReader:
    """Read this process's passes one after the other.

    When a worker dies, no exception is raised, since all training processes must finish the step together. Instead
    `failure` is set, and all further passes are empty and not counted.

    Args:
        passes: iterator of the DataLoader.

    Attributes:
        failure: why no more clips can be read; "" if there was no failure.
    """

    def __init__(self, passes: Iterator[Pass]) -> None:
        self._passes: Iterator[Pass] | None = passes
        self.failure = ""

    def read(self, step: int) -> Pass:
        """Read the next pass of this step."""
        if self._passes is not None and not self.failure:
            try:
                next_pass = next(self._passes)
            except MemoryError:  # the DataLoader raises the worker's error again
                self.failure = "a process that reads videos ran out of memory"
            except RuntimeError as error:
                if not _is_worker_failure(error):
                    raise
                self.failure = "a process that reads videos was killed or crashed"
            else:
                assert next_pass.step == step
                return next_pass
        return Pass(step, 0, False, (), _no_clips())

    def close(self) -> None:
        """End the workers."""
        self._passes = None  # the DataLoader's iterator ends them when it is garbage-collected


def _is_worker_failure(error: RuntimeError) -> bool:
    """Return whether the DataLoader reports a dead worker or a lack of shared memory."""
    message = str(error)
    return message.startswith("DataLoader worker") or ("torch_" in message and "No space left" in message)


@contextmanager
def read_ahead(loader: DataLoader[Pass]) -> Iterator[PassReader]:
    """Start the workers, which read ahead while the block runs.

    PyTorch's DataLoader installs a SIGCHLD handler that raises an error wherever the program is when a worker dies,
    even within an optimizer step, which would leave half of the weights updated. This replaces the handler, so that
    the death is noticed when the next pass is read and the weights are those of a complete step.
    """
    previous = _sigchld_handler()
    reader = PassReader(iter(loader))
    pytorch_handler = _sigchld_handler()
    if pytorch_handler is not None:
        is_from_pytorch = getattr(previous, "__module__", "").startswith("torch.")  # an earlier DataLoader's
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_from_pytorch or previous is None else previous)
    try:
        yield reader
    finally:
        reader.close()
        if pytorch_handler is not None:
            signal.signal(signal.SIGCHLD, pytorch_handler)


def _sigchld_handler() -> Any:
    """Return the handler of SIGCHLD; None if it can't be changed here (on Windows or outside the main thread)."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return None
    return signal.getsignal(signal.SIGCHLD)
