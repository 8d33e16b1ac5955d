"""Reading ahead: the order of results, waiting, and the end."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator

import pytest

from openxclip.video.ahead import ReadAhead

PATIENCE = 20.0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def readers_left() -> int:
    return sum(thread.name == "decode" for thread in threading.enumerate())


def count_to(number: int) -> Generator[str, None, None]:
    for i in range(number):
        yield f"{number}.{i}"


@pytest.mark.parametrize("readers", [1, 3])
def test_pieces_and_ends_come_in_order(readers: int) -> None:
    steps = list(ReadAhead([count_to] * readers, [3, 0, 1, 5], ahead=3))
    expected = [(n, piece) for n in (3, 0, 1, 5) for piece in [*count_to(n), None]]
    assert [(step.item, step.piece) for step in steps] == expected
    assert all(step.error is None for step in steps)
    until(lambda: readers_left() == 0)


def test_an_error_comes_after_earlier_pieces_and_does_not_stop_later_items() -> None:
    def reader(item: int) -> Generator[int, None, None]:
        yield item
        if item == 2:
            raise OSError("broken")
        yield item

    steps = list(ReadAhead([reader], [1, 2, 3], ahead=5))
    assert [(s.item, s.piece, str(s.error or "")) for s in steps] == [
        (1, 1, ""), (1, 1, ""), (1, None, ""), (2, 2, ""), (2, None, "broken"), (3, 3, ""), (3, 3, ""), (3, None, "")
    ]  # fmt: skip


def test_an_error_of_the_items_comes_after_their_results() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("list")

    ahead = ReadAhead([count_to], items(), ahead=9)
    got: list[str | None] = []
    with pytest.raises(KeyError, match="list"):
        got.extend(step.piece for step in ahead)
    assert got == ["1.0", None, "2.0", "2.1", None]


def test_the_numbers_of_started_items_and_waiting_pieces_are_bounded() -> None:
    taken, read = [], []

    def items() -> Iterator[int]:
        for i in itertools.count():
            taken.append(i)
            yield i

    def reader(item: int) -> Generator[int, None, None]:
        for i in range(50):
            read.append((item, i))
            yield i

    ahead = ReadAhead([reader, reader], items(), ahead=3)
    until(lambda: len(read) == 2 * 2)
    time.sleep(0.1)
    assert (len(taken), len(read)) == (2, 4)  # as many as there are readers, two pieces of each
    first = [next(ahead) for _ in range(51)]
    assert [step.item for step in first] == [0] * 51
    time.sleep(0.1)
    assert len(taken) == 3
    assert max(i for item, i in read if item > 0) == 1
    ahead.close()
    until(lambda: readers_left() == 0)


def test_waiting_for_an_item_does_not_delay_results() -> None:
    seen = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert seen.wait(PATIENCE)
        yield 2

    ahead = ReadAhead([count_to], items(), ahead=5)
    assert next(ahead).piece == "1.0"
    assert next(ahead).piece is None
    assert not ahead.is_ready()
    seen.set()
    assert next(ahead).item == 2
    ahead.close()


def test_closing_frees_readers_items_and_pieces() -> None:
    class Piece:
        pass

    pieces: list[weakref.ref[Piece]] = []
    ended = threading.Event()

    def reader(item: int) -> Generator[Piece, None, None]:
        try:
            while True:
                piece = Piece()
                pieces.append(weakref.ref(piece))
                yield piece
                del piece
        finally:
            ended.set()

    ahead = ReadAhead([reader], itertools.count(), ahead=2)
    next(ahead)
    ahead.close()
    assert ended.wait(PATIENCE)
    until(lambda: readers_left() == 0)
    until(lambda: not any(piece() for piece in pieces))
    with pytest.raises(StopIteration):
        next(ahead)


def test_errors_do_not_keep_the_reader_alive() -> None:
    class Owner:
        def read(self, item: int) -> Generator[int, None, None]:
            raise OSError("broken")
            yield item

    owner = Owner()
    gone = weakref.ref(owner)
    ahead = ReadAhead([owner.read], [1, 2], ahead=2)
    ended = next(ahead)
    assert ended.error is not None
    ended.error.with_traceback(None)
    ahead.close()
    del owner, ahead
    until(lambda: gone() is None)


def test_no_item_is_started_without_room() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in itertools.count():
            taken.append(i)
            yield i

    def reader(item: int) -> Generator[list[int], None, None]:
        yield [0] * 10

    ahead = ReadAhead([reader], items(), ahead=100, room=25, size=len)
    until(lambda: len(taken) == 3)
    time.sleep(0.1)
    assert len(taken) == 3  # thirty pieces wait
    next(ahead)
    until(lambda: len(taken) == 4)
    ahead.close()


def test_ctrl_c_while_waiting_for_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread must not call `Condition.wait`, which loses its lock if Ctrl-C comes at its beginning."""
    waiting: set[threading.Thread] = set()
    wait = threading.Condition.wait

    def noted(condition: threading.Condition, timeout: float | None = None) -> bool:
        waiting.add(threading.current_thread())
        return wait(condition, timeout)

    def slowly(number: int) -> Generator[int, None, None]:
        time.sleep(0.005)
        yield number

    ahead = ReadAhead([slowly], range(20), ahead=1)  # starting a thread waits too
    monkeypatch.setattr(threading.Condition, "wait", noted)
    pieces = [step.piece for step in ahead if step.piece is not None]
    assert pieces == list(range(20))
    assert waiting
    assert threading.current_thread() not in waiting
