"""A server that is killed leaves no process behind, and its jobs go on with the next server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from engine_fakes import run

from openxclip.search import VideoIndex
from openxclip.serve.engine.job_store import Job
from openxclip.serve.engine.jobs import JobRunner
from openxclip.serve.settings import ServeSettings

pytestmark = pytest.mark.slow  # starts processes with PyTorch

_SERVER = """
import asyncio, sys
from pathlib import Path
from openxclip.serve.engine.engine import Engine
from openxclip.serve.engine.jobs import JobRunner
from openxclip.serve.engine.tasks import ClassifyTask, FrameTask
from openxclip.serve.settings import ServeSettings

async def serve(data, model, videos):
    settings = ServeSettings(model=model, data=Path(data))
    engine, jobs = Engine(settings), JobRunner(settings)
    await engine.start()
    await jobs.start()
    video = Path(videos) / "red2.mp4"
    await engine.run(ClassifyTask(path=video, name="a", labels=("a", "b")))
    await engine.run(FrameTask(path=video, name="a", time=0.0))
    job = await jobs.submit("index", {"paths": [videos]})
    async for event in jobs.events(job.id):
        if event.kind == "progress":
            print(job.id, flush=True)

asyncio.run(serve(*sys.argv[1:]))
"""


def test_a_killed_server_leaves_no_process_and_loses_no_job(
    tmp_path: Path, tiny_folder: Path, clip_folder: Path
) -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("this system doesn't list the children of a process")
    data = tmp_path / "data"
    command = [sys.executable, "-c", _SERVER, str(data), str(tiny_folder), str(clip_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        job_id = server.stdout.readline().strip()
        left = _descendants(server.pid)
        server.send_signal(signal.SIGKILL)
    assert len(left) >= 5  # the model, the process for frames and the job, and their decoders
    end = time.monotonic() + 60
    while time.monotonic() < end and any(map(_runs, left)):
        time.sleep(0.05)
    assert not [pid for pid in left if _runs(pid)]

    async def check() -> Job:
        jobs = JobRunner(ServeSettings(model=str(tiny_folder), data=data))
        await jobs.start()
        async for _ in jobs.events(job_id):
            pass
        job = await jobs.get(job_id)
        await jobs.stop()
        return job

    job = run(check())
    assert job.state == "done", job.error
    assert len(VideoIndex.open(data / "index").files()) == 3


def _descendants(pid: int) -> list[int]:
    found = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
