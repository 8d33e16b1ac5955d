"""Progress on stderr: a bar on a terminal, a line every 30 seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from openxclip.cli import terminal
from openxclip.cli.terminal import say
from openxclip.common.counting import counted
from openxclip.common.times import format_time

LINE_EVERY_S = 30.0
_SPEED_OVER_S = 120.0  # the time left is estimated from the last two minutes
_SAMPLE_EVERY_S = 1.0


class Progress:
    """Counts finished items. Call it after each item.

    Args:
        what: name of the work, such as "indexing".
        total: number of items; None if it is unknown.
        noun: name of one item.
        now: clock that returns seconds.

    Attributes:
        done: number of finished items.
        note: a text to show after the numbers.
        what, total, noun: the arguments.
    """

    def __init__(
        self, what: str, total: int | None, noun: str = "video", now: Callable[[], float] = time.monotonic
    ) -> None:
        self.what, self.total, self.noun = what, total, noun
        self.note = ""
        self._now, self._began = now, now()
        self.done = 0.0
        self._parts: dict[str, tuple[float, str]] = {}  # items in progress: finished share, and progress in words
        self._samples: deque[tuple[float, float]] = deque([(self._began, 0.0)])

    def __call__(self, name: str = "") -> None:
        """Count one more item; pass its `name` if several are in progress at once."""
        self.done += 1
        self._parts.pop(name, None)
        self._update()

    def at(self, done: float, total: int | None = None, *, note: str = "") -> None:
        """Set the number of finished items, the total, and a note to show after them."""
        self.done, self.note = done, note
        self.total = self.total if total is None else total
        self._update()

    def footage(self, end: float, duration: float, name: str = "") -> None:
        """Set the progress of a video: `end` of `duration`, both in seconds."""
        if duration > 0:  # false for NaN
            end = min(end, duration)
            self._parts[name] = (end / duration, f"{format_time(end)} of {format_time(duration)}")
        self._update()

    def clips(self, done: int, number: int) -> None:
        """Set the number of finished clips of the video in progress, and their total number."""
        if number > 1:
            self._parts[""] = (done / number, f"{done} of {counted(number, 'clip')}")
        self._update()

    @property
    def fraction(self) -> float | None:
        """The finished share from 0 to 1; None if it is unknown."""
        if not self.total:
            return None
        return min(1.0, (self.done + sum(share for share, _ in tuple(self._parts.values()))) / self.total)

    def text(self) -> str:
        """Return the progress in words."""
        parts = [words for _, words in tuple(self._parts.values())]
        part = parts[0] if len(parts) == 1 else ""
        if self.total == 1 and part:
            return part
        if self.total is None:
            items = f"{counted(round(self.done), self.noun)}" if self.done else ""
        else:
            items = f"{round(self.done)} of {counted(self.total, self.noun)}"
        return ", ".join(text for text in (items, part) if text)

    def state(self) -> str:
        """Return the progress, the time left and the note."""
        return ", ".join(part for part in (self.text(), self.left(), self.note) if part)

    def left(self) -> str:
        """Return the time left in words, or the elapsed time if it can't be estimated."""
        now, fraction = self._now(), self.fraction
        before, fraction_before = self._samples[0]
        if fraction is not None and fraction > fraction_before and now > before:
            remaining = (1 - fraction) * (now - before) / (fraction - fraction_before)
            return f"{_format_whole(max(0.0, remaining))} left"
        return f"{_format_whole(now - self._began)} so far"

    def _update(self) -> None:
        now, fraction = self._now(), self.fraction
        if fraction is not None and now >= self._samples[-1][0] + _SAMPLE_EVERY_S:
            self._samples.append((now, fraction))
            while len(self._samples) > 2 and self._samples[1][0] <= now - _SPEED_OVER_S:
                self._samples.popleft()
        self.show()

    def show(self) -> None:
        """Update the display; this class shows nothing, for --quiet."""

    def close(self) -> None:
        """Remove the display."""


class _Lines(Progress):
    """Prints a line every 30 seconds, even if no progress is reported."""

    def __init__(self, what: str, total: int | None, noun: str, now: Callable[[], float]) -> None:
        super().__init__(what, total, noun, now)
        self._last_line, self._lock, self._closing = self._began, threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="openxclip-progress", daemon=True)
        self._thread.start()

    def show(self) -> None:
        with self._lock:
            now = self._now()
            if now < self._last_line + LINE_EVERY_S:
                return
            self._last_line = now
        say(f"{self.what}: {self.state()}")

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closing.wait(LINE_EVERY_S / 10):
            self.show()


class _Bar(Progress):
    """A bar in the last line of a terminal. It makes room for other output."""

    def __init__(self, what: str, total: int | None, noun: str, now: Callable[[], float]) -> None:
        super().__init__(what, total, noun, now)
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column
        from rich.text import Text

        class State(ProgressColumn):
            def render(self, _task: Task) -> Text:
                return Text(bar.state())

        bar, one_line = self, Column(no_wrap=True, overflow="ellipsis")
        self._lock, self._is_hidden = threading.RLock(), False
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            State(table_column=one_line),
            console=Console(file=terminal.bar_stream(sys.stderr), force_terminal=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(what, total=None if total is None else 1.0)
        self._bar.start()
        terminal.set_bar(self._hidden)

    def show(self) -> None:
        fraction = self.fraction
        self._bar.update(self._task, total=None if fraction is None else 1.0, completed=fraction or 0.0)

    def close(self) -> None:
        terminal.set_bar(None)
        self._bar.stop()

    @contextmanager
    def _hidden(self, ends_line: bool) -> Iterator[None]:
        """Hide the bar while text is written; draw it again in the next line, once the text has ended its line."""
        with self._lock:
            if not self._is_hidden:
                self._bar.stop()
            self._is_hidden = not ends_line
            try:
                yield
            finally:
                if ends_line:
                    self._bar.start()


@contextmanager
def progress(
    what: str,
    total: int | None = None,
    *,
    noun: str = "video",
    prints_meanwhile: bool = False,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Show the progress of a block of code, unless --quiet was passed.

    Args:
        what: name of the work, such as "indexing".
        total: number of items; None if it is unknown.
        noun: name of one item.
        prints_meanwhile: whether results are printed to stdout during the work. If stdout is a pipe, its reader may
            print to the same terminal, so lines are printed instead of a bar.
        now: clock that returns seconds.
    """
    kind: type[Progress] = _Lines
    if terminal.is_set("quiet"):
        kind = Progress
    elif terminal.can_show_bar() and not (prints_meanwhile and terminal.is_pipe(sys.stdout)):
        kind = _Bar
    display = kind(what, total, noun, now)
    try:
        yield display
    finally:
        display.close()


def _format_whole(seconds: float) -> str:
    return format_time(round(seconds)).removesuffix(".0")
