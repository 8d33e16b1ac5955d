"""The processes that train together: those that torchrun started, or this one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from openxclip.model.devices import as_computing_device


@dataclass(frozen=True)
class Processes:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: rank of this process, from 0.
        world: number of processes.
        device: device on which this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def sum(self, *numbers: float) -> list[float]:
        """Sum each number over all processes, in float64."""
        if self.world == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(value) for value in sums.tolist()]

    def any(self, value: bool) -> bool:
        """Return whether the value is true in any process."""
        return bool(self.sum(value)[0])

    def average_(self, tensor: Tensor) -> None:
        """Average a tensor over all processes, in place."""
        dist.all_reduce(tensor)
        tensor.div_(self.world)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in the order of ranks."""
        if self.world == 1:
            return [value]
        values = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """Return the main process's value."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def wait_for_main(self) -> None:
        """Wait until the main process has made this call too."""
        self.broadcast(None)

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Concatenate the rows of all processes, `counts` of each; gradients flow back to each process."""
        if self.world == 1:
            return rows
        from torch.distributed.nn.functional import all_gather

        padded = F.pad(rows, (0, 0, 0, max(counts) - len(rows)))  # all_gather needs equal shapes
        return torch.cat([part[:count] for part, count in zip(all_gather(padded), counts, strict=True)])


@contextmanager
def join_processes(device: torch.device | str | None = None) -> Iterator[Processes]:
    """Join the processes that torchrun started for the duration of the block; without torchrun, train alone.

    Args:
        device: device to compute on; default is this process's GPU if there is one, else the CPU.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device is None:
        device = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    device = as_computing_device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    is_joining = world > 1 and not dist.is_initialized()
    if is_joining:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
    # Loaders, optimizers and seeds make small tensors on the default device, which a program may have set to "meta".
    is_cpu_default = torch.get_default_device().type == "cpu"
    try:
        with nullcontext() if is_cpu_default else torch.device("cpu"), torch.inference_mode(False), torch.enable_grad():
            yield Processes(rank, world, device)
    finally:
        if is_joining:
            dist.destroy_process_group()
