"""A Ray without processes: each call of an actor is done when the driver waits, one per actor at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from openxclip.cluster.actors import State, Worker
from openxclip.cluster.reporting import Done
from openxclip.search.bulk.items import SourceItem


class RayError(Exception):
    """Ray's own errors."""


class RayTaskError(RayError):
    """An error that an actor's method raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class RayActorError(RayError):
    """The actor has ended."""


class Died(BaseException):
    """Raised by a worker of a test to end its process."""


class Call:
    """A call of an actor, which is done later."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work, self.is_done = work, False
        self.value: Any = None
        self.error: RayError | None = None

    def run(self) -> None:
        try:
            self.value = self.work()
        except Exception as error:
            self.error = RayTaskError(error)
        self.is_done = True


class Actor:
    """An actor: `process` and `prepare` wait in line, other methods answer at once."""

    def __init__(self, worker: Any, node: str) -> None:
        self._worker, self.node = worker, node
        self.line: deque[Call] = deque()
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Call:
            call = Call(lambda: getattr(self._worker, name)(*arguments))
            if self.is_dead:
                call.error, call.is_done = RayActorError("the actor died"), True
            elif name in ("process", "prepare"):
                self.line.append(call)
            else:
                call.run()
            return call

        method = SimpleNamespace(remote=remote)
        method.options = lambda **_: method
        return method

    def step(self) -> None:
        """Do the next call in line."""
        if self.line and not self.is_dead:
            try:
                self.line[0].run()
                self.line.popleft()
            except Died:
                self.end()

    def end(self) -> None:
        """End the process."""
        self.is_dead = True
        for call in self.line:
            call.error, call.is_done = RayActorError("the actor died"), True


class FakeRay:
    """The functions of Ray that the driver calls.

    Args:
        make_worker: makes what an actor runs, from the name of its node.
        nodes: names of the nodes with their cores.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, make_worker: Callable[[str], Any], **nodes: float) -> None:
        self.make_worker, self.alive = make_worker, nodes
        self.actors: list[Actor] = []
        self.on_wait: Callable[[], object] = lambda: None
        self.has_head = True
        self.killed_checks = 0  # checks of machines whose process is killed from now on

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address="10.0.0.1:6379")

    def reach(self, address: str, seconds: float) -> None:
        if not self.has_head:
            raise ConnectionRefusedError(111, "Connection refused")

    def nodes(self) -> list[dict[str, Any]]:
        assert self.has_head
        return [
            {"Alive": True, "NodeID": name.ljust(56, "0").encode().hex()[:56], "Resources": {"CPU": cores},
             "NodeManagerHostname": name, "NodeManagerAddress": "10.0.0.1"}
            for name, cores in self.alive.items()
        ]  # fmt: skip

    def remote(self, *classes: Any, **_: Any) -> Any:
        if not classes:
            return self.remote
        (target,) = classes

        def make(*arguments: Any) -> Any:
            if target is not Worker:
                call = Call(target)
                call.run()
                if self.killed_checks:
                    self.killed_checks -= 1
                    call.error = RayActorError("the process died")
                return call
            name = next(node["NodeManagerHostname"] for node in self.nodes() if node["NodeID"] == made.id)
            self.actors.append(Actor(self.make_worker(name), name))
            return self.actors[-1]

        made = SimpleNamespace(remote=make, id="")

        def options(**given: Any) -> Any:
            made.id = given["scheduling_strategy"].node_id
            return made

        made.options = options
        return made

    def wait(self, calls: Sequence[Call], num_returns: int = 1, timeout: float = 0.0) -> tuple[list[Call], list[Call]]:
        if timeout:
            self.on_wait()
            for actor in self.actors:
                actor.step()
        done = [call for call in calls if call.is_done]
        return done, [call for call in calls if not call.is_done]

    def get(self, call: Call, timeout: float = 0.0) -> Any:
        if call.error is not None:
            raise call.error
        return call.value

    def cancel(self, call: Call, force: bool) -> None:
        return

    def kill(self, actor: Actor) -> None:
        actor.end()

    def available_resources(self) -> dict[str, float]:
        return {}

    def lose(self, name: str) -> None:
        """Let a node leave the cluster, with its actors."""
        del self.alive[name]
        for actor in self.actors:
            if actor.node == name:
                actor.end()


class ListedWorker:
    """A worker that only lists paths; `trouble` may raise an error for a path."""

    def __init__(self, trouble: Callable[[str], object] = lambda path: None) -> None:
        self._trouble = trouble

    def prepare(self) -> str:
        return "ready"

    def process(self, items: Sequence[SourceItem]) -> list[str]:
        for item in items:
            self._trouble(item.path)
        return [item.path for item in items]

    def state(self) -> State:
        return State()


class ListedResults:
    """Takes what `ListedWorker` returns."""

    is_behind = False

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failed: list[tuple[str, str, int]] = []

    def add(self, result: list[str]) -> Done:
        self.done += result
        return Done(videos=len(result))

    def add_failure(self, item: SourceItem, reason: str, attempts: int, node: str) -> Done:
        self.failed.append((item.path, reason, attempts))
        return Done(videos=1, failures=((item.path, reason),))

    def check(self) -> None:
        return
