"""Keep the processes in which a pipeline reads videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from openxclip.video import DecodeWorker


class WorkerPool:
    """Processes that read videos. One is started at once, in the background, the others when they are needed.

    Args:
        isolate: whether to read videos in other processes; if False, they are read in this one.
    """

    def __init__(self, isolate: bool) -> None:
        self.isolate = isolate
        self._idle = [self.start_worker()] if isolate else []

    def start_worker(self) -> DecodeWorker:
        """Start a worker; for subclasses with workers of their own."""
        return DecodeWorker()

    @contextmanager
    def borrow(self, count: int) -> Iterator[list[DecodeWorker | None]]:
        """Lend `count` workers to a block for its exclusive use; None stands for reading in this process.

        If the block doesn't reach its end, the workers are closed, because one may still be reading a video.
        """
        workers = [self._take() if self.isolate else None for _ in range(count)]
        try:
            yield workers
        except BaseException:
            close_workers(workers)
            raise
        self._idle.extend(worker for worker in workers if worker is not None)

    def _take(self) -> DecodeWorker:
        try:
            return self._idle.pop()
        except IndexError:  # not checked before, because another thread may take the last one
            return self.start_worker()

    def close(self) -> None:
        """End the idle workers; the next video starts a new one."""
        close_workers(self._idle)
        self._idle.clear()


def close_workers(workers: Iterable[DecodeWorker | None]) -> None:
    """End workers, which may be in the middle of a video."""
    for worker in workers:
        if worker is not None:
            worker.close()
