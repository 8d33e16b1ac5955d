"""Measure classification under other load, with OpenMP threads that spin or sleep while they wait.

`python benchmarks/busy.py` prints a table and writes benchmarks/busy.json. The pipeline and its decoding process
classify short clips on one and on two cores, alone and beside one busy loop per core. Each setting has its own
process, which runs until the end. The processes take turns, and the medians of the rounds are compared. B/32 has
random weights, which cost as much as trained ones.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPIN, SLEEP = "spin", "sleep"


def child(model: str, clip: str, clips: int, threads: int) -> None:
    """Classify the clip after each line of the input, and print the seconds."""
    import torch

    import openxclip
    from openxclip.pipeline import VideoPipeline

    torch.set_num_threads(threads)
    pipeline = VideoPipeline.from_pretrained(model, device="cpu")
    labels = [f"number {i}" for i in range(20)]
    openxclip.classify([clip] * 4, labels, model=pipeline)
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        results = openxclip.classify([clip] * clips, labels, model=pipeline)
        print(time.perf_counter() - began, flush=True)
        assert not any(result.error for result in results)


@contextlib.contextmanager
def started(command: list[str], cores: set[int], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command on these cores for the duration of the block."""
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    process = subprocess.Popen(
        ["taskset", "-c", ",".join(map(str, sorted(cores))), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**env, **variables},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def measure(model: str, clip: str, clips: int, cores: set[int], *, busy: bool, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each setting of threads and waiting."""
    settings = [(SPIN, len(cores)), (SLEEP, len(cores))] + [(SLEEP, 1)] * (len(cores) > 1)
    with contextlib.ExitStack() as stack:
        children = []
        for policy, threads in settings:
            command = [sys.executable, __file__, "--child", model, clip, str(clips), str(threads)]
            variables = {"OMP_WAIT_POLICY": "PASSIVE"} if policy == SLEEP else {}
            process = stack.enter_context(started(command, cores, **variables))
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit(f"failed: {command}")
            children.append(process)
        for core in cores if busy else ():
            stack.enter_context(started([sys.executable, "-c", "while True: pass"], {core}))
        taken: list[list[float]] = [[] for _ in settings]
        for _ in range(rounds):
            for process, seconds in zip(children, taken, strict=True):
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                seconds.append(float(process.stdout.readline()))
    medians = [statistics.median(seconds) for seconds in taken]
    return [
        {
            "model": Path(model).name,
            "clips": clips,
            "cores": len(cores),
            "beside": f"{len(cores)} busy loops" if busy else "nothing",
            "threads": threads,
            "waiting": policy,
            "seconds": round(median, 3),
            "ratio to spin": round(median / medians[0], 2),
        }
        for (policy, threads), median in zip(settings, medians, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--clips", type=int, nargs=2, default=(40, 8), help="clips per round for mini and for B/32; 0 skips a model"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        model, clip, clips, threads = arguments.child
        child(model, clip, int(clips), int(threads))
        return
    from openxclip import XCLIPConfig, XCLIPModel, XCLIPProcessor
    from openxclip.benchmarking.measuring import cpu_name

    everywhere = sorted(os.sched_getaffinity(0))[:2]
    rows: list[dict[str, Any]] = []
    print(f"{'model':>6} {'cores':>5} {'beside':>12} {'threads':>7} {'waiting':>7} {'seconds':>8} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "B32")
        XCLIPModel(XCLIPConfig()).save_pretrained(base)
        XCLIPProcessor.from_pretrained("mini").tokenizer.save_pretrained(base)
        XCLIPProcessor().save_pretrained(base)
        clip = str(sorted(Path(__file__).parent.parent.joinpath("samples").glob("*.mp4"))[0])
        for model, clips in (("mini", arguments.clips[0]), (str(base), arguments.clips[1])):
            if not clips:
                continue
            for cores in ({*everywhere}, {everywhere[0]}):
                for busy in (False, True):
                    for row in measure(model, clip, clips, cores, busy=busy, rounds=arguments.rounds):
                        rows.append(row)
                        print(
                            f"{row['model']:>6} {row['cores']:>5} {row['beside']:>12} {row['threads']:>7}"
                            f" {row['waiting']:>7} {row['seconds']:>8.2f} {row['ratio to spin']:>6.2f}",
                            flush=True,
                        )
    about = {"cpu": cpu_name(), "python": platform.python_version(), "rounds": arguments.rounds}
    arguments.output.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
