"""Jobs: work that goes on after the answer, survives a restart of the server, and can be watched and cancelled."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import errno
import logging
import re
import shutil
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from openxclip.common.files import atomic_file, reason_of, take_lock
from openxclip.serve.engine.errors import DataFolderInUseError, EngineStoppedError, JobNotFoundError
from openxclip.serve.engine.job_store import Job, JobEvent, JobStore
from openxclip.serve.engine.metrics import Metrics
from openxclip.serve.engine.process import JOB, ChildProcess, describe_end, resident_bytes
from openxclip.serve.engine.settings import EngineSettings
from openxclip.serve.settings import ServeSettings

JobKind = Literal["index", "train"]
Value = TypeVar("Value")

_MOST_STARTS = 3  # a job that kills its process or the server each time is given up
_WRITE_AGAIN_S = 2.0
_INTERRUPT_S = 30.0  # for a job to end by itself
_log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CHANGE = re.compile(r"[a-z_]{1,40}")


class JobRunner:
    """Runs jobs, one at a time, each in a process of its own.

    All methods are called from one event loop.

    Args:
        settings: settings of the server; jobs are kept in `data`/jobs.sqlite.
        metrics: counters to fill; default are new ones.
    """

    def __init__(self, settings: ServeSettings, *, metrics: Metrics | None = None) -> None:
        self.settings, self.metrics = settings, metrics or Metrics()
        self._store: JobStore | None = None
        self._lock: IO[str] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")  # for the disk
        self._changed, self._version = asyncio.Condition(), 0
        self._runner: asyncio.Task[None] | None = None
        self._process: ChildProcess | None = None
        self._current: str | None = None  # id of the running job
        self._cancelling: set[str] = set()  # ids of jobs
        self._is_stopping = False
        self.metrics.rss.labels("job").set_function(lambda: resident_bytes(self.pid) or 0)

    @property
    def pid(self) -> int | None:
        """Process of the running job; None if none runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Open the list of jobs, put those back into the queue that a stopped server left running, and run them.

        Raises:
            DataFolderInUseError: another server uses the data folder.
            OSError: the data folder can't be written.
        """
        await self._on_disk(self._open)
        self._runner = asyncio.get_running_loop().create_task(self._run_all())

    def _open(self) -> None:
        folder = self.settings.data
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "server.lock").open("w")
        if not take_lock(lock):
            lock.close()
            raise DataFolderInUseError(
                f"{folder}: another server uses this folder: stop that server, or choose another folder with --data."
            )
        self._lock = lock
        try:
            self._store = store = JobStore(folder / "jobs.sqlite")
        except sqlite3.Error as error:
            raise OSError(errno.EIO, f"the list of jobs can't be opened ({error})", f"{folder}/jobs.sqlite") from error
        for job in store.running():
            if job.starts >= _MOST_STARTS:
                text = f"it was started {job.starts} times, and each time its process or the server was killed."
                store.set_state(job.id, "failed", error=_error("job_killed", text, _ASK_FOR_MEMORY))
            else:
                store.set_state(job.id, "queued")

    async def stop(self) -> None:
        """End the running job, which goes on at the next start."""
        self._is_stopping = True
        if self._process is not None:
            await self._interrupt(self._process)
        if self._runner is not None:
            await self._tell()
            await self._runner
        if self._store is not None:
            await self._on_disk(self._store.close)
        if self._lock is not None:
            self._lock.close()
        await self._tell()
        self._thread.shutdown()

    async def submit(self, kind: JobKind, arguments: dict[str, Any]) -> Job:
        """Add a job to the queue. It is on the disk when this returns.

        Args:
            kind: "index" or "train".
            arguments: JSON values. For "index": `paths` (absolute paths of files and folders), and optionally `names`
                (a dict from a folder's path to the name that messages show instead) and `retry` (read again what could
                not be read before). For "train": `labels` (path of the CSV, which is copied), `name` (of the new folder
                below `data`/models), and optionally `recipe` (default: my-videos), `changes` (values of the recipe by
                key) and `names`.

        Raises:
            ValueError: the kind or an argument is invalid.
            EngineStoppedError: the server is stopping.
            OSError: the disk is full.
        """
        if self._is_stopping:
            raise EngineStoppedError("the server is stopping and takes no more jobs.")
        arguments = _checked(kind, arguments)
        job = await self._on_disk(lambda: self._add(kind, arguments))
        await self._tell()
        return job

    def _add(self, kind: str, arguments: dict[str, Any]) -> Job:
        job_id = uuid.uuid4().hex
        if kind == "train":
            unfinished = [job for job in self._opened.unfinished() if job.kind == "train"]
            names = {job.arguments["name"] for job in unfinished}
            if arguments["name"] in names or self._model_folder(arguments).exists():
                raise ValueError(f"name={arguments['name']!r}: there is a model of this name: choose another.")
            # A copy, because labels change while the job waits and runs, and only the same list can be resumed.
            copy = self._folder_of(job_id) / "labels.csv"
            copy.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(copy) as partial:
                shutil.copyfile(arguments["labels"], partial)
            arguments = {**arguments, "labels": str(copy)}
        return self._opened.add(kind, arguments, job_id=job_id)

    async def get(self, job_id: str) -> Job:
        """Return a job. `JobNotFoundError` if there is none."""
        job = await self._on_disk(lambda: self._opened.get(job_id))
        if job is None:
            raise JobNotFoundError(f"there is no job {job_id!r:.80}.")
        return job

    async def list(self, *, limit: int = 100) -> builtins.list[Job]:
        """Return jobs, the newest first."""
        return await self._on_disk(lambda: self._opened.latest(limit))

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job, and return it once it has ended; a finished job stays as it is.

        Raises:
            JobNotFoundError: there is no such job.
        """
        job = await self.get(job_id)
        if job.state == "queued" and self._current != job_id:
            job = await self._on_disk(lambda: self._opened.set_state(job_id, "cancelled"))
            self._count(job)
            await self._tell()
        version = self._version
        while not job.is_finished:
            self._cancelling.add(job_id)
            if self._process is not None and self._current == job_id:
                await self._interrupt(self._process)
            await self._change_after(version, seconds=0.2)
            version = self._version
            job = await self.get(job_id)
        return job

    async def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[JobEvent]:
        """Yield the events of a job with a number above `after`, then new ones until the job has ended.

        Of the progress, only the latest is kept. The events also end when the server stops.

        Raises:
            JobNotFoundError: there is no such job; raised at the first event.
        """
        while True:
            version = self._version
            job = await self.get(job_id)
            number = after
            for event in await self._on_disk(partial(self._opened.events, job_id, number)):
                yield event
                after = event.number
            if job.is_finished or self._is_stopping:
                return
            await self._change_after(version)

    # -- running -----------------------------------------------------------------------------------------------------

    async def _run_all(self) -> None:
        while not self._is_stopping:
            version = self._version
            job = await self._on_disk(self._opened.next)
            if job is None:
                await self._change_after(version)
            else:
                await self._run(job)

    async def _run(self, job: Job) -> None:
        self._current, store = job.id, self._opened
        messages: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        try:
            await self._write(lambda: store.set_state(job.id, "running"))
            await self._tell()
            end: tuple[Any, ...] | None = None
            try:
                put = messages.put_nowait
                self._process = ChildProcess(JOB, put, lambda status: put(("end", status)))
                self._process.send("run", job.kind, job.arguments, EngineSettings.of(self.settings))
            except OSError as error:
                put(("error", "no_process", f"no process can be started: {reason_of(error)}."))
                put(("end", 1))
            while (message := await messages.get())[0] != "end":
                if message[0] in ("progress", "note"):
                    write = store.set_progress if message[0] == "progress" else store.add_note
                    with contextlib.suppress(OSError):  # a full disk doesn't end the job; its end is written later
                        await self._on_disk(partial(write, job.id, message[1]))
                else:
                    end = message
                await self._tell()
            changed = await self._write(partial(self._finish, job, end or message))
            if changed.is_finished:
                self._count(changed)
        finally:
            self._process = self._current = None
            await self._tell()

    def _finish(self, job: Job, end: tuple[Any, ...]) -> Job:
        """Write down how a job has ended, and return it."""
        store, kind = self._opened, end[0]
        if kind == "result":
            job = store.set_state(job.id, "done", result=end[1])
        elif kind == "error":
            job = store.set_state(job.id, "failed", error=_error(end[1], end[2]))
        elif job.id in self._cancelling:
            job = store.set_state(job.id, "cancelled")
        elif self._is_stopping:
            store.forget_start(job.id)  # it was not the job's fault
            job = store.set_state(job.id, "queued")
        else:
            self.metrics.restarts.labels("job").inc()
            text = "it was interrupted." if kind == "interrupted" else f"its process {describe_end(end[1])}."
            is_last = job.starts + 1 >= _MOST_STARTS
            store.add_note(job.id, text if is_last else f"{text} It is started again.")
            error = _error("job_killed", text, _ASK_FOR_MEMORY) if is_last else None
            job = store.set_state(job.id, "failed" if is_last else "queued", error=error)
        if job.is_finished:
            shutil.rmtree(self._folder_of(job.id), ignore_errors=True)
        if job.is_finished and job.kind == "train" and not (self._model_folder(job.arguments) / "config.json").exists():
            shutil.rmtree(self._model_folder(job.arguments), ignore_errors=True)  # there is no model in it
        return job

    async def _interrupt(self, process: ChildProcess) -> None:
        """Let a job end in order, and kill its process if it doesn't."""
        process.send("interrupt")
        if not await process.wait(_INTERRUPT_S):
            process.kill()
            await process.wait(_INTERRUPT_S)

    async def _write(self, change: Callable[[], Value]) -> Value:
        """Write a change of the list, and try again for as long as the disk is full."""
        while True:
            try:
                return await self._on_disk(change)
            except OSError as error:  # noqa: PERF203 (rare)
                if self._is_stopping:
                    raise
                _log.warning("%s: trying again in %g s.", error, _WRITE_AGAIN_S)
                await asyncio.sleep(_WRITE_AGAIN_S)

    # ----------------------------------------------------------------------------------------------------------------

    def _folder_of(self, job_id: str) -> Path:
        """The folder with the files of a job, which may not exist."""
        return self.settings.data / "jobs" / job_id

    def _model_folder(self, arguments: dict[str, Any]) -> Path:
        return self.settings.data / "models" / str(arguments["name"])

    @property
    def _opened(self) -> JobStore:
        if self._store is None:
            raise EngineStoppedError("the list of jobs isn't open: the server is starting or stopping.")
        return self._store

    def _count(self, job: Job) -> None:
        self.metrics.jobs.labels(job.kind, job.state).inc()

    async def _on_disk(self, call: Callable[[], Value]) -> Value:
        """Call a function in the thread that uses the disk. OSError if the disk is full or fails."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except sqlite3.Error as error:
            number = errno.ENOSPC if "full" in str(error) else errno.EIO
            raise OSError(number, f"the list of jobs can't be written ({error})") from error

    async def _tell(self) -> None:
        """Tell all who wait that something has changed."""
        async with self._changed:
            self._version += 1
            self._changed.notify_all()

    async def _change_after(self, version: int, *, seconds: float | None = None) -> None:
        """Wait until something has changed since `_version` was `version`, for some seconds at most."""
        async with self._changed:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(lambda: self._version != version), seconds)


_ASK_FOR_MEMORY = "If memory ran out, use a smaller model or a machine with more memory, then start it again."


def _error(code: str, message: str, hint: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "hint": hint}


def _checked(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a job. ValueError if one is missing, unknown or invalid."""
    known = {"index": {"paths", "names", "retry"}, "train": {"labels", "name", "recipe", "changes", "names"}}
    if kind not in known:
        raise ValueError(f"kind={kind!r}: must be index or train.")
    unknown = sorted(set(arguments) - known[kind])
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no argument of a job {kind!r}: {', '.join(sorted(known[kind]))}.")
    if kind == "index":
        paths = arguments.get("paths")
        if not isinstance(paths, list) or not paths:
            raise ValueError(f"paths={paths!r:.80}: must be a list of one or more videos or folders.")
        wrong = next((path for path in paths if not Path(str(path)).is_absolute()), None)
        if wrong is not None:
            raise ValueError(f"paths: {wrong!r:.80} must be an absolute path.")
        return {**arguments, "paths": [str(path) for path in paths]}
    name = arguments.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"name={name!r:.80}: must be up to 64 letters, digits, dots, dashes and underscores.")
    if not Path(str(arguments.get("labels"))).is_file():
        raise ValueError("there are no labels to train on: label some windows first.")
    for key in arguments.get("changes", {}):
        if not _CHANGE.fullmatch(key):
            raise ValueError(f"changes: {key!r:.80} is no key of a recipe.")
    return arguments
