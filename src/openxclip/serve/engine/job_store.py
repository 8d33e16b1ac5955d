"""The list of jobs in an SQLite file, with their events."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
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
        """Whether the job has ended: done, failed or cancelled."""
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


_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT UNIQUE NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    arguments TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    progress TEXT,
    result TEXT,
    error TEXT,
    starts INTEGER NOT NULL DEFAULT 0,
    events INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
"""
_JSON = ("arguments", "progress", "result", "error")
_KEPT_JOBS = 1000  # finished ones; older ones are forgotten
_KEPT_NOTES = 1000  # of a job


class JobStore:
    """The list of jobs and their events. Each change is on the disk when its method returns.

    Args:
        path: the file, made if it doesn't exist.

    Raises:
        OSError, sqlite3.Error: the file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        # Used by one thread at a time, which needn't be the one that opens it.
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # a job that was acknowledged survives a power cut
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, kind: str, arguments: Mapping[str, Any], *, job_id: str | None = None) -> Job:
        """Add a job to the end of the queue."""
        job_id = job_id or uuid.uuid4().hex
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT INTO jobs (id, kind, state, arguments, created) VALUES (?, ?, 'queued', ?, ?)",
                (job_id, kind, json.dumps(dict(arguments)), time.time()),
            )
            self._db.execute(
                "DELETE FROM jobs WHERE position IN (SELECT position FROM jobs WHERE state IN ('done', 'failed', "
                "'cancelled') ORDER BY position DESC LIMIT -1 OFFSET ?)",
                (_KEPT_JOBS,),
            )
            self._db.execute("DELETE FROM events WHERE job NOT IN (SELECT id FROM jobs)")
            self._add_state(job_id)
        job = self.get(job_id)
        assert job is not None  # it was just added
        return job

    def get(self, job_id: str) -> Job | None:
        """Return a job; None if there is none."""
        row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else _job(row)

    def latest(self, limit: int) -> list[Job]:
        """Return jobs, the newest first."""
        rows = self._db.execute("SELECT * FROM jobs ORDER BY position DESC LIMIT ?", (limit,))
        return [_job(row) for row in rows]

    def next(self) -> Job | None:
        """Return the job that has waited longest; None if none waits."""
        row = self._db.execute("SELECT * FROM jobs WHERE state = 'queued' ORDER BY position LIMIT 1").fetchone()
        return None if row is None else _job(row)

    def unfinished(self) -> list[Job]:
        """Return the jobs that wait or run."""
        rows = self._db.execute("SELECT * FROM jobs WHERE state IN ('queued', 'running') ORDER BY position")
        return [_job(row) for row in rows]

    def running(self) -> list[Job]:
        """Return the jobs that run, or ran when a server ended."""
        return [_job(row) for row in self._db.execute("SELECT * FROM jobs WHERE state = 'running' ORDER BY position")]

    def set_state(
        self,
        job_id: str,
        state: JobState,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> Job:
        """Change the state of a job, and add an event with it."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if state == "running":
                self._db.execute(
                    "UPDATE jobs SET state = ?, started = coalesce(started, ?), starts = starts + 1 WHERE id = ?",
                    (state, time.time(), job_id),
                )
            else:
                self._db.execute(
                    "UPDATE jobs SET state = ?, finished = ?, result = ?, error = ? WHERE id = ?",
                    (state, time.time() if state in FINISHED else None, _json(result), _json(error), job_id),
                )
            self._add_state(job_id)
        job = self.get(job_id)
        assert job is not None  # jobs that haven't ended are kept
        return job

    def forget_start(self, job_id: str) -> None:
        """Don't count the last start of a job, which the server itself ended."""
        self._db.execute("UPDATE jobs SET starts = starts - 1 WHERE id = ? AND starts > 0", (job_id,))

    def set_progress(self, job_id: str, progress: Mapping[str, Any]) -> None:
        """Set the progress of a job, and add it to the events in place of earlier progress."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE jobs SET progress = ? WHERE id = ?", (_json(progress), job_id))
            self._db.execute("DELETE FROM events WHERE job = ? AND kind = 'progress'", (job_id,))
            self._add_event(job_id, "progress", progress)

    def add_note(self, job_id: str, text: str) -> None:
        """Add a sentence to the events of a job; after a thousand, one says that there are more."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            count = self._db.execute(
                "SELECT count(*) FROM events WHERE job = ? AND kind = 'note'", (job_id,)
            ).fetchone()[0]
            if count < _KEPT_NOTES:
                self._add_event(job_id, "note", {"text": text})
            elif count == _KEPT_NOTES:
                self._add_event(job_id, "note", {"text": "there are more such notes, which are not kept."})

    def events(self, job_id: str, after: int) -> list[JobEvent]:
        """Return the events of a job with a number above `after`."""
        rows = self._db.execute(
            "SELECT number, kind, data FROM events WHERE job = ? AND number > ? ORDER BY number", (job_id, after)
        )
        return [JobEvent(number=row[0], job=job_id, kind=row[1], data=json.loads(row[2])) for row in rows]

    def _add_state(self, job_id: str) -> None:
        job = self.get(job_id)
        assert job is not None  # the caller has just changed it
        self._add_event(job_id, "state", job.as_dict())

    def _add_event(self, job_id: str, kind: EventKind, data: Mapping[str, Any]) -> None:
        self._db.execute("UPDATE jobs SET events = events + 1 WHERE id = ?", (job_id,))
        self._db.execute(
            "INSERT INTO events (job, number, kind, data) SELECT id, events, ?, ? FROM jobs WHERE id = ?",
            (kind, _json(data), job_id),
        )


def _json(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else json.dumps(dict(values))


def _job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in row.keys() if name not in ("position", "events")}  # noqa: SIM118 (no dict)
    for name in _JSON:
        values[name] = None if values[name] is None else json.loads(values[name])
    return Job(**values)
