"""Reading a thousand broken files ends in time, with frames or exactly one VideoError, and without growing memory.

OPENXCLIP_FUZZ_SEED makes other files of the same kinds, OPENXCLIP_FUZZ_COUNT more of them. A file that failed is kept
in `regressions/` (under 20 KB each) and read in every run.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from mutations import intact_files, mutant

from openxclip.errors import VideoError
from openxclip.video import ClipPlan, DecodeWorker, Limits, ReadOptions, VideoReader

# damage can make a second track, which causes a warning
pytestmark = pytest.mark.filterwarnings("ignore::openxclip.video.assumptions.AssumptionWarning")

SEED = int(os.environ.get("OPENXCLIP_FUZZ_SEED", "20260"))
COUNT = int(os.environ.get("OPENXCLIP_FUZZ_COUNT", "1000"))
LIMITS = Limits(seconds=8, pixels=1 << 22, frames=10_000, memory=64 << 20)
SLOW_FILES = {"many_samples_claimed.mp4"}  # reading it takes seconds, until a limit ends it
REGRESSIONS = sorted((Path(__file__).parent / "regressions").iterdir())
MB = 1 << 20


def memory(pid: int | str, what: str) -> int:
    """Return the memory of a process in bytes, present (VmRSS) or peak (VmHWM); 0 if the system doesn't tell."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def outcome(worker: DecodeWorker, source: bytes | Path) -> str:
    """Return "frames" or the reason of the VideoError; anything else fails."""
    try:
        (frames,) = worker.read_clips(source, ClipPlan(num_frames=4), read=ReadOptions(limits=LIMITS))
    except VideoError as error:
        assert error.source, error  # noqa: PT017 (frames are fine, too)
        assert "\n" not in error.reason, error  # noqa: PT017
        return error.reason
    assert frames.frames_THWC.shape[0] == len(frames.times_T) == len(frames.indices) == 4
    assert frames.frames_THWC.shape[3] == 3
    return "frames"


def test_broken_files_end_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = intact_files()
    before = memory("self", "VmRSS")
    lock = threading.Lock()
    outcomes: dict[str, str] = {}
    slowest, largest = 0.0, 0

    def run(part: int, parts: int) -> None:
        nonlocal slowest, largest
        with DecodeWorker() as worker:
            for number in range(part, COUNT, parts):
                name, data = mutant(number, seed=SEED, files=files)
                source: bytes | Path = data
                if number % 3:
                    source = tmp_path / name
                    source.write_bytes(data)
                started = time.monotonic()
                result = outcome(worker, source)
                took = time.monotonic() - started
                child = worker._child
                size = memory(child._process.pid, "VmHWM") if child is not None else 0
                with lock:
                    outcomes[name] = result
                    slowest, largest = max(slowest, took), max(largest, size)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run, part, 2) for part in range(2)]:
            done.result()

    crashed = [name for name, result in outcomes.items() if "crashed the decoder" in result]
    unexpected = [f"{name}: {result}" for name, result in outcomes.items() if "reading it failed with" in result]
    with capsys.disabled():
        print(f" seed {SEED}: slowest {slowest:.1f} s, largest {largest // MB} MB", end=" ")
        if crashed:
            print(f"\nthe decoder crashed over {crashed}")
    assert unexpected == []
    assert len(outcomes) == COUNT
    assert COUNT * 0.1 < sum(result == "frames" for result in outcomes.values()) < COUNT * 0.9
    assert slowest < LIMITS.seconds + 10  # type: ignore[operator]
    assert largest < 1024 * MB
    assert memory("self", "VmRSS") - before < 200 * MB


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.name in SLOW_FILES), id=path.name) for path in REGRESSIONS],
)
def test_files_that_failed_before(path: Path) -> None:
    assert path.stat().st_size <= 20_000
    limits = replace(LIMITS, seconds=1)
    with DecodeWorker() as worker:
        result = outcome(worker, path)
        report = worker.inspect(path, full=True, read=ReadOptions(limits=limits))
    assert "reading it failed with" not in result
    assert report.error is None or "reading it failed with" not in report.error.reason
    if "crash" not in path.name:
        try:
            with VideoReader(path, read=ReadOptions(limits=limits)) as reader:  # in this process
                reader.get_frames([0, reader.num_frames - 1])
        except VideoError as error:
            assert "reading it failed with" not in error.reason  # noqa: PT017


def test_the_same_number_makes_the_same_file() -> None:
    files = intact_files()
    assert mutant(5, seed=1, files=files) == mutant(5, seed=1, files=files)
    assert mutant(5, seed=1, files=files) != mutant(5, seed=2, files=files)
