"""Decide how many workers and readers each machine of a cluster gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from openxclip.cluster.connecting import Node
from openxclip.common.counting import counted
from openxclip.errors import ClusterError

CORES_PER_WORKER = 1  # processes that share nothing keep all cores busy, at the price of a model for each


@dataclass(frozen=True)
class Layout:
    """How the machines of a cluster are used.

    Attributes:
        cores: CPU cores of one worker that reads its videos itself.
        readers: readers that serve one worker; 0 lets workers read themselves; None is 0 without GPUs, and on a cluster
            with GPUs all cores that the workers leave.
    """

    cores: int = CORES_PER_WORKER
    readers: int | None = None

    def check(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is out of range.
        """
        if self.cores < 1:
            raise ValueError(f"cores={self.cores}: must be 1 or more.")
        if self.readers is not None and self.readers < 0:
            raise ValueError(f"readers={self.readers}: must be 0 or more.")


class Share(NamedTuple):
    """What one machine gets: numbers of workers and of readers."""

    workers: int
    readers: int


@dataclass(frozen=True)
class Placement:
    """What all machines get.

    Attributes:
        shares: by id of the machine.
        cores: CPU cores of each worker; machines with fewer give all that they have.
        has_gpus: whether each worker has a GPU.
        is_split: whether readers serve the workers.
    """

    shares: dict[str, Share]
    cores: int
    has_gpus: bool
    is_split: bool


def place(nodes: Iterable[Node], layout: Layout) -> Placement:
    """Return what the machines of a cluster get.

    Raises:
        ClusterError: they have too few cores for one worker.
    """
    nodes = [node for node in nodes if node.cores >= 1]
    if not nodes:
        raise ClusterError("no machine of the cluster gives a CPU core: start Ray there with --num-cpus.")
    has_gpus = any(node.gpus >= 1 for node in nodes)
    if has_gpus:
        shares = _with_gpus(nodes, layout.readers)
    elif layout.readers:
        shares = _split(nodes, layout.readers)
    else:
        shares = {node.id: Share(int(node.cores // min(layout.cores, node.cores)), 0) for node in nodes}
    is_split = any(share.readers for share in shares.values())
    return Placement(shares, 1 if is_split else layout.cores, has_gpus, is_split)


def _with_gpus(nodes: list[Node], readers: int | None) -> dict[str, Share]:
    """Give a worker to each GPU, and readers to the other cores, of the same machine first."""
    workers = {node.id: int(min(node.gpus, node.cores)) for node in nodes}
    free = {node.id: int(node.cores) - workers[node.id] for node in nodes}
    if readers is None:
        return {node.id: Share(workers[node.id], free[node.id]) for node in nodes}
    near = {node.id: min(free[node.id], readers * workers[node.id]) for node in nodes}
    missing = readers * sum(workers.values()) - sum(near.values())
    for node in nodes:
        more = min(missing, free[node.id] - near[node.id])
        near[node.id] += more
        missing -= more
    return {node.id: Share(workers[node.id], near[node.id]) for node in nodes}


def _split(nodes: list[Node], readers: int) -> dict[str, Share]:
    """Deal the cores out: to a worker, then to its readers, and so on."""
    cores = sum(int(node.cores) for node in nodes)
    groups = cores // (1 + readers)
    if not groups:
        raise ClusterError(
            f"the cluster has {counted(cores, 'core')}, but a worker with {counted(readers, 'reader')} needs "
            f"{1 + readers}: choose fewer --readers."
        )
    shares: dict[str, Share] = {}
    dealt = 0
    for node in nodes:
        numbers = range(dealt, min(dealt + int(node.cores), groups * (1 + readers)))
        workers = sum(number % (1 + readers) == 0 for number in numbers)
        shares[node.id] = Share(workers, len(numbers) - workers)
        dealt += int(node.cores)
    return shares
