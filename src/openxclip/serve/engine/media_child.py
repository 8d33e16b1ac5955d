"""The process that makes frames and previews, so that they don't wait for the model, nor the model for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from openxclip.common.files import Stamp, stamp_of, without_nan
from openxclip.serve.engine.child import serve_tasks
from openxclip.serve.engine.decoders import TaskWorkers, check_duration
from openxclip.serve.engine.pictures import MAX_WIDTH, jpeg, write_preview
from openxclip.serve.engine.settings import EngineSettings
from openxclip.serve.engine.tasks import CheckTask, FrameTask, Lane, PreviewTask, Task
from openxclip.serve.engine.wire import Channel
from openxclip.serve.engine.work import Work
from openxclip.video import ClipPlan, DecodeWorker
from openxclip.video.inspection import VideoReport

_KEPT = 256  # reports of videos
_FRAME_S = 0.001


def serve(channel: Channel, messages: SimpleQueue[tuple[Any, ...]]) -> None:
    """Do tasks about frames and previews until the process ends."""
    serve_tasks(channel, messages, lambda settings: MediaHandler(settings["engine"]))


class MediaHandler:
    """Makes frames and previews.

    Args:
        settings: settings of the server.
    """

    lanes: Mapping[Lane, int] = {"frames": 1, "previews": 1}

    def __init__(self, settings: EngineSettings) -> None:
        self.hidden: Mapping[str, str] = settings.hidden
        self._max_duration = settings.max_duration
        self._workers = TaskWorkers(settings.max_duration)
        self._reports: dict[tuple[Path, Stamp], VideoReport] = {}
        self._do: dict[type[Task], Callable[[Any, Work], Any]] = {
            CheckTask: self.check,
            FrameTask: self.frame,
            PreviewTask: self.preview,
        }

    def describe(self) -> dict[str, Any]:
        """There is nothing to say."""
        return {}

    def do(self, task: Task, work: Work) -> Any:
        """Do a task; errors are those that `Engine.run` lists."""
        return self._do[type(task)](task, work)

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def check(self, task: CheckTask, work: Work) -> dict[str, Any]:
        """See `CheckTask`."""
        report = work.read_twice(lambda: self._with_worker(lambda worker: self._report(worker, task.path)))
        values = report.as_dict() | {"path": task.name}
        for name in ("notes", "problems"):
            values[name] = [work.shown(text) for text in values[name]]
        if values["error"] is not None:
            values["error"] = work.shown(values["error"])
        return dict(without_nan(values))

    def frame(self, task: FrameTask, work: Work) -> bytes:
        """See `FrameTask`."""
        if not 1 <= task.width <= MAX_WIDTH:
            raise ValueError(f"width={task.width}: must be from 1 to {MAX_WIDTH} pixels.")
        if not task.time >= 0:
            raise ValueError(f"time={task.time}: must be 0 seconds or more.")

        def read(worker: DecodeWorker) -> Any:
            report = self._report(worker, task.path)
            if report.error is not None:
                raise report.error
            last = (report.duration or 0.0) - 1 / (report.fps or 25.0)  # for a time after it, the last frame
            start = max(0.0, min(task.time, last))
            (frames,) = worker.read_clips(str(task.path), ClipPlan(num_frames=1, start=start, end=start + _FRAME_S))
            return frames.frames_THWC[0].numpy()

        return jpeg(work.read_twice(lambda: self._with_worker(read)), width=task.width)

    def preview(self, task: PreviewTask, work: Work) -> dict[str, Any]:
        """See `PreviewTask`."""

        def write(worker: DecodeWorker) -> dict[str, Any]:
            return write_preview(worker, task.path, task.out, height=task.height, on_progress=work.progress)

        written = work.read_twice(lambda: self._with_worker(write))
        return {**written, "notes": list(work.notes)}

    def _with_worker(self, read: Callable[[DecodeWorker], Any]) -> Any:
        with self._workers.borrow(1) as (worker,):
            assert worker is not None  # videos are read in other processes
            return read(worker)

    def _report(self, worker: DecodeWorker, path: Path) -> VideoReport:
        """Inspect a video, unless that was done since it last changed."""
        key = path, stamp_of(path)
        if (report := self._reports.pop(key, None)) is None:
            report = worker.inspect(str(path))
            if report.error is not None:
                return report  # its decoder may do better the next time
            check_duration(str(path), report.duration, self._max_duration)
        self._reports[key] = report  # as the latest one
        while len(self._reports) > _KEPT:
            del self._reports[next(iter(self._reports))]
        return report
