"""The processes in which a pipeline reads videos."""

from __future__ import annotations

from collections.abc import Iterable

from openxclip.video import DecodeWorker


class WorkerPool:
    """Processes that read videos. One is started at once, in the background, the others when they are needed.

    Args:
        isolate: False reads videos in this process, without any other.
    """

    def __init__(self, isolate: bool) -> None:
        self.isolate = isolate
        self._idle = [DecodeWorker()] if isolate else []

    def take(self, count: int) -> list[DecodeWorker | None]:
        """Take workers that nobody else reads with, because there may be several iterators at once.

        Returns:
            `count` workers; None stands for reading in this process.
        """
        return [self._take_one() if self.isolate else None for _ in range(count)]

    def _take_one(self) -> DecodeWorker:
        try:
            return self._idle.pop()
        except IndexError:
            return DecodeWorker()

    def give_back(self, workers: Iterable[DecodeWorker | None]) -> None:
        """Take back workers that are done."""
        self._idle.extend(worker for worker in workers if worker is not None)

    def close(self) -> None:
        """End the idle workers; the next video starts one again."""
        close_workers(self._idle)
        self._idle.clear()


def close_workers(workers: Iterable[DecodeWorker | None]) -> None:
    """End workers, which may be in the middle of a video."""
    for worker in workers:
        if worker is not None:
            worker.close()
