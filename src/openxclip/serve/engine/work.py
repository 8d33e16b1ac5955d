"""One task as the process that does it sees it: how it is cancelled, and what it reports beside its result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from openxclip.errors import DecoderCrashError, OpenXCLIPError, VideoError, VideoIndexError
from openxclip.serve.engine.tasks import Task

Result = TypeVar("Result")

_PROGRESS_EVERY_S = 0.1


class CancelledWorkError(Exception):
    """The client has left, or the time is up."""


class Closable(Protocol):
    """What is closed to interrupt a task."""

    def close(self) -> None: ...  # noqa: D102


@dataclass(eq=False)
class Work:
    """A running task.

    Attributes:
        number: identifies the task in messages.
        task: the task.
        send: sends a message to the server.
        hidden: what messages show instead of paths, by path.
        notes: sentences for the client, each once.
        counts: what is counted for the metrics, by name.
    """

    number: int
    task: Task
    send: Callable[[tuple[Any, ...]], None]
    hidden: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._open: list[Closable] = []
        self._sent = 0.0

    @property
    def is_cancelled(self) -> bool:
        """Whether the result is no longer wanted."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Make the task end soon; called in another thread."""
        with self._lock:
            self._is_cancelled = True
            to_close = list(self._open)
        for item in to_close:
            item.close()  # a read that waits for a decoder ends with an error

    def check(self, *_: object) -> None:
        """Raise `CancelledWorkError` if the task was cancelled; used as the callback after each step."""
        if self._is_cancelled:
            raise CancelledWorkError

    @contextmanager
    def closing(self, items: Iterable[Closable | None]) -> Iterator[None]:
        """Let `cancel` close these items during the block."""
        added = [item for item in items if item is not None]
        with self._lock:
            self.check()
            self._open += added
        try:
            yield
            self.check()  # what was closed must not be used again
        finally:
            with self._lock:
                self._open = [item for item in self._open if item not in added]

    def progress(self, done: float, total: float) -> None:
        """Report progress, some times a second; also a check for `cancel`."""
        self.check()
        now = time.monotonic()
        if now - self._sent >= _PROGRESS_EVERY_S:
            self._sent = now
            self.send(("progress", self.number, done, total))

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + number

    def note(self, text: str) -> None:
        """Add a sentence for the client, unless it has been said."""
        text = self.shown(text)
        if text not in self.notes:
            self.notes.append(text)

    def shown(self, text: str) -> str:
        """Return a text with the client's name of the video in place of its path, and without other paths."""
        path = getattr(self.task, "path", None)
        names = {} if path is None else {str(path): getattr(self.task, "name", "") or "the video"}
        return with_names(text, {**self.hidden, **names})

    def shown_error(self, error: BaseException) -> BaseException:
        """Return an error for the client: without paths, and one that can be pickled."""
        if isinstance(error, VideoError):
            return type(error)(self.shown(error.source), self.shown(error.reason))
        if isinstance(error, VideoIndexError):
            return type(error)(self.shown(str(error)))
        if isinstance(error, OpenXCLIPError):
            return error
        if isinstance(error, OSError) and error.errno:
            return OSError(error.errno, error.strerror)
        for kind in (ValueError, TypeError, MemoryError):
            if isinstance(error, kind):
                return kind(self.shown(str(error)))
        return RuntimeError(f"{type(error).__name__}: {self.shown(str(error))}")

    def read_twice(self, read: Callable[[], Result]) -> Result:
        """Call a function that reads the video, and once more, with a new decoder, if the decoder died.

        Raises:
            DecoderCrashError: it died twice.
        """
        self.count("videos")
        try:
            return read()
        except DecoderCrashError:
            self.check()  # otherwise `cancel` has killed it
            self.count("crashes")
        try:
            return read()
        except DecoderCrashError:
            self.check()
            self.count("crashes")
            raise


def with_names(text: str, names: Mapping[str, str]) -> str:
    """Return a text with names in place of paths, the longest paths first."""
    for path in sorted(names, key=len, reverse=True):
        name = names[path]
        text = text.replace(f"{name} {path}", name).replace(path, name)  # "the index /data/index" is "the index"
    return text


_current = threading.local()


@contextmanager
def in_this_thread(work: Work) -> Iterator[None]:
    """Make `work` the current work of this thread during the block."""
    _current.work = work
    try:
        yield
    finally:
        _current.work = None


def current_work() -> Work | None:
    """Return the work that this thread does; None in other threads."""
    return getattr(_current, "work", None)
