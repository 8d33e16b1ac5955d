"""Choose the samples of each optimizer step.

All random numbers come from generators seeded with the recipe's seed and the number of an epoch, step or sample.
So a step's clips don't depend on the number of workers and processes, and a training can resume at any step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


def seeded_generator(*numbers: int) -> torch.Generator:
    """Make a CPU generator whose draws depend on these numbers only."""
    words = np.random.SeedSequence(numbers).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


@lru_cache(maxsize=1)  # for a million samples, drawing the order in each step would take longer than the step
def _epoch_order(num_samples: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(num_samples, generator=seeded_generator(seed, epoch), device="cpu")


class ClipKey(NamedTuple):
    """One clip to read.

    Attributes:
        sample: index of the sample.
        step: optimizer step that takes the clip, counted from 0 over all epochs.
        pass_index: index of the pass in its step, over all processes.
        is_counted: False in a filler pass, which adds nothing to the loss.
    """

    sample: int
    step: int
    pass_index: int
    is_counted: bool


@dataclass(frozen=True)
class Batches:
    """The batches of a training, split into passes through the model that the processes share.

    Each epoch is a permutation of all samples. Its last batch may be smaller; no sample is dropped or repeated. The
    passes of a step are dealt out to the processes in turn. All processes must take equally many, so a process that
    would have one pass fewer gets a filler pass.

    Attributes:
        num_samples: number of samples in the dataset.
        batch: samples per optimizer step.
        batch_per_pass: samples per pass.
        seed: seed of the permutations.
        rank, world: rank of this process and number of processes.
    """

    num_samples: int
    batch: int
    batch_per_pass: int
    seed: int
    rank: int = 0
    world: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return math.ceil(self.num_samples / self.batch)

    def num_clips(self, step: int) -> int:
        """Return the number of clips in a step if all can be read."""
        return min(self.batch, self.num_samples - step % self.steps_per_epoch * self.batch)

    def num_passes(self, step: int) -> int:
        """Return the number of passes that each process takes in a step."""
        return math.ceil(math.ceil(self.num_clips(step) / self.batch_per_pass) / self.world)

    def passes(self, step: int) -> list[list[int]]:
        """Return the samples of each pass of a step, over all processes."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        first = step_in_epoch * self.batch
        samples = _epoch_order(self.num_samples, self.seed, epoch)[first : first + self.batch].tolist()
        return [samples[i : i + self.batch_per_pass] for i in range(0, len(samples), self.batch_per_pass)]

    def keys(self, first: int, last: int) -> Iterator[list[ClipKey]]:
        """Yield the passes of this process in steps `first` to `last - 1`."""
        for step in range(first, last):
            passes = self.passes(step)
            for i in range(self.num_passes(step)):
                pass_index = i * self.world + self.rank
                is_counted = pass_index < len(passes)
                samples = passes[pass_index if is_counted else 0]
                yield [ClipKey(sample, step, pass_index, is_counted) for sample in samples]
