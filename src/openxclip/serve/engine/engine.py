"""`Engine`: runs tasks in the process that holds the model, and in the one that makes frames and previews."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openxclip.serve.engine.metrics import Metrics
from openxclip.serve.engine.state import EngineState
from openxclip.serve.engine.tasks import Task
from openxclip.serve.settings import ServeSettings

OnProgress = Callable[[float, float], None]


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

    async def start(self) -> None:
        """Begin to take tasks; with `settings.preload`, also begin to load the model, without waiting for it."""
        raise NotImplementedError

    async def stop(self, *, grace: float = 30.0) -> None:
        """Take no more tasks, finish those that were accepted for up to `grace` seconds, and end the processes."""
        raise NotImplementedError

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
        """
        raise NotImplementedError

    @property
    def state(self) -> EngineState:
        """What the engine is doing."""
        raise NotImplementedError
