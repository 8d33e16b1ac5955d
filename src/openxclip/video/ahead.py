"""Reading ahead: while one result is used, the next are made by threads that never hold up the end of the program."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_PATIENCE = 1.0  # seconds that a program's end waits for all readers together; one that takes longer is left there

_reading: dict[threading.Thread, Callable[[], None]] = {}  # and what makes each end soon
_is_ending = threading.Event()


def run_ahead(
    readers: Sequence[Callable[[Item], Result]],
    items: Iterable[Item],
    *,
    ahead: int,
    interrupt: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Each item, in order, with the future of what a reader makes of it.

    Args:
        readers: each is called by one thread, with one item after the other. (The threads are daemons, as those of an
            executor are not: a program that ends in the middle of a read doesn't wait for it.)
        items: taken from one by one.
        ahead: how many items are given to the readers before the first one's future is handed out.
        interrupt: makes the reads that go on end soon; called where the program ends in the middle of them.
    """
    todo: queue.SimpleQueue[tuple[Item, Future[Result]] | None] = queue.SimpleQueue()

    def stop() -> None:
        interrupt()
        todo.put(None)

    for reader in readers:
        thread = threading.Thread(target=_read, args=(reader, todo), name="decode", daemon=True)
        _reading[thread] = stop
        thread.start()
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, Future()))
            todo.put(waiting[-1])
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, future in waiting:
            future.cancel()
        for _ in readers:
            todo.put(None)


def _read(reader: Callable[[Item], Result], todo: queue.SimpleQueue[tuple[Item, Future[Result]] | None]) -> None:
    while (task := todo.get()) is not None and not _is_ending.is_set():
        item, future = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(reader(item))
            except BaseException as error:  # to be raised where the result is asked for
                future.set_exception(error)
        del task, item, future  # not to be kept alive while there is nothing to do
    _reading.pop(threading.current_thread(), None)


@atexit.register
def _end_all() -> None:
    """A thread that wakes while the interpreter is taken down can abort the program: have them end before."""
    _is_ending.set()
    readers, deadline = dict(_reading), time.monotonic() + _PATIENCE
    for stop in readers.values():
        stop()
    for thread in readers:
        thread.join(max(0.0, deadline - time.monotonic()))
