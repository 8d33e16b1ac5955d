"""`Engine`: runs tasks in the process that holds the model, and in the one that makes frames and previews."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from openxclip.serve.engine.metrics import Metrics
from openxclip.serve.engine.process import MEDIA, MODEL, resident_bytes
from openxclip.serve.engine.settings import EngineSettings, shown_model
from openxclip.serve.engine.state import EngineState
from openxclip.serve.engine.station import Station
from openxclip.serve.engine.tasks import Task, lane_of
from openxclip.serve.settings import ServeSettings

OnProgress = Callable[[float, float], None]

_MEDIA_IDLE_S = 120.0  # the process for frames and previews starts in about a second


class Engine:
    """Runs tasks in other processes: each waits in a bounded queue until a process is free for it.

    All methods are called from one event loop.

    Args:
        settings: settings of the server.
        metrics: counters to fill; default are new ones.
    """

    def __init__(self, settings: ServeSettings, *, metrics: Metrics | None = None) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        options: dict[str, Any] = {
            "queue_size": settings.queue_size,
            "time_limit": settings.request_timeout,
            "metrics": self.metrics,
        }
        own = EngineSettings.of(settings)
        self._model = Station(
            "model", MODEL, {"videos": settings.concurrency, "texts": 1}, own, idle=settings.idle_unload, **options
        )
        self._media = Station("media", MEDIA, {"frames": 1, "previews": 1}, own, idle=_MEDIA_IDLE_S, **options)
        for station in (self._model, self._media):
            self.metrics.rss.labels(station.kind).set_function(partial(_memory_of, station))

    async def start(self) -> None:
        """Begin to take tasks; with `settings.preload`, also begin to load the model, without waiting for it."""
        self._model.start()
        self._media.start()
        if self.settings.preload:
            self._model.load_soon()

    async def stop(self, *, grace: float = 30.0) -> None:
        """Take no more tasks, finish those that were accepted for up to `grace` seconds, and end the processes."""
        await asyncio.gather(self._model.stop(grace), self._media.stop(grace))

    async def run(self, task: Task, *, on_progress: OnProgress | None = None) -> Any:
        """Run a task and return its result, which the task describes.

        Cancelling the caller frees the work: a waiting task leaves the queue, a running one ends within one clip.

        Args:
            task: what to do.
            on_progress: called in the event loop with what is done and the whole, in seconds of the video.

        Raises:
            QueueFullError: too many tasks wait; raised at once.
            EngineStoppedError: the engine is stopping, or was stopped before the task was done.
            ModelNotLoadedError: the model can't be loaded.
            ModelGoneError: the process was killed while it ran this task.
            TimeoutError: the task took longer than `settings.request_timeout`, with the time it waited.
            VideoError: the video can't be read; `VideoTooLongError` if it is longer than `settings.max_duration`,
                `DecoderCrashError` if reading it killed the decoder twice.
            VideoIndexError: there is no index, or it can't be searched.
            ValueError: an argument of the task is invalid.
            OSError: a file can't be written, for example because the disk is full.
            MemoryError: the memory of the machine or the GPU ran out.
        """
        station = self._model if lane_of(task) in ("videos", "texts") else self._media
        return await station.run(task, on_progress)

    def check_room(self) -> None:
        """Refuse a request about a video before its body is read, with the errors that `run` would raise at once.

        Raises:
            QueueFullError, EngineStoppedError: as `run`.
        """
        self._model.check_room("videos")

    @property
    def state(self) -> EngineState:
        """What the engine is doing."""
        model, state = self._model, self._model.state
        facts = model.facts if state == "ready" else {}
        return EngineState(
            state=state,
            model=shown_model(self.settings.model),
            error=model.error or None,
            problem=model.problem or None,
            queue=model.num_waiting,
            running=model.num_running,
            precision=facts.get("precision"),
            device=facts.get("device"),
            pid=model.pid,
            rss=resident_bytes(model.pid),
            media_queue=self._media.num_waiting,
        )


def _memory_of(station: Station) -> float:
    return resident_bytes(station.pid) or 0
