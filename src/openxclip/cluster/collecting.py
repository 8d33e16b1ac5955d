"""Commit the receipts of workers in a thread, rarely, while the workers go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openxclip.search.bulk.receipts import Receipt

# A commit is due after this many seconds, receipts or windows. The embeddings of the windows take about 1 GiB.
EVERY_S, EVERY_RECEIPTS, EVERY_WINDOWS = 60.0, 256, 500_000
_MOST_WAITING = 4 * EVERY_RECEIPTS  # receipts; no more chunks are given out meanwhile


class Collector:
    """Collects receipts, and commits them when a minute has passed or many wait.

    Args:
        commit: commits receipts.
        every_s: seconds between commits.
    """

    def __init__(self, commit: Callable[[list[Receipt]], object], *, every_s: float = EVERY_S) -> None:
        self._commit, self._every_s = commit, every_s
        self._waiting: list[Receipt] = []
        self._in_hand = 0
        self._changed = threading.Condition()
        self._is_closed = self._is_asked = False
        self._error: BaseException | None = None
        self._committed_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="openxclip-commit", daemon=True)
        self._thread.start()

    def add(self, receipt: Receipt) -> None:
        """Take a receipt.

        Raises:
            Exception: what the last commit raised.
        """
        with self._changed:
            self._waiting.append(receipt)
            self._changed.notify_all()
        self.check()

    def check(self) -> None:
        """Raise what a commit raised, if one did."""
        if self._error is not None:
            raise self._error

    @property
    def is_behind(self) -> bool:
        """Whether so many receipts wait that workers must wait too."""
        with self._changed:
            return len(self._waiting) + self._in_hand >= _MOST_WAITING

    def flush(self) -> None:
        """Commit all receipts, and wait for that.

        Raises:
            Exception: what the commit raised.
        """
        with self._changed:
            self._is_asked = True
            self._changed.notify_all()
            while (self._waiting or self._in_hand) and self._error is None:
                self._changed.wait(1.0)  # not for ever, so that Ctrl-C is seen
            self._is_asked = False
        self.check()

    def close(self) -> None:
        """Commit what waits, unless a commit has failed, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(1.0)

    def _is_due(self) -> bool:
        if not self._waiting:
            return False
        is_old = time.monotonic() >= self._committed_at + self._every_s
        is_much = len(self._waiting) >= EVERY_RECEIPTS or sum(map(_windows, self._waiting)) >= EVERY_WINDOWS
        return self._is_asked or self._is_closed or is_old or is_much

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._is_due():
                    if self._is_closed:
                        return
                    self._changed.wait(1.0)
                batch, self._waiting = self._waiting, []
                self._in_hand = len(batch)
            try:
                self._commit(batch)
            except BaseException as error:  # raised by `check`; the receipts stay in the store
                self._error = error
                with self._changed:
                    self._in_hand = 0
                    self._changed.notify_all()
                return
            with self._changed:
                self._in_hand, self._committed_at = 0, time.monotonic()
                self._changed.notify_all()


def _windows(receipt: Receipt) -> int:
    return sum(video.windows for video in receipt.videos)
