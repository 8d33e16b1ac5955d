"""Keep the processes in which a pipeline reads videos."""

from __future__ import annotations

from collections.abc import Iterable

from openxclip.video import DecodeWorker


class WorkerPool:
    """Processes that read videos. One is started at once, in the background, the others when they are needed.

    Args:
        isolate: whether to read videos in other processes; if False, they are read in this one.
    """

    def __init__(self, isolate: bool) -> None:
        self.isolate = isolate
        self._idle = [DecodeWorker()] if isolate else []

    def take(self, count: int) -> list[DecodeWorker | None]:
        """Return `count` workers for the caller's exclusive use; None stands for reading in this process."""
        if not self.isolate:
            return [None] * count
        return [self._take_one() for _ in range(count)]

    def _take_one(self) -> DecodeWorker:
        try:
            return self._idle.pop()
        except IndexError:  # not checked before, because another thread may take the last one
            return DecodeWorker()

    def give_back(self, workers: Iterable[DecodeWorker | None]) -> None:
        """Return workers to the pool, after they have read their last video."""
        self._idle.extend(worker for worker in workers if worker is not None)

    def close(self) -> None:
        """End the idle workers; the next video starts a new one."""
        close_workers(self._idle)
        self._idle.clear()


def close_workers(workers: Iterable[DecodeWorker | None]) -> None:
    """End workers, which may be in the middle of a video."""
    for worker in workers:
        if worker is not None:
            worker.close()
