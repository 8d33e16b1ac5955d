"""Hand out the videos of a run in chunks, while they are still being planned."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from openxclip.search.bulk.items import SourceItem
from openxclip.search.bulk.planning import CHUNK_BYTES, CHUNK_VIDEOS

_FIRST_VIDEOS = 8  # of a chunk, until it is known how long a video takes
_SECONDS = 60.0  # that a chunk should take: what a killed worker loses, and the time between two receipts
_PLANNED_AHEAD = 16_384  # videos; bounds the memory of the driver


@dataclass
class Task:
    """A chunk of videos, and how often a worker ended while it had the chunk in hand.

    Attributes:
        items: the videos.
        attempts: number of times that a worker ended, or an error that may pass stopped the work.
        reason: why, the last time.
    """

    items: list[SourceItem]
    attempts: int = 0
    reason: str = ""

    def alone(self) -> list[Task]:
        """Return a task for each video, to find the one that ends workers."""
        return [Task([item], self.attempts, self.reason) for item in self.items]


class Feed:
    """Plans videos in a thread, some thousands ahead, and cuts chunks off them.

    Args:
        parts: yields the videos, some at a time.
    """

    def __init__(self, parts: Iterator[list[SourceItem]]) -> None:
        self._parts = parts
        self._items: deque[SourceItem] = deque()
        self._changed = threading.Condition()
        self._has_ended = self._is_closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._plan, name="openxclip-plan", daemon=True)
        self._thread.start()

    def take(self, workers: int, seconds_per_video: float | None) -> Task | None:
        """Return the next chunk, or None if none is planned yet, or ever.

        A chunk takes about a minute, and less at the end, so that all workers are done at about the same time.

        Args:
            workers: number of workers that share the videos.
            seconds_per_video: how long a worker takes for a video; None if that isn't known yet.

        Raises:
            Exception: what planning raised.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            most = _FIRST_VIDEOS if not seconds_per_video else round(_SECONDS / seconds_per_video)
            if self._has_ended:
                most = min(most, len(self._items) // (2 * max(1, workers)))
            most, size, chunk = max(1, min(most, CHUNK_VIDEOS)), 0, list[SourceItem]()
            while self._items and len(chunk) < most and (not chunk or size + self._items[0].size <= CHUNK_BYTES):
                chunk.append(self._items.popleft())
                size += chunk[-1].size
            self._changed.notify_all()
        return Task(chunk) if chunk else None

    @property
    def is_done(self) -> bool:
        """Whether every video has been handed out."""
        with self._changed:
            if self._error is not None:
                raise self._error
            return self._has_ended and not self._items

    @property
    def waits(self) -> bool:
        """Whether videos are still being planned, and none is ready."""
        with self._changed:
            return not self._has_ended and not self._items

    def close(self) -> None:
        """End the thread, once it has the next part."""
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._changed.notify_all()

    def _plan(self) -> None:
        try:
            for part in self._parts:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed or len(self._items) < _PLANNED_AHEAD)
                    if self._is_closed:
                        return
                    self._items.extend(part)
        except BaseException as error:  # raised by `take`
            self._error = error
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()
