"""Clips for training: which of them in which step, and read and cut in worker processes.

Everything random is drawn from the seed, the epoch and the clip's number, nothing from what came before. So the clips
of a step are the same whatever the number of workers and processes, and a training can go on from any step.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from openxclip.datasets.samples import Sample
from openxclip.errors import VideoError
from openxclip.training.augmentation import cropped, multi_scale_crop
from openxclip.video import VideoReader
from openxclip.video.choosing import timeline_of
from openxclip.video.sampling import Sampling


def drawn_from(*numbers: int) -> torch.Generator:
    """A generator whose draws depend on all these numbers and nothing else."""
    words = np.random.SeedSequence(numbers).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


@lru_cache(maxsize=1)  # of the epoch that runs: drawing a million numbers for each step would take longer than the step
def _order(samples: int, seed: int, epoch: int) -> Tensor:
    """The permutation of an epoch."""
    return torch.randperm(samples, generator=drawn_from(seed, epoch), device="cpu")


@dataclass(frozen=True)
class Steps:
    """Which samples each optimizer step takes, in passes that processes share out.

    An epoch is a permutation of all samples. Its last step may be a smaller one: no sample is dropped or seen twice.
    The passes of a step go round the processes; one that has fewer gets one that weighs nothing, for all must take as
    many.

    Attributes:
        samples: how many there are.
        batch: samples of a step.
        batch_per_pass: of a pass.
        seed: of the permutations.
        rank, world: of this process.
    """

    samples: int
    batch: int
    batch_per_pass: int
    seed: int
    rank: int = 0
    world: int = 1

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self.samples / self.batch)

    def of_step(self, step: int) -> list[list[int]]:
        """The passes of a step, counted from 0 over all epochs: those of all processes."""
        epoch, within = divmod(step, self.per_epoch)
        order = _order(self.samples, self.seed, epoch)
        chosen = order[within * self.batch : (within + 1) * self.batch].tolist()
        return [chosen[i : i + self.batch_per_pass] for i in range(0, len(chosen), self.batch_per_pass)]

    def clips_of(self, step: int) -> int:
        """How many clips a step has, if all can be read."""
        return min(self.batch, self.samples - step % self.per_epoch * self.batch)

    def passes_each(self, step: int) -> int:
        """How many passes each process takes in a step."""
        return math.ceil(math.ceil(self.clips_of(step) / self.batch_per_pass) / self.world)

    def mine(self, first: int, last: int) -> Iterator[list[tuple[int, int, int, bool]]]:
        """The passes of this process, of steps `first` to before `last`: (sample, step, number of pass, counts)."""
        for step in range(first, last):
            passes = self.of_step(step)
            for i in range(self.passes_each(step)):
                number = i * self.world + self.rank
                counts = number < len(passes)
                yield [(sample, step, number, counts) for sample in passes[number if counts else 0]]


@dataclass(frozen=True)
class Pass:
    """Some clips, ready for the model's device.

    Attributes:
        step, number: which pass of which step this is.
        counts: whether it is to be learnt from.
        samples: the number of each clip's sample.
        clips: uint8 (B, T, 3, H, W); those that could be read.
        errors: why others can't be read, by the number of their sample.
    """

    step: int
    number: int
    counts: bool
    samples: tuple[int, ...]
    clips: Tensor
    errors: dict[int, str] = field(default_factory=dict)

    def pin_memory(self) -> Pass:
        """For copies to a GPU that run beside its work; called by the DataLoader."""
        return Pass(self.step, self.number, self.counts, self.samples, self.clips.pin_memory(), self.errors)


class TrainClips(Dataset[Any]):
    """A random clip of each sample, cut to a random crop.

    Args:
        samples: of the dataset.
        num_frames: T.
        size: of the crops.
        crop_scales: see `augmentation.multi_scale_crop`.
        seed: of all draws, with the epoch and the sample's number.
        per_epoch: steps of an epoch.
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
        per_epoch: int,
        sampling: Sampling = "time",
    ) -> None:
        self._samples, self._num_frames, self._size = samples, num_frames, size
        self._sampling: Sampling = sampling
        self._crop_scales, self._seed, self._per_epoch = tuple(crop_scales), seed, per_epoch

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: tuple[int, int, int, bool]) -> tuple[tuple[int, int, int, bool], Tensor | str]:
        number, step, _, _ = key
        draw = drawn_from(self._seed, step // self._per_epoch, number)
        try:
            return key, self._clip(self._samples[number], draw)
        except VideoError as error:
            return key, error.reason

    def _clip(self, sample: Sample, draw: torch.Generator) -> Tensor:
        threads = 0 if get_worker_info() is None else 1  # workers share the cores out among themselves
        with VideoReader(sample.open(), num_threads=threads) as video:
            frames_TCHW = video.get_frames(self._indices(video, sample, draw)).frames_THWC.permute(0, 3, 1, 2)
        height, width = frames_TCHW.shape[-2:]
        box = multi_scale_crop(height, width, size=self._size, scales=self._crop_scales, generator=draw)
        return cropped(frames_TCHW, box, self._size)

    def _indices(self, video: VideoReader, sample: Sample, draw: torch.Generator) -> list[int]:
        """The frames of a random clip of the sample."""
        try:
            timeline = timeline_of(video, self._sampling)
            return timeline.clip(num_frames=self._num_frames, start=sample.start, end=sample.end, generator=draw)
        except ValueError as error:  # of a list that doesn't fit its videos
            raise VideoError(sample.source, str(error)) from error


def collated(items: list[tuple[tuple[int, int, int, bool], Tensor | str]]) -> Pass:
    """What was read of one pass."""
    _, step, number, counts = items[0][0]
    read = [(key[0], clip) for key, clip in items if isinstance(clip, Tensor)]
    errors = {key[0]: why for key, why in items if isinstance(why, str)}
    clips = torch.stack([clip for _, clip in read]) if read else torch.empty(0, 0, 3, 0, 0, dtype=torch.uint8)
    return Pass(step, number, counts, tuple(sample for sample, _ in read), clips, errors)


class _Passes(Sampler[list[tuple[int, int, int, bool]]]):
    def __init__(self, steps: Steps, first: int, last: int) -> None:
        self._steps, self._first, self._last = steps, first, last

    def __iter__(self) -> Iterator[list[tuple[int, int, int, bool]]]:
        return self._steps.mine(self._first, self._last)

    def __len__(self) -> int:
        return sum(self._steps.passes_each(step) for step in range(self._first, self._last))


def load(clips: TrainClips, steps: Steps, *, first: int, last: int, workers: int, pin: bool) -> DataLoader[Pass]:
    """The passes of this process, of steps `first` to before `last`, read ahead by `workers` processes."""
    return DataLoader(
        clips,
        batch_sampler=_Passes(steps, first, last),
        collate_fn=collated,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_set_signals,
    )


def _set_signals(_: int) -> None:
    """Of Ctrl-C and SIGTERM, which may go to all processes of a group, the main one decides what to do.

    Ctrl-C is ignored here. SIGTERM ends a reader at once and without a word, since it is also how the main process ends
    one that doesn't answer; the main process' own handler, which is inherited, would print a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
