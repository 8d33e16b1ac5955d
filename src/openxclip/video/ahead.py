"""Read ahead in threads, while the caller uses earlier results."""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Piece = TypeVar("Piece")

_EXIT_TIMEOUT_S = 1.0  # how long the end of the program waits for all threads together
_PIECES_AHEAD = 2  # of one item: the next piece, and another because pieces take different times

_stops: dict[threading.Thread, Callable[[], None]] = {}  # a function for each running thread that makes it end soon


@dataclass(frozen=True)
class Step(Generic[Item, Piece]):
    """The next result of a `ReadAhead`: a piece of an item, or, after all its pieces, the end of the item.

    Attributes:
        item: the item that was read.
        piece: a piece of the item; None at its end.
        error: at the end, the error that stopped the reading; None if there was none.
    """

    item: Item
    piece: Piece | None = None
    error: BaseException | None = None


@dataclass
class _Job(Generic[Item, Piece]):
    """The reading of one item."""

    item: Item
    pieces: deque[Piece] = field(default_factory=deque)
    error: BaseException | None = None
    is_done: bool = False


class ReadAhead(Generic[Item, Piece]):
    """An iterator over the results of readers: the pieces of each item and then its end, in the order of the items.

    `items` is consumed by the threads, so an iterator that waits (for the next recording, say) doesn't delay earlier
    results. The threads are daemons, so that a program that ends doesn't wait for a running read.

    Args:
        readers: one function for each thread, which yields the pieces of an item.
        items: the items, taken one at a time when they are needed.
        ahead: the number of items that may be in progress at once, including the one whose pieces come next.
        room: the maximum total `size` of waiting pieces; above it, no other item is started.
        size: returns the size of a piece.
        interrupt: makes running reads end soon; called at the end of the program.

    Raises:
        RuntimeError: the iterator is used in a forked process, which has none of the threads.
    """

    def __init__(
        self,
        readers: Sequence[Callable[[Item], Generator[Piece, None, None]]],
        items: Iterable[Item],
        *,
        ahead: int,
        room: float = math.inf,
        size: Callable[[Piece], int] = lambda piece: 1,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._items = iter(items)
        self._ahead, self._room, self._size = ahead, room, size
        self._interrupt = interrupt
        self._pid = os.getpid()
        self._taking = threading.Lock()  # held while waiting for the next item, without the lock below
        self._lock = threading.RLock()  # guards all fields below
        self._changed = threading.Condition(self._lock)  # notifies the threads
        # Released to notify the caller, who waits to acquire it. It isn't a `Condition`: Ctrl-C in its `wait` can leave
        # it without its lock (RuntimeError: cannot release un-acquired lock).
        self._has_news = threading.Lock()
        self._has_news.acquire()
        self._jobs: deque[_Job[Item, Piece]] = deque()
        self._items_ended = self._is_closed = False
        self._failure: BaseException | None = None  # raised by `items`
        for reader in readers:
            thread = threading.Thread(target=self._run, args=(reader,), name="decode", daemon=True)
            _stops[thread] = self._stop
            thread.start()

    def __iter__(self) -> ReadAhead[Item, Piece]:
        return self

    def __next__(self) -> Step[Item, Piece]:
        """Return the next result. An error of the iterator `items` is raised after the results of earlier items."""
        self._check_process()
        while True:
            with self._lock:
                if self._has_next():
                    return self._next()
            self._has_news.acquire()

    def _next(self) -> Step[Item, Piece]:
        if not self._jobs:
            if self._failure is not None:
                raise self._failure
            raise StopIteration
        self._changed.notify_all()  # there is room for one more
        first = self._jobs[0]
        if first.pieces:
            return Step(first.item, first.pieces.popleft())
        self._jobs.popleft()
        return Step(first.item, error=first.error)

    def is_ready(self) -> bool:
        """Return whether `next` would return, or end the iteration, without waiting."""
        self._check_process()
        with self._lock:
            return self._has_next()

    def close(self) -> None:
        """Drop all results, and end each thread after its current piece."""
        if self._pid != os.getpid():
            return  # the threads are the parent's, and one may hold the lock
        with self._lock:
            self._is_closed = self._items_ended = True
            self._jobs.clear()
            self._notify()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError("this forked process has no threads to read ahead: start reading again in it")

    def _notify(self) -> None:
        """Wake the threads and the caller; the lock must be held."""
        self._changed.notify_all()
        if self._has_news.locked():
            self._has_news.release()

    def _has_next(self) -> bool:
        if self._jobs:
            return bool(self._jobs[0].pieces) or self._jobs[0].is_done
        return self._items_ended

    def _stop(self) -> None:
        self.close()
        self._interrupt()

    # -- in the threads ----------------------------------------------------------------------------------------------

    def _run(self, reader: Callable[[Item], Generator[Piece, None, None]]) -> None:
        try:
            while (job := self._take()) is not None:
                self._read(reader, job)
                del job  # frees its pieces while this thread waits
        finally:
            _stops.pop(threading.current_thread(), None)

    def _take(self) -> _Job[Item, Piece] | None:
        with self._taking:
            with self._changed:
                self._changed.wait_for(lambda: self._items_ended or self._may_start())
                if self._items_ended:
                    return None
            job: _Job[Item, Piece] | None = None
            failure: BaseException | None = None
            try:
                job = _Job(next(self._items))
            except StopIteration:
                pass
            except BaseException as error:  # raised in `_next`
                failure = error
            with self._changed:
                self._notify()
                if job is None or self._is_closed:
                    self._items_ended, self._failure = True, failure
                    return None
                self._jobs.append(job)
                return job

    def _may_start(self) -> bool:
        waiting = sum(self._size(piece) for job in self._jobs for piece in job.pieces)
        return len(self._jobs) < self._ahead and waiting < self._room

    def _read(self, reader: Callable[[Item], Generator[Piece, None, None]], job: _Job[Item, Piece]) -> None:
        try:
            with closing(reader(job.item)) as pieces:
                while self._has_room(job):
                    piece = next(pieces, None)
                    if piece is None:
                        break
                    with self._changed:
                        job.pieces.append(piece)
                        self._notify()
                    del piece
        except BaseException as error:  # returned by `_next`
            job.error = error
        with self._changed:
            job.is_done = True
            self._notify()
        del job  # breaks the cycle of `job`, its error and this frame

    def _has_room(self, job: _Job[Any, Any]) -> bool:
        """Wait until another piece may be read; return False if this was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(job.pieces) < _PIECES_AHEAD)
            return not self._is_closed


@atexit.register
def _end_all() -> None:
    """End the threads before the interpreter shuts down: a thread that wakes up later can abort the program."""
    stops, deadline = dict(_stops), time.monotonic() + _EXIT_TIMEOUT_S
    for stop in stops.values():
        stop()
    for thread in stops:
        thread.join(max(0.0, deadline - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stops.clear)  # the child has no threads
