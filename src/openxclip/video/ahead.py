"""Read ahead: threads make the next results while one is used, and never delay the end of the program."""

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

_EXIT_TIMEOUT_S = 1.0  # the most that the end of the program waits for all threads together
_PIECES_AHEAD = 2  # pieces of one item: one to be used, one more for uneven lengths

_stops: dict[threading.Thread, Callable[[], None]] = {}  # makes each running thread end soon


@dataclass(frozen=True)
class Step(Generic[Item, Piece]):
    """The next result of a `ReadAhead`: a piece of an item, or, after all its pieces, its end.

    Attributes:
        item: as it was given.
        piece: a piece of the item; None at its end.
        error: at the end, why there are no more pieces; None if nothing was wrong.
    """

    item: Item
    piece: Piece | None = None
    error: BaseException | None = None

    @property
    def is_end(self) -> bool:
        """Whether this is the end of the item."""
        return self.piece is None


@dataclass
class _Begun(Generic[Item, Piece]):
    item: Item
    pieces: deque[Piece] = field(default_factory=deque)
    error: BaseException | None = None
    is_read: bool = False


class ReadAhead(Generic[Item, Piece]):
    """An iterator over the results of readers: for each item, in order, its pieces and then its end.

    The threads that read take the items, not the caller: an iterator that waits (for the next recording, say) doesn't
    delay earlier results. The threads are daemons, unlike an executor's: a program that ends in the middle of a read
    doesn't wait for it.

    Args:
        readers: each is called by one thread, with one item after the other, and yields its pieces.
        items: taken one at a time, when they are needed.
        ahead: how many items may be begun at once, including the one whose pieces come next.
        room: the most that waiting pieces may take, by `size`; without room, no other item is begun.
        size: returns the size of a piece.
        interrupt: makes running reads end soon; called if the program ends in the middle of them.

    Raises:
        RuntimeError: it is used in a forked process, which has none of its threads.
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
        self._taking = threading.Lock()  # held to take an item, which may take long; so it isn't the lock below
        self._lock = threading.RLock()  # guards all that follows
        self._changed = threading.Condition(self._lock)  # for the threads that read
        # For the caller, perhaps in the main thread: Ctrl-C in the middle of `Condition.wait` can leave it without its
        # lock (RuntimeError: cannot release un-acquired lock). Held while there may be nothing new.
        self._news = threading.Lock()
        self._news.acquire()
        self._begun: deque[_Begun[Item, Piece]] = deque()
        self._items_ended = self._is_closed = False
        self._failure: BaseException | None = None  # raised by `items`
        for reader in readers:
            thread = threading.Thread(target=self._run, args=(reader,), name="decode", daemon=True)
            _stops[thread] = self._stop
            thread.start()

    def __iter__(self) -> ReadAhead[Item, Piece]:
        return self

    def __next__(self) -> Step[Item, Piece]:
        """Return the next piece or end. An error of `items` is raised after the results of earlier items."""
        self._check_process()
        while True:
            with self._lock:
                if self._has_next():
                    return self._next()
            self._news.acquire()

    def _next(self) -> Step[Item, Piece]:
        if not self._begun:
            if self._failure is not None:
                raise self._failure
            raise StopIteration
        self._changed.notify_all()  # there is room for one more
        first = self._begun[0]
        if first.pieces:
            return Step(first.item, first.pieces.popleft())
        self._begun.popleft()
        return Step(first.item, error=first.error)

    def is_ready(self) -> bool:
        """Whether `next` returns or ends without waiting."""
        self._check_process()
        with self._lock:
            return self._has_next()

    def close(self) -> None:
        """Stop: each thread ends after its current piece, and there are no more results."""
        if self._pid != os.getpid():
            return  # the threads, and perhaps the lock, are the parent's
        with self._lock:
            self._is_closed = self._items_ended = True
            self._begun.clear()
            self._notify()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError("this forked process has no threads to read ahead: start reading again in it")

    def _notify(self) -> None:
        """Wake the threads and the caller; the lock must be held."""
        self._changed.notify_all()
        if self._news.locked():
            self._news.release()

    def _has_next(self) -> bool:
        if self._begun:
            return bool(self._begun[0].pieces) or self._begun[0].is_read
        return self._items_ended

    def _stop(self) -> None:
        self.close()
        self._interrupt()

    # -- in the threads ----------------------------------------------------------------------------------------------

    def _run(self, reader: Callable[[Item], Generator[Piece, None, None]]) -> None:
        try:
            while (begun := self._take()) is not None:
                self._read(reader, begun)
                del begun  # free it while there is nothing to do
        finally:
            _stops.pop(threading.current_thread(), None)

    def _take(self) -> _Begun[Item, Piece] | None:
        with self._taking:
            with self._changed:
                self._changed.wait_for(lambda: self._items_ended or self._may_begin())
                if self._items_ended:
                    return None
            begun: _Begun[Item, Piece] | None = None
            failure: BaseException | None = None
            try:
                begun = _Begun(next(self._items))
            except StopIteration:
                pass
            except BaseException as error:  # raised later, where results are asked for
                failure = error
            with self._changed:
                self._notify()
                if begun is None or self._is_closed:
                    self._items_ended, self._failure = True, failure
                    return None
                self._begun.append(begun)
                return begun

    def _may_begin(self) -> bool:
        waiting = sum(self._size(piece) for begun in self._begun for piece in begun.pieces)
        return len(self._begun) < self._ahead and waiting < self._room

    def _read(self, reader: Callable[[Item], Generator[Piece, None, None]], begun: _Begun[Item, Piece]) -> None:
        try:
            with closing(reader(begun.item)) as pieces:
                while self._has_room(begun):
                    piece = next(pieces, None)
                    if piece is None:
                        break
                    with self._changed:
                        begun.pieces.append(piece)
                        self._notify()
                    del piece
        except BaseException as error:  # raised or returned where results are asked for
            begun.error = error
        with self._changed:
            begun.is_read = True
            self._notify()
        del begun  # it refers to the error, which refers to this frame: a cycle

    def _has_room(self, begun: _Begun[Any, Any]) -> bool:
        """Wait until another piece may be read; return False if nobody needs it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(begun.pieces) < _PIECES_AHEAD)
            return not self._is_closed


@atexit.register
def _end_all() -> None:
    """End the threads before the interpreter shuts down, when a thread that wakes can abort the program."""
    stops, deadline = dict(_stops), time.monotonic() + _EXIT_TIMEOUT_S
    for stop in stops.values():
        stop()
    for thread in stops:
        thread.join(max(0.0, deadline - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stops.clear)  # the child has no threads to wait for
