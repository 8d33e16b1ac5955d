"""The actors of a run: started on every machine of the cluster, also on those that join it later."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openxclip.cluster.actors import State, Worker
from openxclip.cluster.connecting import Head, Node, check_node, nodes
from openxclip.cluster.placing import Layout, Placement, place
from openxclip.cluster.readers import Reader
from openxclip.common.counting import counted
from openxclip.errors import ClusterError

if TYPE_CHECKING:
    from openxclip.cluster.feeding import Task
    from openxclip.cluster.jobs import Job

_LOOKS_EVERY_S = 3.0
_WAITS_FOR_CORES_S = 30.0  # before it is said that the cluster has no free cores
_STARTS = 3  # times in a row that a worker may end before it is ready, until its machine is left out


@dataclass(eq=False)
class Member:
    """A worker, as the driver sees it.

    Attributes:
        actor: the handle of Ray.
        node: the machine.
        starting: the call that loads the model; None once it has returned.
        running: calls in hand, with their tasks, in the order in which the worker takes them.
        asked: a call that asks for its state.
        state: its last state.
        returned: number of chunks that it has returned.
        readers: the readers that serve it.
    """

    actor: Any
    node: Node
    starting: Any
    running: deque[tuple[Any, Task]] = field(default_factory=deque)
    asked: Any = None
    state: State = field(default_factory=State)
    returned: int = 0
    readers: list[Any] = field(default_factory=list)


class Pool:
    """All workers and readers of a run.

    Args:
        ray: the module, connected to a cluster.
        job: what the workers do.
        layout: how the machines are used.
        say: called with messages for the user.

    Attributes:
        members: the workers, also those that are starting.
    """

    def __init__(self, ray: Any, job: Job, layout: Layout, say: Callable[[str], object]) -> None:
        self._ray, self._job, self._layout, self._say = ray, job, layout, say
        self._head = Head(ray, say)
        self.members: list[Member] = []
        self._readers: dict[str, list[Any]] = {}  # by id of the node
        self._owners: dict[Any, Member] = {}  # the worker that each reader serves
        self._nodes: dict[str, Node] = {}  # that are checked and used
        self._refused: dict[str, str] = {}  # what is wrong, by id of the node
        self._failed_starts: Counter[str] = Counter()  # by id of the node
        self._failed_checks: Counter[str] = Counter()  # by id of the node
        self._left_out: list[Member] = []  # workers of machines that were left out since the last look
        self._looked = -_LOOKS_EVERY_S
        self._began, self._has_said_busy, self._has_worked = time.monotonic(), False, False

    # -- machines ----------------------------------------------------------------------------------------------------

    def refresh(self, *, at_once: bool = False) -> list[Member]:
        """Look at the machines every few seconds: start workers on new ones, and return the workers of lost ones.

        If all machines leave during a run, it waits for others.

        Raises:
            ClusterError: no machine can do the work, or the head of the cluster was lost.
        """
        now = time.monotonic()
        lost, self._left_out = self._left_out, []
        if not at_once and now < self._looked + _LOOKS_EVERY_S:
            return lost
        self._looked = now
        if not self._head.answers():
            return lost
        alive = {node.id: node for node in nodes(self._ray)}
        for member in [member for member in self.members if member.node.id not in alive]:
            self.members.remove(member)
            lost.append(member)
        for gone in [id for id in self._nodes if id not in alive]:
            self._say(f"{self._nodes.pop(gone).name} left the cluster.")
            self._readers.pop(gone, None)
        is_first = not self._has_worked
        for node in alive.values():
            if node.id not in self._nodes and node.id not in self._refused and node.cores >= 1:
                self._admit(node, is_first)
        to_check = self._failed_checks.keys() & alive.keys() - self._nodes.keys() - self._refused.keys()
        if to_check and not self._nodes:
            return lost
        self._require_nodes()
        if self._nodes or not self._has_worked:
            self._fill()
        self._has_worked = True
        self._mention_waiting(now)
        return lost

    def _admit(self, node: Node, is_first: bool) -> None:
        try:
            wrong = check_node(self._ray, node)
        except ClusterError as error:
            self._failed_checks[node.id] += 1
            if self._failed_checks[node.id] < _STARTS:
                return  # it is checked again at the next look
            wrong = str(error)
        if wrong:
            self._refused[node.id] = wrong
            self._say(f"{wrong} It gets no work.")
            return
        self._nodes[node.id] = node
        if not is_first:
            self._say(f"{node.name} joined the cluster.")

    def _require_nodes(self) -> None:
        if not self._nodes and self._refused:
            raise ClusterError(next(iter(self._refused.values())))

    def leave_out(self, node: Node, reason: str) -> None:
        """Use a machine no more.

        Raises:
            ClusterError: it was the last one.
        """
        if self._nodes.pop(node.id, None) is not None:
            self._refused[node.id] = f"{node.name}: {reason}"
            gone = [member for member in self.members if member.node.id == node.id]
            for member in gone:
                self.drop(member)
            self._left_out += gone
            self._require_nodes()
            self._say(f"{node.name}: {reason} It gets no work.")

    # -- workers -----------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> list[Member]:
        """The workers that have loaded the model."""
        return [member for member in self.members if member.starting is None]

    def drop(self, member: Member) -> None:
        """Forget a worker that has ended or can't be reached; `refresh` starts another."""
        if member in self.members:
            self.members.remove(member)
        self._kill(member.actor)
        self._looked = -_LOOKS_EVERY_S

    def has_ended_early(self, member: Member, reason: str) -> None:
        """Drop a worker that ended before it was ready; several in a row leave its machine out."""
        self.drop(member)
        self._failed_starts[member.node.id] += 1
        if self._failed_starts[member.node.id] >= _STARTS:
            self.leave_out(member.node, f"{counted(_STARTS, 'worker')} ended while starting: {reason}")

    def has_started(self, member: Member) -> None:
        """Note that a worker is ready."""
        member.starting = None
        self._failed_starts.pop(member.node.id, None)

    def close(self) -> None:
        """End all actors."""
        for actor in [*(member.actor for member in self.members), *self._all_readers()]:
            self._kill(actor)
        self.members.clear()
        self._readers.clear()

    def _kill(self, actor: Any) -> None:
        try:
            self._ray.kill(actor)
        except Exception:  # it has ended, or the cluster has
            return

    def _fill(self) -> None:
        """Start the workers and readers that are missing."""
        placement = place(self._nodes.values(), self._layout)
        for node in self._nodes.values():
            share = placement.shares[node.id]
            actors = self._readers.setdefault(node.id, [])
            actors += [self._start_reader(node) for _ in range(share.readers - len(actors))]
            here = sum(member.node.id == node.id for member in self.members)
            self.members += [self._start_worker(node, placement) for _ in range(share.workers - here)]
        if placement.is_split:
            self._share_readers()

    def _start_worker(self, node: Node, placement: Placement) -> Member:
        cores = int(min(placement.cores, node.cores))
        actor = (
            self._ray.remote(concurrency_groups={"ask": 1})(Worker)
            .options(num_cpus=cores, num_gpus=int(placement.has_gpus), max_restarts=0, **self._on(node))
            .remote(self._job, cores, placement.has_gpus, placement.is_split)
        )
        return Member(actor, node, actor.prepare.remote())

    def _start_reader(self, node: Node) -> Any:
        options = {"num_cpus": 1, "max_restarts": -1, **self._on(node)}
        return (
            self._ray.remote(concurrency_groups={"fetch": 2})(Reader).options(**options).remote(self._job.environment)
        )

    def _on(self, node: Node) -> dict[str, Any]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False)}

    def _share_readers(self) -> None:
        """Give each reader to a worker, on the same machine if there is one; tell the workers that got others."""
        shares: dict[Member, list[Any]] = {member: [] for member in self.members}
        for id, actors in self._readers.items():
            near = [member for member in self.members if member.node.id == id] or self.members
            for actor in actors:
                if near:
                    shares[min(near, key=lambda member: len(shares[member]))].append(actor)
        for member, readers in shares.items():
            for actor in readers:
                owner = self._owners.get(actor)
                if owner is not None and owner not in self.members:  # it has ended, and left its copies of videos
                    actor.forget.options(concurrency_group="fetch").remote()
                self._owners[actor] = member
            if readers != member.readers:
                member.readers = readers
                member.actor.use_readers.options(concurrency_group="ask").remote(readers)

    def _all_readers(self) -> Iterator[Any]:
        for actors in self._readers.values():
            yield from actors

    def _mention_waiting(self, now: float) -> None:
        """Say once that no worker starts, because other programs use the cores."""
        if self._has_said_busy or self.ready or now < self._began + _WAITS_FOR_CORES_S:
            return
        self._has_said_busy = True
        free = self._ray.available_resources().get("CPU", 0.0)
        self._say(
            f"no worker is ready yet: {free:g} cores of the cluster are free, and each needs {self._layout.cores}."
        )
