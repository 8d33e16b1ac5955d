"""The list of jobs in an SQLite file, with their events."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
EventKind = Literal["state", "progress", "note"]

#: States in which a job stays.
FINISHED = ("done", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job.

    Attributes:
        id: identifies the job.
        kind: "index" or "train".
        state: "queued", "running", "done", "failed" or "cancelled".
        arguments: what to do, see `JobRunner.submit`; has paths of this machine, so don't show it to clients.
        created, started, finished: times in seconds since 1970; None if it hasn't happened.
        progress: the data of the latest progress event; None before the first.
        result: what the job did; None before its end.
        error: {"code", "message", "hint"} of a failed job.
        starts: how often it was started, because servers ended while it ran.
    """

    id: str
    kind: str
    state: JobState
    arguments: dict[str, Any]
    created: float
    started: float | None = None
    finished: float | None = None
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    starts: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.state in FINISHED

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values for clients, without the arguments."""
        values = asdict(self)
        del values["arguments"], values["starts"]
        return values


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """Something that happened to a job.

    Attributes:
        number: ascending from 1 in each job, for the id of a server-sent event.
        job: id of the job.
        kind: "state", "progress" or "note".
        data: for "state" the job as `Job.as_dict`; for "progress" {"done", "total": numbers of videos (index) or steps
            (train), "current": name of the video or None, "current_done", "current_duration": seconds or None, "note":
            text or None}; for "note" {"text": sentence}.
    """

    number: int
    job: str
    kind: EventKind
    data: dict[str, Any]
