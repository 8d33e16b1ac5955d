"""Reading ahead: while one result is used, the next are made by threads that never hold up the end of the program."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_ahead(
    readers: Sequence[Callable[[Item], Result]], items: Iterable[Item], *, ahead: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Each item, in order, with the future of what a reader makes of it.

    Args:
        readers: each is called by one thread, with one item after the other. (The threads are daemons, as those of an
            executor are not: a program that ends in the middle of a read doesn't wait for it.)
        items: taken from one by one.
        ahead: how many items are given to the readers before the first one's future is handed out.
    """
    todo: queue.SimpleQueue[tuple[Item, Future[Result]] | None] = queue.SimpleQueue()
    for reader in readers:
        threading.Thread(target=_read, args=(reader, todo), name="decode", daemon=True).start()
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
    while (task := todo.get()) is not None:
        item, future = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(reader(item))
            except BaseException as error:  # to be raised where the result is asked for
                future.set_exception(error)
        del task, item, future  # not to be kept alive while there is nothing to do
