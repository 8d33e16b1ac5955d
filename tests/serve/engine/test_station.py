"""Tasks wait for a process, run in it, are cancelled, and outlive it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from engine_fakes import PATIENCE_S, run, station, until, value_of
from station_child import Crash, Die, Fail, Pid, Progress, Return, Texts, Wait, Warn

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

Ask = Callable[[Awaitable[Any]], Any]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Run coroutines of this module's tests in one event loop."""
    loop = asyncio.new_event_loop()
    yield lambda work: loop.run_until_complete(asyncio.wait_for(work, PATIENCE_S))
    loop.close()


@pytest.fixture(scope="module")
def shared_station(ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """A station whose process is started once, for tests that don't end it."""

    async def enter() -> Station:
        return await opened.__aenter__()

    async def leave() -> None:
        await opened.__aexit__(None, None, None)

    opened = station(tmp_path_factory.mktemp("station"))
    yield ask(enter())
    ask(leave())


@pytest.fixture
def made(shared_station: Station) -> Station:
    """The shared station, as new."""
    shared_station._metrics, shared_station._time_limit, shared_station._queue_size = Metrics(), PATIENCE_S, 4
    for lane in shared_station._lanes.values():
        lane.seconds = None
    return shared_station


async def stopped(running: Station, pid: int) -> None:
    """Wait until a process is gone; the station has collected its status."""
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            await asyncio.sleep(0.005)


def test_results_progress_notes_and_errors_come_back(ask: Ask, made: Station) -> None:
    async def check() -> None:
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
        assert value_of(made._metrics, "model_seconds_count", task="return") == 1

    ask(check())


def test_errors_name_the_video_as_the_client_does(ask: Ask, made: Station) -> None:
    async def check() -> None:
        upload = Path("/data/uploads/7")
        error = VideoError(str(upload), f"{upload}/x is damaged")
        with pytest.raises(VideoError, match=r"^holiday\.mp4: holiday\.mp4/x is damaged$"):
            await made.run(Fail(error=error, path=upload, name="holiday.mp4"), None)
        invalid = ValueError(f"start=9: {upload} ends before, see /data/x")
        with pytest.raises(ValueError, match=r"^start=9: holiday\.mp4 ends before, see the data folder/x$"):
            await made.run(Fail(error=invalid, path=upload, name="holiday.mp4"), None)

    ask(check())


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


def test_a_client_that_leaves_frees_its_work(ask: Ask, made: Station, tmp_path: Path) -> None:
    async def check() -> None:
        pid = await made.run(Pid(), None)
        long = asyncio.ensure_future(made.run(Wait(until=tmp_path / "never"), None))
        queued = asyncio.ensure_future(made.run(Wait(until=tmp_path / "never"), None))
        after = asyncio.ensure_future(made.run(Pid(), None))
        await until(lambda: value_of(made._metrics, "running", lane="videos") == 1 and made.num_waiting == 2)
        queued.cancel()
        await until(lambda: made.num_waiting == 1)
        long.cancel()
        assert await after == pid  # the same process goes on
        assert value_of(made._metrics, "cancelled_total", lane="videos") == 2

    ask(check())


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


def test_a_task_past_the_time_limit_is_ended(ask: Ask, made: Station, tmp_path: Path) -> None:
    async def check() -> None:
        pid = await made.run(Pid(), None)
        made._time_limit = 0.05
        with pytest.raises(TimeoutError, match=r"longer than 0\.05 s\.$"):
            await made.run(Wait(until=tmp_path / "never"), None)
        made._time_limit = PATIENCE_S
        assert await made.run(Pid(), None) == pid
        assert value_of(made._metrics, "timeouts_total", lane="videos") == 1

    ask(check())


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(ask: Ask, made: Station, tmp_path: Path) -> None:
    async def check() -> None:
        made._queue_size = 2
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

    ask(check())


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
    [
        ("missing", "^missing: there is no such model", 1),
        ("broken", "^KeyError: 'what'$", 1),
        pytest.param("dies", "SIGKILL", 2, marks=pytest.mark.slow),
    ],
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
            made.load_soon()  # waits for nothing and raises nothing
            assert made.state == "unloaded"
            await until(lambda: made.state == "failed")
            assert made.pid is None
            assert caplog.messages == [f"the model can't be loaded: {made.error}"]
            for _ in range(3):
                with pytest.raises(ModelNotLoadedError, match=message) as first:
                    await made.run(Return(), None)
                assert 1 <= first.value.retry_after <= 5
            assert (tmp_path / "starts").read_text().count("start") == starts
            made._retry_at = 0.0  # the time has come
            with pytest.raises(ModelNotLoadedError) as again:
                await made.run(Return(), None)
            assert again.value.retry_after == 10

    run(check())
    assert ("Traceback" in capfd.readouterr().err) == (model == "broken")


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_starts_is_started_again(tmp_path: Path) -> None:
    async def check() -> None:
        async with station(tmp_path, model="dies once") as made:
            assert await made.run(Return(value=1), None) == 1
            assert made.error == ""

    run(check())


def test_what_concerns_only_some_tasks_is_logged_and_the_others_are_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        async with station(tmp_path, model="wrong index") as made:
            assert await made.run(Return(value=1), None) == 1
            await until(lambda: made.problem)
            assert (made.state, made.problem) == ("ready", "the index is another model's.")
            assert caplog.messages == ["the index is another model's."]

    run(check())


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_decoder_that_dies_is_replaced_and_the_video_read_once_more(ask: Ask, made: Station, times: int) -> None:
    async def check() -> None:
        if times < 2:
            assert await made.run(Crash(times=times), None) == "read"
        else:
            with pytest.raises(DecoderCrashError, match=r"^mine\.mp4: mine\.mp4 crashed the decoder$"):
                await made.run(Crash(times=times), None)
        assert value_of(made._metrics, "decoder_crashes_total") == times
        assert value_of(made._metrics, "videos_decoded_total") == 1

    ask(check())


_SERVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from engine_fakes import station
from station_child import Pid, Wait

async def serve():
    async with station(Path(sys.argv[1])) as made:
        print(await made.run(Pid(), None), flush=True)
        await made.run(Wait(until=Path("/never"), deaf=True), None)

asyncio.run(serve())
"""


@pytest.mark.slow
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
