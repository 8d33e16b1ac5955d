"""Jobs are kept on the disk, run one at a time, can be cancelled and watched, and go on after a restart."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from engine_fakes import run, value_of

from openxclip.serve.engine import jobs as job_module
from openxclip.serve.engine.errors import DataFolderInUseError, EngineStoppedError, JobNotFoundError
from openxclip.serve.engine.job_store import Job, JobStore
from openxclip.serve.engine.jobs import JobRunner
from openxclip.serve.settings import ServeSettings


@pytest.fixture(autouse=True)
def fake_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "JOB", "job_fakes")


@asynccontextmanager
async def runner(data: Path) -> AsyncIterator[JobRunner]:
    made = JobRunner(ServeSettings(model="mini", data=data))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def end_of(jobs: JobRunner, job: Job) -> Job:
    async for _ in jobs.events(job.id):
        pass
    return await jobs.get(job.id)


async def until_it_waits(jobs: JobRunner, job: Job) -> int:
    """Wait until a job has made half of its progress, and return its process."""
    async for event in jobs.events(job.id):
        if event.kind == "progress" and event.data["done"] == 1:
            return int(event.data["pid"])
    raise AssertionError("the job has ended")


def paths(what: str) -> dict[str, Any]:
    return {"paths": [f"/videos/{what}"]}


def test_a_job_reports_what_it_does_and_what_became_of_it(tmp_path: Path) -> None:
    async def check() -> None:
        async with runner(tmp_path) as jobs:
            job = await jobs.submit("index", paths("works"))
            assert (job.state, job.result, job.arguments) == ("queued", None, paths("works"))
            events = [event async for event in jobs.events(job.id)]
            assert [event.data["state"] for event in events if event.kind == "state"] == ["queued", "running", "done"]
            assert [event.data["text"] for event in events if event.kind == "note"] == ["2.mp4: is damaged"]
            numbers = [event.number for event in events]
            assert numbers == sorted(set(numbers))
            job = await jobs.get(job.id)
            assert (job.state, job.result) == ("done", {"added": 1})
            assert job.progress is not None
            assert job.progress["done"] == 1
            assert "arguments" not in job.as_dict()
            again = [event async for event in jobs.events(job.id, after=numbers[2])]  # Last-Event-ID
            assert again[-1] == events[-1]
            assert min(event.number for event in again) > numbers[2]
            assert [job.id] == [each.id for each in await jobs.list()]
            assert value_of(jobs.metrics, "jobs_total", kind="index", state="done") == 1

    run(check())


def test_a_failed_job_says_why_and_the_next_one_runs(tmp_path: Path) -> None:
    async def check() -> None:
        async with runner(tmp_path) as jobs:
            failing, working = await jobs.submit("index", paths("fails")), await jobs.submit("index", paths("works"))
            failed = await end_of(jobs, failing)
            assert failed.state == "failed"
            assert failed.error is not None
            assert failed.error["code"] == "video_index"
            assert "another process" in failed.error["message"]
            assert (await end_of(jobs, working)).state == "done"

    run(check())


@pytest.mark.slow
def test_a_job_whose_process_is_killed_is_started_again_but_not_for_ever(tmp_path: Path) -> None:
    async def check() -> None:
        async with runner(tmp_path) as jobs:
            once, always = await jobs.submit("index", paths("killed once")), await jobs.submit("index", paths("killed"))
            done = await end_of(jobs, once)
            assert (done.state, done.starts) == ("done", 2)
            failed = await end_of(jobs, always)
            assert (failed.state, failed.starts) == ("failed", 3)
            assert failed.error is not None
            assert "SIGKILL" in failed.error["message"]

    run(check())


def test_a_waiting_and_a_running_job_can_be_cancelled(tmp_path: Path) -> None:
    async def check() -> None:
        async with runner(tmp_path) as jobs:
            running, waiting = await jobs.submit("index", paths("waits")), await jobs.submit("index", paths("waits"))
            await until_it_waits(jobs, running)
            assert (await jobs.cancel(waiting.id)).state == "cancelled"
            cancelled = await jobs.cancel(running.id)
            assert (cancelled.state, cancelled.result) == ("cancelled", None)
            assert jobs.pid is None
            assert await jobs.cancel(running.id) == cancelled  # a second time changes nothing
            assert (await end_of(jobs, await jobs.submit("index", paths("works")))).state == "done"
            with pytest.raises(JobNotFoundError, match="no job 'none'"):
                await jobs.cancel("none")
            with pytest.raises(JobNotFoundError):
                await anext_of(jobs, "none")

    run(check())


async def anext_of(jobs: JobRunner, job_id: str) -> None:
    async for _ in jobs.events(job_id):
        pass


def test_a_server_that_stops_lets_its_job_go_on_at_the_next_start(tmp_path: Path) -> None:
    async def check() -> None:
        async with runner(tmp_path) as jobs:
            job = await jobs.submit("index", paths("waits"))
            await until_it_waits(jobs, job)
        with pytest.raises(EngineStoppedError):
            await jobs.submit("index", paths("works"))
        (tmp_path / "go").touch()
        async with runner(tmp_path) as jobs:
            done = await end_of(jobs, job)
            assert (done.state, done.starts) == ("done", 1)

    run(check())


_SERVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from openxclip.serve.engine import jobs
from openxclip.serve.settings import ServeSettings

async def serve():
    jobs.JOB = "job_fakes"
    runner = jobs.JobRunner(ServeSettings(model="mini", data=Path(sys.argv[1])))
    await runner.start()
    waits = await runner.submit("index", {"paths": ["/videos/waits"]})
    last = await runner.submit("index", {"paths": ["/videos/works"]})
    async for event in runner.events(waits.id):
        if event.kind == "progress" and event.data["done"] == 1:
            print(waits.id, last.id, flush=True)

asyncio.run(serve())
"""


