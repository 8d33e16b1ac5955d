"""Run a job on a cluster: hand out chunks, collect results, and try again what ended a worker."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from openxclip.cluster.feeding import Feed, Task
from openxclip.cluster.pool import Member, Pool
from openxclip.cluster.reporting import Done, Totals
from openxclip.errors import CheckpointError, ClusterError, MissingPackageError, OpenXCLIPError, StoreError

if TYPE_CHECKING:
    from openxclip.search.bulk.items import SourceItem

IN_HAND = 2  # chunks of a worker, so that it never waits for the driver
_ATTEMPTS = 3  # of a video that ends workers
_TOGETHER = 2  # attempts of a chunk, before its videos are tried one by one
_ASKS_EVERY_S = 2.0
_WAITS_FOR_DEATH_S = 10.0  # after one call of a worker failed, for an earlier one to fail too
_WAITS_S = 0.5  # for results, before the machines and the plan are looked at again


class Results(Protocol):
    """Takes what workers return."""

    def add(self, result: Any) -> Done:
        """Take the result of a chunk, and return what it says about its videos."""

    def add_failure(self, item: SourceItem, reason: str, attempts: int, node: str) -> Done:
        """Take a video that ended workers, or that the store didn't give."""

    @property
    def is_behind(self) -> bool:
        """Whether no more chunks should be handed out for now."""

    def check(self) -> None:
        """Raise what stopped the handling of results, if something did."""


