"""`Station`: a process of the server, with the tasks that wait for it and run in it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from openxclip.common.files import reason_of
from openxclip.serve.engine.errors import EngineStoppedError, ModelGoneError, ModelNotLoadedError, QueueFullError
from openxclip.serve.engine.metrics import Metrics
from openxclip.serve.engine.process import ChildProcess, describe_end
from openxclip.serve.engine.settings import EngineSettings
from openxclip.serve.engine.state import Loading
from openxclip.serve.engine.tasks import Lane, Task, lane_of
from openxclip.serve.engine.waiting import OnProgress, Request, Waiting

logger = logging.getLogger("openxclip.serve")

_PROCESSES = {"model": "the process of the model", "media": "the process for frames and previews"}
_CANCEL_GRACE_S = 20.0  # for a cancelled task to end; then its process is killed
_FIRST_RETRY_S, _LAST_RETRY_S = 5.0, 300.0  # after a failed load, until the next one; doubled each time
_LONGEST_RETRY_AFTER_S = 600
_NEW_SHARE = 0.2  # of the latest task in the mean time of a task


class Station:
    """A process, which is started when it is needed, and the tasks that wait for it and run in it.

    Args:
        kind: "model" or "media", for metrics and messages.
        module: the module that the process runs, see `ChildProcess`.
        lanes: how many tasks run at once, by lane.
        settings: what the process needs to know.
        queue_size: the most tasks that wait in a lane.
        time_limit: the longest time of a task with its waiting, in seconds.
        idle: seconds without a task after which the process is ended; None never.
        metrics: counters to fill.

    Attributes:
        facts: what the process said of itself when it was ready.
        error: why it could not be started the last time.
        problem: what is wrong in the process that runs, but concerns only some tasks.
    """

    def __init__(
        self,
        kind: str,
        module: str,
        lanes: Mapping[Lane, int],
        settings: EngineSettings,
        *,
        queue_size: int,
        time_limit: float,
        idle: float | None,
        metrics: Metrics,
    ) -> None:
        self.kind, self._module, self.facts, self.error, self.problem = kind, module, dict[str, Any](), "", ""
        self._settings, self._metrics = settings, metrics
        self._queue_size, self._time_limit, self._idle = queue_size, time_limit, idle
        self._lanes = {name: Waiting(name, slots) for name, slots in lanes.items()}
        self._numbers = itertools.count(1)
        self._sent: dict[int, Request] = {}
        self._process: ChildProcess | None = None
        self._ready: asyncio.Future[tuple[Any, ...]] | None = None  # of the process that is being started
        self._loading = asyncio.Lock()
        self._failures, self._retry_at = 0, 0.0
        self._is_stopping = False
        self._background: set[asyncio.Task[None]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None

    # -- for the engine ----------------------------------------------------------------------------------------------

    @property
    def state(self) -> Loading:
        """Whether the process is there."""
        if self._ready is not None:
            return "loading"
        if self._process is not None:
            return "ready"
        return "failed" if self.error else "unloaded"

    @property
    def pid(self) -> int | None:
        """Number of the process; None if there is none."""
        return None if self._process is None else self._process.pid

    @property
    def num_waiting(self) -> int:
        """Number of tasks that wait."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    @property
    def num_running(self) -> int:
        """Number of tasks that run, or wait only for the process to start."""
        return sum(lane.running for lane in self._lanes.values())

    def start(self) -> None:
        """Begin to take tasks."""
        for lane in self._lanes.values():
            for _ in range(lane.slots):
                self._in_background(self._work(lane))

    def load_soon(self) -> None:
        """Start the process without waiting for it; `state` shows the outcome."""

        async def load() -> None:
            with contextlib.suppress(ModelNotLoadedError, EngineStoppedError):
                await self._loaded()
            self._rest()

        self._in_background(load())

    async def stop(self, grace: float) -> None:
        """Take no more tasks, finish the others for up to `grace` seconds, and end the process."""
        self._is_stopping = True
        end = time.monotonic() + grace
        while (self.num_waiting or self.num_running) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        left = [request for lane in self._lanes.values() for request in lane.waiting] + list(self._sent.values())
        for request in left:
            if not request.future.done():
                request.future.set_exception(EngineStoppedError("the server was stopped before this was done."))
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._disturb()
        if self._process is not None:
            await self._process.end()
            self._process = None

    async def run(self, task: Task, on_progress: OnProgress | None) -> Any:
        """Run a task, see `Engine.run`."""
        self.check_room(lane_of(task))
        lane = self._lanes[lane_of(task)]
        request = Request(next(self._numbers), task, on_progress, asyncio.get_running_loop().create_future())
        lane.waiting.append(request)
        lane.arrived.set()
        self._show(lane)
        try:
            limit = self._time_limit if task.has_time_limit else None
            done, _ = await asyncio.wait({request.future}, timeout=limit)
        except asyncio.CancelledError:
            self._metrics.cancelled.labels(lane.name).inc()
            self._abandon(request, lane)
            raise
        if not done:
            self._metrics.timeouts.labels(lane.name).inc()
            did_run = request.reply is not None
            self._abandon(request, lane)
            where = "" if did_run else ", all of it in the queue"
            raise TimeoutError(f"it took longer than {self._time_limit:g} s{where}.")
        return request.future.result()

    def check_room(self, lane_name: Lane) -> None:
        """Raise the error that a task of a lane would get now: QueueFullError or EngineStoppedError."""
        if self._is_stopping:
            raise EngineStoppedError("the server is stopping and takes no more requests.")
        lane = self._lanes[lane_name]
        if len(lane.waiting) >= self._queue_size:
            self._metrics.refused.labels(lane.name).inc()
            raise QueueFullError(self._retry_after(lane))

    def _retry_after(self, lane: Waiting) -> int:
        """Return the seconds after which half of a full queue will be done."""
        seconds = (lane.seconds or 1.0) * self._queue_size / 2 / lane.slots
        return max(1, min(math.ceil(seconds), _LONGEST_RETRY_AFTER_S))

    def _abandon(self, request: Request, lane: Waiting) -> None:
        """Free the work of a request that nobody waits for."""
        request.is_abandoned = True
        request.future.cancel()
        if request in lane.waiting:
            lane.waiting.remove(request)
            self._show(lane)
        elif request.process is not None and request.reply is not None:
            request.process.send("cancel", request.number)
            asyncio.get_running_loop().call_later(_CANCEL_GRACE_S, self._kill_if_it_hangs, request)

    def _kill_if_it_hangs(self, request: Request) -> None:
        if request.process is not None and request.reply is not None and not request.reply.done():
            request.process.kill()

    # -- one coroutine for each slot ---------------------------------------------------------------------------------

    async def _work(self, lane: Waiting) -> None:
        while True:
            while not lane.waiting:
                lane.arrived.clear()
                await lane.arrived.wait()
            request = lane.waiting.popleft()
            lane.running += 1
            self._show(lane)
            self._disturb()
            try:
                await self._do(request, lane)
            finally:
                lane.running -= 1
                self._show(lane)
                self._rest()

    async def _do(self, request: Request, lane: Waiting) -> None:
        try:
            process = await self._loaded()
        except (ModelNotLoadedError, EngineStoppedError) as error:
            if not request.future.done():
                request.future.set_exception(error)
            return
        if request.is_abandoned:
            return
        begin = time.monotonic()
        self._metrics.wait_seconds.labels(lane.name).observe(begin - request.since)
        request.process, request.reply = process, asyncio.get_running_loop().create_future()
        self._sent[request.number] = request
        try:
            process.send("run", request.number, request.task)
            kind, value, counts = await request.reply
        except Exception as error:  # a task that can't be pickled
            kind, value, counts = "error", error, {}
        finally:
            del self._sent[request.number]
        seconds = time.monotonic() - begin
        if kind in ("result", "error"):
            lane.seconds = seconds if lane.seconds is None else lane.seconds + _NEW_SHARE * (seconds - lane.seconds)
        self._metrics.model_seconds.labels(type(request.task).__name__.removesuffix("Task").lower()).observe(seconds)
        self._metrics.videos.inc(counts.get("videos", 0))
        self._metrics.crashes.inc(counts.get("crashes", 0))
        if request.future.done():
            return
        if kind == "result":
            request.future.set_result(value)
        else:
            request.future.set_exception(value)

    # -- the process -------------------------------------------------------------------------------------------------

    async def _loaded(self) -> ChildProcess:
        """Return the process, after starting it if necessary.

        Raises:
            ModelNotLoadedError: it can't be started, or could not a short time ago.
        """
        async with self._loading:
            if self._process is not None:
                return self._process
            wait = self._retry_at - time.monotonic()
            if wait > 0:
                raise ModelNotLoadedError(self.error, max(1, math.ceil(wait)))
            kind, error = await self._load()
            if kind == "ended":  # killed, perhaps by chance: once more
                kind, error = await self._load()
            if self._process is not None:
                self._failures, self.error = 0, ""
                return self._process
            wait = min(_FIRST_RETRY_S * 2**self._failures, _LAST_RETRY_S)
            self._failures, self._retry_at, self.error = self._failures + 1, time.monotonic() + wait, error
            what = "the model can't be loaded" if self.kind == "model" else f"{_PROCESSES[self.kind]} can't be started"
            logger.error("%s: %s", what, error)
            raise ModelNotLoadedError(error, math.ceil(wait))

    async def _load(self) -> tuple[str, str]:
        """Start a process; return "ready", or "failed" (it said why) or "ended" (it was killed) and why."""
        self._ready, self.problem = asyncio.get_running_loop().create_future(), ""
        process: ChildProcess | None = None
        try:
            process = self._process_to_load()
            kind, value = await self._ready
        except OSError as error:
            kind, value = "failed", f"no process can be started: {reason_of(error)}."
        except BaseException:  # the server stops
            if process is not None:
                process.kill()
            raise
        finally:
            self._ready = None
        if kind == "ready":
            self._process, self.facts = process, value
            if self.kind == "model":
                self._metrics.loads.inc()
            return kind, ""
        if kind == "ended":
            value = f"{_PROCESSES[self.kind]} {describe_end(value)} while it started."
        elif process is not None:
            await process.end()
        return kind, str(value)

    def _process_to_load(self) -> ChildProcess:
        ready = self._ready
        assert ready is not None

        def on_message(message: tuple[Any, ...]) -> None:
            if message[0] in ("ready", "failed"):
                if not ready.done():
                    ready.set_result(message)
            elif message[0] == "problem":
                self.problem = message[1]
                logger.error("%s", self.problem)
            else:
                self._receive(*message)

        def on_end(status: int) -> None:
            if not ready.done():
                ready.set_result(("ended", status))
            self._note_end(process, status)

        process = ChildProcess(self._module, on_message, on_end)
        process.send("load", {"engine": self._settings})
        return process

    def _receive(self, kind: str, number: int, *values: Any) -> None:
        request = self._sent.get(number)
        if request is None or request.reply is None or request.reply.done():
            return
        if kind == "progress":
            if request.on_progress is not None and not request.is_abandoned:
                request.on_progress(*values)
        else:
            request.reply.set_result((kind, *values))

    def _note_end(self, process: ChildProcess, status: int) -> None:
        """The process has ended: answer the requests in it; the next one starts a new process."""
        if process is self._process:
            self._process = None
        if not process.was_asked_to_end:
            self._metrics.restarts.labels(self.kind).inc()
        text = f"{_PROCESSES[self.kind]} {describe_end(status)} while it worked on this: try again."
        for request in list(self._sent.values()):
            if request.process is process and request.reply is not None and not request.reply.done():
                request.reply.set_result(("error", ModelGoneError(text), {}))

    # -- idling ------------------------------------------------------------------------------------------------------

    def _disturb(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _rest(self) -> None:
        """Begin to count the idle time, if there is nothing to do."""
        self._disturb()
        if self._idle is not None and not self.num_running and not self.num_waiting and not self._is_stopping:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(self._idle, lambda: self._in_background(self._unload()))

    async def _unload(self) -> None:
        async with self._loading:
            if self._process is None or self.num_running or self.num_waiting:
                return
            process, self._process = self._process, None
            await process.end()
            if self.kind == "model":
                self._metrics.unloads.inc()

    # ----------------------------------------------------------------------------------------------------------------

    def _show(self, lane: Waiting) -> None:
        self._metrics.queue.labels(lane.name).set(len(lane.waiting))
        self._metrics.running.labels(lane.name).set(lane.running)

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
