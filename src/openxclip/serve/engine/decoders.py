"""Decoders of the server: they end when their task is cancelled, and refuse videos that are too long."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from openxclip.pipeline.workers import WorkerPool
from openxclip.serve.engine.errors import VideoTooLongError
from openxclip.serve.engine.work import current_work
from openxclip.video import ClipPlan, DecodeWorker, ReadOptions, VideoSource, source_name
from openxclip.video.reading import ClipPiece


class BoundedWorker(DecodeWorker):
    """A decoder that refuses videos that are too long, and never reads in the calling process.

    Args:
        max_duration: longest duration in seconds.
    """

    def __init__(self, max_duration: float) -> None:
        self._max_duration = max_duration
        super().__init__(only_in_child=True)

    def read_planned(
        self,
        source: VideoSource,
        plan: ClipPlan,
        *,
        first: int = 0,
        bytes_kept: int | None = None,
        read: ReadOptions | None = None,
    ) -> Generator[ClipPiece, None, None]:
        """Yield the clips of a plan, as `DecodeWorker.read_planned`. `VideoTooLongError` at the first piece."""
        for piece in super().read_planned(source, plan, first=first, bytes_kept=bytes_kept, read=read):
            check_duration(source_name(source), piece.duration, self._max_duration)
            yield piece
            del piece  # frees its frames before the next ones are read


def check_duration(name: str, duration: float | None, longest: float) -> None:
    """Raise `VideoTooLongError` if a video lasts longer than `longest` seconds."""
    if duration is not None and duration > longest:
        raise VideoTooLongError(name, f"it lasts {duration:.0f} s: this server takes videos of up to {longest:g} s")


class TaskWorkers(WorkerPool):
    """Decoders that end when the task that reads with them is cancelled.

    Args:
        max_duration: longest duration of a video in seconds.
    """

    def __init__(self, max_duration: float) -> None:
        self._max_duration = max_duration
        super().__init__(isolate=True)

    def start_worker(self) -> DecodeWorker:
        """Start a decoder."""
        return BoundedWorker(self._max_duration)

    @contextmanager
    def borrow(self, count: int) -> Iterator[list[DecodeWorker | None]]:
        """Lend workers to a block, as `WorkerPool.borrow`; the current task closes them if it is cancelled."""
        with super().borrow(count) as workers:
            work = current_work()
            if work is None:
                yield workers
                return
            with work.closing(workers):
                yield workers