class Run:
    """One run of a job on a cluster.

    Args:
        ray: the module, connected to a cluster.
        pool: the workers.
        feed: the videos.
        results: takes the results.
        totals: counts them.
        on_look: called about twice a second.
        say: called with messages for the user.
    """

    def __init__(
        self,
        ray: Any,
        pool: Pool,
        feed: Feed,
        results: Results,
        totals: Totals,
        *,
        on_look: Callable[[], object],
        say: Callable[[str], object],
    ) -> None:
        self._ray, self._pool, self._feed, self._results = ray, pool, feed, results
        self._totals, self._on_look, self._say = totals, on_look, say
        self._again: deque[Task] = deque()
        self._asked_at = 0.0
        self._seconds_per_video: float | None = None
        self.crashes = 0

    def work(self) -> None:
        """Handle all videos.

        Raises:
            ClusterError: the cluster can't do the work.
            Exception: what planning or handling results raised.
        """
        self._give_back(self._pool.refresh(at_once=True))
        while not (self._feed.is_done and not self._again and not any(member.running for member in self._pool.members)):
            self._results.check()
            self._hand_out()
            self._collect()
            self._ask()
            self._count_in_hand()
            self._totals.stage = self._stage()
            self._on_look()
            self._give_back(self._pool.refresh())

    # -- handing out -------------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give each worker chunks, the worker with the fewest first."""
        if self._results.is_behind:
            return
        ready = self._pool.ready
        for count in range(IN_HAND):
            for member in ready:
                if len(member.running) == count:
                    task = self._next_task(len(ready))
                    if task is None:
                        return
                    member.running.append((member.actor.process.remote(task.items), task))

    def _next_task(self, workers: int) -> Task | None:
        return self._again.popleft() if self._again else self._feed.take(workers, self._seconds_per_video)

    # -- collecting --------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Wait a moment for calls to return, and handle those that have."""
        calls = [call for member in self._pool.members for call in _calls(member)]
        if not calls:
            time.sleep(_WAITS_S)
            return
        self._ray.wait(calls, num_returns=1, timeout=_WAITS_S)
        done = set(self._ray.wait(calls, num_returns=len(calls), timeout=0)[0])
        for member in list(self._pool.members):
            if member.starting is not None and member.starting in done:
                self._has_started(member)
            if member.asked is not None and member.asked in done:
                self._has_answered(member)
            self._take_results(member, done)

    def _take_results(self, member: Member, done: set[Any]) -> None:
        while member.running and member.running[0][0] in done:  # a worker handles its chunks in order
            call, task = member.running.popleft()
            member.returned += 1
            try:
                result = self._ray.get(call)
            except self._ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)
                if isinstance(cause, Exception):  # raised by the work; the worker is alive
                    self._has_failed(member, task, cause)
                else:
                    self._has_ended(member, task, _why(error))
                    return
            else:
                self._totals.add(self._results.add(result))
        if any(call in done for call, _ in member.running):  # a later one can only have failed, with the worker
            first = self._ray.wait([member.running[0][0]], timeout=_WAITS_FOR_DEATH_S)[0]
            if first:
                self._take_results(member, {*done, *first})
            else:
                self._has_ended(member, member.running.popleft()[1], "it doesn't answer")

    def _has_ended(self, member: Member, task: Task, reason: str) -> None:
        """Handle the end of a worker, which had a chunk in hand, and had not begun its other chunks."""
        self.crashes += 1
        self._pool.drop(member)
        self._again.extendleft(other for _, other in member.running)
        member.running.clear()
        self._say(f"{member.node.name}: a worker ended ({reason}); its videos are tried again.")
        self._repeat(task, f"the process that indexed it ended: {reason}", member.node.name)

    def _has_failed(self, member: Member, task: Task, cause: Exception) -> None:
        """Handle an error that a worker returned.

        Raises:
            ClusterError: the error concerns every video.
        """
        if isinstance(cause, CheckpointError | MissingPackageError):
            self._again.appendleft(task)
            self._pool.leave_out(member.node, str(cause))
        elif isinstance(cause, OpenXCLIPError) and not (isinstance(cause, StoreError) and cause.may_pass):
            raise ClusterError(f"{member.node.name}: {cause}")
        else:
            self._repeat(task, f"{type(cause).__name__}: {_first_line(cause)}", member.node.name)

    def _repeat(self, task: Task, reason: str, node: str) -> None:
        """Try a chunk again: together, then video by video; a video that ended several workers is a failure."""
        task.attempts, task.reason = task.attempts + 1, reason
        if len(task.items) > 1:
            self._again.extend([task] if task.attempts < _TOGETHER else task.alone())
        elif task.attempts < _ATTEMPTS:
            self._again.append(task)
        else:
            self._totals.add(self._results.add_failure(task.items[0], reason, task.attempts, node))

    def _give_back(self, lost: list[Member]) -> None:
        """Take back the chunks of workers whose machine is lost."""
        for member in lost:
            self.crashes += bool(member.running)
            tasks = [task for _, task in member.running]
            member.running.clear()
            if tasks:
                self._repeat(tasks[0], "its machine was lost", member.node.name)
                self._again.extendleft(tasks[1:])

    # -- workers -----------------------------------------------------------------------------------------------------

    def _has_started(self, member: Member) -> None:
        try:
            self._ray.get(member.starting)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, CheckpointError | MissingPackageError):
                self._pool.leave_out(member.node, str(cause))
            elif isinstance(cause, ValueError):  # an argument is wrong, on every machine
                raise cause from error
            elif isinstance(cause, OpenXCLIPError):
                raise ClusterError(f"{member.node.name}: {cause}") from error
            else:
                self._pool.has_ended_early(member, _why(error))
        else:
            self._pool.has_started(member)

    def _ask(self) -> None:
        """Ask the workers how far they are, every few seconds."""
        now = time.monotonic()
        if now >= self._asked_at + _ASKS_EVERY_S:
            self._asked_at = now
            for member in self._pool.ready:
                if member.asked is None:
                    member.asked = member.actor.state.options(concurrency_group="ask").remote()

    def _has_answered(self, member: Member) -> None:
        asked, member.asked = member.asked, None
        try:
            member.state = self._ray.get(asked)
        except self._ray.exceptions.RayError:
            return  # the call in hand will fail too
        states = [member.state for member in self._pool.members]
        busy = sum(state.busy for state in states)
        videos = sum(state.handled for state in states)
        self._seconds_per_video = busy / videos if videos else None

    def _count_in_hand(self) -> None:
        """Count what the workers have done of chunks that they haven't returned; an answer may be older than that."""
        ready = self._pool.ready
        self._totals.workers = len(ready)
        self._totals.in_hand(member.state for member in ready if member.state.chunk > member.returned)

    def _stage(self) -> str:
        """Return what the run waits for."""
        if not self._pool.ready:
            return "starting workers"
        if self._results.is_behind:
            return "commit"
        if self._feed.waits and any(not member.running for member in self._pool.ready):
            return "planning"
        states = [member.state for member in self._pool.members]
        busy = sum(state.busy for state in states)
        return "" if not busy else "model" if 2 * sum(state.model for state in states) > busy else "reading"


def _calls(member: Member) -> list[Any]:
    calls = [call for call, _ in member.running]
    return [*calls, *(call for call in (member.starting, member.asked) if call is not None)]


def _why(error: BaseException) -> str:
    """Return why a worker ended, in words; Ray's message has a page of guesses."""
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or "memory usage threshold" in text:
        return "its machine ran out of memory"
    if "ray.kill" in text:
        return "it was ended by ray.kill"
    if type(error).__name__ in ("ActorUnavailableError", "NodeDiedError"):
        return "its machine can't be reached"
    return "it crashed or was killed"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
