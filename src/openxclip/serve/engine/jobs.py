"""Jobs: work that goes on after the answer, survives a restart of the server, and can be watched and cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from openxclip.serve.engine.job_store import Job, JobEvent
from openxclip.serve.engine.metrics import Metrics
from openxclip.serve.settings import ServeSettings

JobKind = Literal["index", "train"]


class JobRunner:
    """Runs jobs, one at a time, each in a process of its own.

    Args:
        settings: settings of the server; jobs are kept in `data`/jobs.sqlite.
        metrics: counters to fill; default are new ones.
    """

    def __init__(self, settings: ServeSettings, *, metrics: Metrics | None = None) -> None:
        self.settings, self.metrics = settings, metrics or Metrics()

    async def start(self) -> None:
        """Open the list of jobs, put those back into the queue that a stopped server left running, and run them.

        Raises:
            DataFolderInUseError: another server uses the data folder.
            OSError: the data folder can't be written.
        """
        raise NotImplementedError

    async def stop(self) -> None:
        """End the running job, which goes on at the next start."""
        raise NotImplementedError

    async def submit(self, kind: JobKind, arguments: dict[str, Any]) -> Job:
        """Add a job to the queue. It is on the disk when this returns.

        Args:
            kind: "index" or "train".
            arguments: JSON values. For "index": `paths` (absolute paths of files and folders), and optionally `names`
                (a dict from a folder's path to the name that messages show instead) and `retry` (read again what could
                not be read before). For "train": `labels` (path of the CSV), `name` (of the model's folder below
                `data`/models), and optionally `changes` (values of the recipe by key) and `names`.

        Raises:
            ValueError: the kind or an argument is invalid.
        """
        raise NotImplementedError

    async def get(self, job_id: str) -> Job:
        """Return a job. `JobNotFoundError` if there is none."""
        raise NotImplementedError

    async def list(self, *, limit: int = 100) -> list[Job]:
        """Return jobs, the newest first."""
        raise NotImplementedError

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job, and return it once it has ended; a finished job stays as it is.

        Raises:
            JobNotFoundError: there is no such job.
        """
        raise NotImplementedError

    def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[JobEvent]:
        """Yield the events of a job with a number above `after`, then new ones until the job has ended.

        Of the progress, only the latest is kept.

        Raises:
            JobNotFoundError: there is no such job; raised at the first event.
        """
        raise NotImplementedError
