"""How far a run has come: numbers for a line on a terminal and for other programs, and the rule that stops it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openxclip.common.counting import counted
from openxclip.common.times import format_time
from openxclip.errors import TooManyFailuresError

if TYPE_CHECKING:
    from openxclip.cluster.actors import State

_SPEED_OVER_S = 120.0  # speeds and the time left are those of the last two minutes
_SAMPLE_EVERY_S = 1.0
_ENOUGH = 100  # videos; with more than half of them unreadable, a run is plainly wrong
_REASONS = 5  # in the message that stops a run
OnReport = Callable[["Report"], object]


@dataclass(frozen=True)
class Done:
    """What a result says about its videos.

    Attributes:
        videos: number of videos that were handled.
        windows: number of windows, or rows.
        footage: length of the videos, in seconds.
        failures: path and reason of each video that failed.
    """

    videos: int = 0
    windows: int = 0
    footage: float = 0.0
    failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Report:
    """How far a run has come.

    Attributes:
        videos: number of videos that are done, with those that failed.
        failed: number of videos that failed.
        windows: number of windows, or rows.
        footage: length of the videos that are done, in seconds.
        left: number of videos that are not done; None while the source is still being read.
        workers: number of processes that work.
        seconds: seconds since the run began.
        videos_per_second, footage_per_second: of the last two minutes, footage in seconds.
        seconds_left: the time left at this speed; None if it can't be estimated.
        stage: what limits the run: "reading", "model", "commit", "planning" or "starting workers"; "" if unknown.
    """

    videos: int = 0
    failed: int = 0
    windows: int = 0
    footage: float = 0.0
    left: int | None = None
    workers: int = 0
    seconds: float = 0.0
    videos_per_second: float = 0.0
    footage_per_second: float = 0.0
    seconds_left: float | None = None
    stage: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a line of `--progress json`, with footage in hours."""
        return {
            "videos": self.videos,
            "failed": self.failed,
            "windows": self.windows,
            "left": self.left,
            "footage_hours": round(self.footage / 3600, 6),
            "videos_per_second": round(self.videos_per_second, 3),
            "footage_hours_per_second": round(self.footage_per_second / 3600, 6),
            "seconds": round(self.seconds, 1),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left),
            "workers": self.workers,
            "stage": self.stage,
        }

    def speed(self) -> str:
        """Return the speeds, the failures and the stage in words."""
        parts = []
        if self.videos_per_second:
            parts.append(f"{self.videos_per_second:.3g} videos/s")
        if self.footage_per_second:
            parts.append(f"{footage_in_words(self.footage_per_second)}/s")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.workers:
            parts.append(counted(self.workers, "worker"))
        if self.stage:
            parts.append(f"limited by {self.stage}" if self.stage in ("reading", "model") else f"waiting: {self.stage}")
        return ", ".join(parts)


def footage_in_words(seconds: float) -> str:
    """Return an amount of footage as text."""
    return f"{seconds:.3g} s of footage" if seconds < 360 else f"{seconds / 3600:.3g} h of footage"


@dataclass
class Totals:
    """Counts what a run has done.

    Args:
        left: returns the number of videos that the plan has found so far, and whether that is all.
        max_failures: the most videos that may fail; None stops a run when more than half of at least 100 have failed.
    """

    left: Callable[[], tuple[int, bool]] = lambda: (0, False)
    max_failures: int | None = None
    videos: int = 0
    windows: int = 0
    footage: float = 0.0
    failed: int = 0
    stage: str = ""
    workers: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._in_hand: tuple[int, int, int, float] = (0, 0, 0, 0.0)
        self._samples: deque[tuple[float, int, float]] = deque([(self._began, 0, 0.0)])

    def add(self, done: Done) -> None:
        """Count a result.

        Raises:
            TooManyFailuresError: too many videos have failed.
        """
        self.videos += done.videos
        self.windows += done.windows
        self.footage += done.footage
        self.failed += len(done.failures)
        self.reasons.update(reason for _, reason in done.failures)
        self.check()

    def check(self) -> None:
        """Raise a `TooManyFailuresError` if too many videos have failed."""
        if self.max_failures is None:
            is_wrong = self.videos >= _ENOUGH and 2 * self.failed > self.videos
            rule = f"more than half of at least {_ENOUGH}"
        else:
            is_wrong = self.failed > self.max_failures
            rule = f"more than {self.max_failures}"
        if is_wrong:
            reasons = [f"{count} × {reason}" for reason, count in self.reasons.most_common(_REASONS)]
            others = sum(self.reasons.values()) - sum(count for _, count in self.reasons.most_common(_REASONS))
            reasons += [f"{others} × other reasons"] if others else []
            raise TooManyFailuresError(
                f"{self.failed} of {counted(self.videos, 'video')} failed, {rule}, so the run was stopped; what is "
                f"done is kept, and --max-failures sets the limit. The reasons: {'; '.join(reasons)}"
            )

    def in_hand(self, states: Iterable[State]) -> None:
        """Set how far the workers are with the chunks that they have in hand."""
        states = list(states)
        self._in_hand = (
            sum(state.videos for state in states),
            sum(state.failed for state in states),
            sum(state.windows for state in states),
            sum(state.footage for state in states),
        )

    def report(self) -> Report:
        """Return how far the run has come."""
        now = time.monotonic()
        videos, failed, windows, footage = self._in_hand
        videos, footage = videos + self.videos, footage + self.footage
        if now >= self._samples[-1][0] + _SAMPLE_EVERY_S:
            self._samples.append((now, videos, footage))
            while len(self._samples) > 2 and self._samples[1][0] <= now - _SPEED_OVER_S:
                self._samples.popleft()
        before, videos_before, footage_before = self._samples[0]
        seconds = max(now - before, 1e-9)
        speed = max(0.0, (videos - videos_before) / seconds)
        planned, is_all = self.left()
        left = max(0, planned - videos) if is_all else None
        return Report(
            videos=videos,
            failed=failed + self.failed,
            windows=windows + self.windows,
            footage=footage,
            left=left,
            workers=self.workers,
            seconds=now - self._began,
            videos_per_second=speed,
            footage_per_second=max(0.0, (footage - footage_before) / seconds),
            seconds_left=left / speed if left is not None and speed else None,
            stage=self.stage,
        )


def in_words(report: Report) -> str:
    """Return a report as one line."""
    total = f" of {report.videos + report.left}" if report.left is not None else ""
    left = "" if report.seconds_left is None else f"{format_time(round(report.seconds_left)).removesuffix('.0')} left"
    return ", ".join(part for part in (f"{report.videos}{total} videos", left, report.speed()) if part)