@pytest.mark.slow
def test_no_acknowledged_job_is_lost_with_a_killed_server(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SERVER, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ids = server.stdout.readline().split()
        os.kill(server.pid, signal.SIGKILL)
    (tmp_path / "go").touch()

    async def check() -> None:
        async with runner(tmp_path) as jobs:
            ended = [await end_of(jobs, await jobs.get(each)) for each in ids]
            assert [(job.state, job.starts) for job in ended] == [("done", 2), ("done", 1)]

    run(check())


def test_a_job_that_kills_its_servers_is_given_up(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    job = store.add("index", paths("works"))
    for _ in range(3):
        store.set_state(job.id, "running")
    store.close()

    async def check() -> None:
        async with runner(tmp_path) as jobs:
            failed = await jobs.get(job.id)
            assert failed.error is not None
            assert (failed.state, failed.error["code"]) == ("failed", "job_killed")

    run(check())


def test_a_second_server_with_the_same_folder_is_refused(tmp_path: Path) -> None:
    async def check() -> None:
        async with runner(tmp_path):
            second = JobRunner(ServeSettings(model="mini", data=tmp_path))
            with pytest.raises(DataFolderInUseError, match="another server"):
                await second.start()
            await second.stop()

    run(check())


def test_a_job_that_cannot_be_written_down_is_not_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> Job:
        raise sqlite3.OperationalError("database or disk is full")

    async def check() -> None:
        async with runner(tmp_path) as jobs:
            with monkeypatch.context() as patch:
                patch.setattr(JobStore, "add", full)
                with pytest.raises(OSError, match="disk is full") as error:
                    await jobs.submit("index", paths("works"))
                assert error.value.errno == errno.ENOSPC
            assert await jobs.list() == []
            assert (await end_of(jobs, await jobs.submit("index", paths("works")))).state == "done"

    run(check())


def test_a_full_disk_delays_the_end_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "_WRITE_AGAIN_S", 0.01)
    full = [True] * 6  # for the progress, the note and the end
    write, note, progress = JobStore.set_state, JobStore.add_note, JobStore.set_progress

    def fails(method: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if full:
                full.pop()
                raise sqlite3.OperationalError("database or disk is full")
            return method(*args, **options)

        return call

    monkeypatch.setattr(JobStore, "set_state", fails(write))
    monkeypatch.setattr(JobStore, "add_note", fails(note))
    monkeypatch.setattr(JobStore, "set_progress", fails(progress))

    async def check() -> None:
        async with runner(tmp_path) as jobs:
            job = await end_of(jobs, await jobs.submit("index", paths("works")))
            assert (job.state, job.result, full) == ("done", {"added": 1}, [])

    run(check())


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("cook", {}, "kind='cook': must be index or train"),
        ("index", {}, "paths=None: must be a list"),
        ("index", {"paths": ["a.mp4"]}, "'a.mp4' must be an absolute path"),
        ("index", {"paths": ["/a"], "fast": True}, "'fast' is no argument"),
        ("train", {"labels": "/none.csv", "name": "../x"}, r"name='\.\./x'"),
        ("train", {"labels": "/none.csv", "name": "x"}, "no labels"),
        ("train", {"labels": __file__, "name": "x", "changes": {"out=": 1}}, "'out=' is no key"),
        ("train", {"labels": __file__, "name": "old"}, "there is a model of this name"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused(tmp_path: Path, kind: Any, arguments: dict, message: str) -> None:
    (tmp_path / "models" / "old").mkdir(parents=True)

    async def check() -> None:
        async with runner(tmp_path) as jobs:
            with pytest.raises(ValueError, match=message):
                await jobs.submit(kind, arguments)
            assert await jobs.list() == []

    run(check())


def test_only_so_many_finished_jobs_and_notes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from openxclip.serve.engine import job_store

    monkeypatch.setattr(job_store, "_KEPT_JOBS", 2)
    monkeypatch.setattr(job_store, "_KEPT_NOTES", 2)
    store = JobStore(tmp_path / "jobs.sqlite")
    ids = []
    for _ in range(4):
        ids.append(store.add("index", {}).id)
        store.set_state(ids[-1], "done")
    waiting = store.add("index", {})
    assert [job.id for job in store.latest(10)] == [waiting.id, ids[3], ids[2]]
    assert store.events(ids[0], 0) == []
    for number in range(5):
        store.add_note(waiting.id, str(number))
    notes = [event.data["text"] for event in store.events(waiting.id, 0) if event.kind == "note"]
    assert notes == ["0", "1", "there are more such notes, which are not kept."]
    for number in range(3):
        store.set_progress(waiting.id, {"done": number})
    events = store.events(waiting.id, 0)
    assert [event.data for event in events if event.kind == "progress"] == [{"done": 2}]
    store.close()
