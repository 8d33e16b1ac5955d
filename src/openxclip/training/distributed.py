"""The processes that train together, started by torchrun; or the one."""

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
    """Attributes:
    rank: of this one, from 0.
    world: how many there are.
    device: what this one computes on.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and says things."""
        return self.rank == 0

    def total(self, *numbers: float) -> list[float]:
        """The sums over all processes, in float64."""
        if self.world == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(value) for value in sums.tolist()]

    def average(self, tensor: Tensor) -> None:
        """Put the mean over all processes into it."""
        dist.all_reduce(tensor)
        tensor.div_(self.world)

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks."""
        if self.world == 1:
            return [value]
        values = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def of_main(self, value: Any) -> Any:
        """What the main process has."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def rows_of_all(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """All processes' rows one after the other, gradients included.

        Args:
            rows: of this process.
            counts: how many each process has.
        """
        if self.world == 1:
            return rows
        from torch.distributed.nn.functional import all_gather

        padded = F.pad(rows, (0, 0, 0, max(counts) - len(rows)))  # all must send as many
        return torch.cat([part[:count] for part, count in zip(all_gather(padded), counts, strict=True)])


@contextmanager
def processes(device: torch.device | str | None = None) -> Iterator[Processes]:
    """Those that torchrun started, joined while the block runs; without it, this one alone.

    Args:
        device: default is this process's GPU if there is one, else the CPU.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device is None:
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    device = as_computing_device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    joins = world > 1 and not dist.is_initialized()
    if joins:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
    # Loaders, optimizers and seeds make small tensors on the default device, which a program may have set to "meta"
    is_changed = torch.get_default_device().type != "cpu"
    try:
        with torch.device("cpu") if is_changed else nullcontext(), torch.inference_mode(False), torch.enable_grad():
            yield Processes(rank, world, device)
    finally:
        if joins:
            dist.destroy_process_group()
