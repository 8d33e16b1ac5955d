"""Tasks wait for a process, run in it, are cancelled, and outlive it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from engine_fakes import (
    Crash,
    Die,
    Fail,
    Pid,
    Progress,
    Return,
    Texts,
    Wait,
    Warn,
    run,
    station,
    until,
    value_of,
)

from openxclip.errors import DecoderCrashError, VideoError
from openxclip.serve.engine import station as stations
from openxclip.serve.engine.errors import (
    EngineStoppedError,
    ModelGoneError,
    ModelNotLoadedError,
    NoIndexError,
    QueueFullError,
)
from openxclip.serve.engine.metrics import Metrics
from openxclip.serve.engine.station import Station


async def stopped(running: Station, pid: int) -> None:
    """Wait until a process is gone; the station has collected its status."""
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            await asyncio.sleep(0.005)


def test_results_progress_notes_and_errors_come_back(tmp_path: Path) -> None:
    async def check() -> None:
        metrics = Metrics()
        async with station(tmp_path, metrics=metrics) as made:
            assert made.state == "unloaded"
            assert await made.run(Return(value={"a": [1]}), None) == {"a": [1]}
            assert (made.state, made.facts) == ("ready", {"model": "fake"})
            seen: list[tuple[float, float]] = []
            await made.run(Progress(steps=2), lambda done, total: seen.append((done, total)))
            assert seen == [(0, 2), (1, 2)]
            assert await made.run(Warn(text="/data/uploads/1: it has no times"), None) == ["mine.mp4: it has no times"]
            with pytest.raises(NoIndexError, match="no index"):
                await made.run(Fail(error=NoIndexError("there is no index.")), None)
            with pytest.raises(OSError, match="No space left") as full:
                await made.run(Fail(error=OSError(28, "No space left on device", "/data/previews/1.mp4")), None)
            assert "/data" not in str(full.value)
            assert value_of(metrics, "model_seconds_count", task="return") == 1

    run(check())


def test_errors_name_the_video_as_the_client_does(tmp_path: Path) -> None:
    async def check() -> None:
        upload = Path("/data/uploads/7")
        async with station(tmp_path) as made:
            error = VideoError(str(upload), f"{upload}/x is damaged")
            with pytest.raises(VideoError, match=r"^holiday\.mp4: holiday\.mp4/x is damaged$"):
                await made.run(Fail(error=error, path=upload, name="holiday.mp4"), None)
            invalid = ValueError(f"start=9: {upload} ends before, see /data/x")
            with pytest.raises(ValueError, match=r"^start=9: holiday\.mp4 ends before, see the data folder/x$"):
                await made.run(Fail(error=invalid, path=upload, name="holiday.mp4"), None)

    run(check())


def test_a_fault_of_the_program_is_an_error_of_one_task(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def check() -> None:
        async with station(tmp_path) as made:
            pid = await made.run(Pid(), None)
            with pytest.raises(RuntimeError, match="KeyError: 'what'"):
                await made.run(Fail(error=KeyError("what")), None)
            with pytest.raises(Exception, match="pickle"):
                await made.run(Return(value=lambda: 0), None)
            assert await made.run(Pid(), None) == pid

    run(check())
    assert "Traceback" in capfd.readouterr().err  # for the server's log


def test_a_killed_process_fails_the_requests_in_it_alone(tmp_path: Path) -> None:
    async def check() -> None:
        metrics = Metrics()
        async with station(tmp_path, metrics=metrics) as made:
            first = await made.run(Pid(), None)
            dying = asyncio.ensure_future(made.run(Die(), None))
            waiting = [asyncio.ensure_future(made.run(Pid(), None)) for _ in range(3)]
            with pytest.raises(ModelGoneError, match="killed"):
                await dying
            pids = set(await asyncio.gather(*waiting))
            assert len(pids) == 1
            assert first not in pids
            assert value_of(metrics, "process_deaths_total", process="model") == 1

    run(check())


def test_a_client_that_leaves_frees_its_work(tmp_path: Path) -> None:
    async def check() -> None:
        metrics = Metrics()
        async with station(tmp_path, metrics=metrics) as made:
            pid = await made.run(Pid(), None)
            long = asyncio.ensure_future(made.run(Wait(until=tmp_path / "never"), None))
            queued = asyncio.ensure_future(made.run(Wait(until=tmp_path / "never"), None))
            after = asyncio.ensure_future(made.run(Pid(), None))
            await until(lambda: value_of(metrics, "running", lane="videos") == 1 and made.num_waiting == 2)
            queued.cancel()
            await until(lambda: made.num_waiting == 1)
            long.cancel()
            assert await after == pid  # the same process goes on
            assert value_of(metrics, "cancelled_total", lane="videos") == 2

    run(check())


def test_a_task_that_cannot_be_cancelled_is_ended_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stations, "_CANCEL_GRACE_S", 0.05)

    async def check() -> None:
        async with station(tmp_path) as made:
            pid = await made.run(Pid(), None)
            deaf = asyncio.ensure_future(made.run(Wait(until=tmp_path / "never", deaf=True), None))
            await until(lambda: made._sent)
            deaf.cancel()
            assert await made.run(Pid(), None) != pid

    run(check())


def test_a_task_past_the_time_limit_is_ended(tmp_path: Path) -> None:
    async def check() -> None:
        metrics = Metrics()
        async with station(tmp_path, metrics=metrics) as made:
            pid = await made.run(Pid(), None)
            made._time_limit = 0.05
            with pytest.raises(TimeoutError, match=r"longer than 0\.05 s\.$"):
                await made.run(Wait(until=tmp_path / "never"), None)
            made._time_limit = 60.0
            assert await made.run(Pid(), None) == pid
            assert value_of(metrics, "timeouts_total", lane="videos") == 1

    run(check())


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(tmp_path: Path) -> None:
    async def check() -> None:
        async with station(tmp_path, queue_size=2) as made:
            await made.run(Return(), None)
            go = tmp_path / "go"
            tasks = [asyncio.ensure_future(made.run(Wait(until=go), None))]
            await until(lambda: made._sent)
            tasks += [asyncio.ensure_future(made.run(Wait(until=go), None)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError) as full:
                await made.run(Return(), None)
            assert full.value.retry_after == 1  # tasks have taken milliseconds so far
            made._lanes["videos"].seconds = 7.5
            with pytest.raises(QueueFullError, match="8 s"):
                await made.run(Return(), None)
            assert await made.run(Texts(value=3), None) == 3  # has a queue of its own
            go.touch()
            await asyncio.gather(*tasks)
            assert await made.run(Return(value=4), None) == 4

    run(check())


def test_an_idle_process_ends_and_the_next_task_starts_another(tmp_path: Path) -> None:
    async def check() -> None:
        metrics = Metrics()
        async with station(tmp_path, idle=0.05, metrics=metrics) as made:
            pid = await made.run(Pid(), None)
            await until(lambda: made.state == "unloaded")
            await stopped(made, pid)
            assert made.pid is None
            assert await made.run(Pid(), None) != pid
            await until(lambda: value_of(metrics, "model_unloads_total") == 2)
            assert value_of(metrics, "process_deaths_total", process="model") is None  # it was asked to

    run(check())


def test_stopping_finishes_what_was_accepted(tmp_path: Path) -> None:
    async def check() -> None:
        go = tmp_path / "go"
        async with station(tmp_path) as made:
            pid = await made.run(Pid(), None)
            tasks = [asyncio.ensure_future(made.run(Wait(until=go), None))]
            tasks += [asyncio.ensure_future(made.run(Return(value=5), None))]
            await until(lambda: made._sent)
            stopping = asyncio.ensure_future(made.stop(30.0))
            await asyncio.sleep(0)
            with pytest.raises(EngineStoppedError, match="stopping"):
                await made.run(Return(), None)
            go.touch()
            assert await asyncio.gather(*tasks) == [None, 5]
            await stopping
            await stopped(made, pid)

    run(check())


def test_stopping_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def check() -> None:
        async with station(tmp_path) as made:
            tasks = [asyncio.ensure_future(made.run(Wait(until=tmp_path / "never"), None)) for _ in range(2)]
            await until(lambda: made._sent)
            await made.stop(0.05)
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(result, EngineStoppedError)

    run(check())


@pytest.mark.parametrize(
    ("model", "message", "starts"),
    [("missing", "^missing: there is no such model", 1), ("broken", "^KeyError: 'what'$", 1), ("dies", "SIGKILL", 2)],
)
def test_a_model_that_cannot_be_loaded_is_not_tried_at_every_request(
    tmp_path: Path,
    model: str,
    message: str,
    starts: int,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def check() -> None:
        async with station(tmp_path, model=model) as made:
            with pytest.raises(ModelNotLoadedError, match=message) as first:
                await made.run(Return(), None)
            assert first.value.retry_after == 5
            assert (made.state, made.pid) == ("failed", None)
            assert caplog.messages == [f"the model can't be loaded: {first.value}"]
            for _ in range(3):
                with pytest.raises(ModelNotLoadedError, match=message):
                    await made.run(Return(), None)
            assert (tmp_path / "starts").read_text().count("start") == starts
            made._retry_at = 0.0  # the time has come
            with pytest.raises(ModelNotLoadedError) as again:
                await made.run(Return(), None)
            assert again.value.retry_after == 10

    run(check())
    assert ("Traceback" in capfd.readouterr().err) == (model == "broken")


def test_a_process_that_is_killed_while_it_starts_is_started_again(tmp_path: Path) -> None:
    async def check() -> None:
        async with station(tmp_path, model="dies once") as made:
            assert await made.run(Return(value=1), None) == 1
            assert made.error == ""

    run(check())


def test_loading_in_advance_waits_for_nothing_and_raises_nothing(tmp_path: Path) -> None:
    async def check() -> None:
        async with station(tmp_path, model="missing") as made:
            made.load_soon()
            assert made.state == "unloaded"
            await until(lambda: made.state == "failed")
            assert "no such model" in made.error

    run(check())


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_decoder_that_dies_is_replaced_and_the_video_read_once_more(tmp_path: Path, times: int) -> None:
    async def check() -> None:
        metrics = Metrics()
        async with station(tmp_path, metrics=metrics) as made:
            if times < 2:
                assert await made.run(Crash(times=times), None) == "read"
            else:
                with pytest.raises(DecoderCrashError, match=r"^mine\.mp4: mine\.mp4 crashed the decoder$"):
                    await made.run(Crash(times=times), None)
            assert value_of(metrics, "decoder_crashes_total") == times
            assert value_of(metrics, "videos_decoded_total") == 1

    run(check())


_SERVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from engine_fakes import Pid, Wait, station

async def serve():
    async with station(Path(sys.argv[1])) as made:
        print(await made.run(Pid(), None), flush=True)
        await made.run(Wait(until=Path("/never"), deaf=True), None)

asyncio.run(serve())
"""


def test_no_process_outlives_a_killed_server(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SERVER, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        server.send_signal(signal.SIGKILL)
        server.wait()
    end = time.monotonic() + 60
    while time.monotonic() < end and _runs(pid):
        time.sleep(0.01)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            return not Path("/proc/self").exists()
        return False
