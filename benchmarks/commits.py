"""The decoding rows of `openxclip bench` in two source trees, alternating in one run.

Run `git worktree add /tmp/old COMMIT && python benchmarks/commits.py --old /tmp/old/src`: prints a table and writes
benchmarks/commits.json. Each tree gets a process of its own, which reads and preprocesses 8 frames when asked. The two
processes answer in turn, in an order that changes from round to round. The ratio of a round is new over old; the table
shows the median of the ratios with its 95 % confidence interval (bootstrap). A row whose interval is wider than 3 % to
either side gets more rounds, up to 30. Both trees use the same environment and the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from openxclip.benchmarking.measuring import cpu_name
from openxclip.benchmarking.videos import FPS, FRAMES, SECONDS, SIZES, make_clip

CHILD = """
import sys, time
import torch
torch.set_num_threads(int(sys.argv[1]))
from openxclip.processing import VideoProcessor
from openxclip.video import VideoReader, read_clip
process = VideoProcessor()
print("ready", flush=True)
for line in sys.stdin:
    kind, repeats, path, indices = line.rstrip("\\n").split("\\t")
    wanted = [int(i) for i in indices.split(",")]
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(int(repeats)):
        if kind == "bench":
            with VideoReader(path) as video:
                frames = video.get_frames(wanted).frames_THWC
        else:
            frames = read_clip(path, num_frames=len(wanted)).frames_THWC
        process(frames, return_tensors="pt")
    print(time.perf_counter() - began, time.process_time() - cpu, flush=True)
"""


class Tree:
    """A process that imports openxclip from one source tree and times one reading when asked."""

    def __init__(self, source: Path, threads: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.answer()

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a measuring process ended; its error is above")
        return line

    def seconds(self, kind: str, repeats: int, path: Path, indices: list[int]) -> tuple[float, float]:
        """Wall and CPU seconds of `repeats` readings."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{kind}\t{repeats}\t{path}\t{','.join(map(str, indices))}\n")
        self.process.stdin.flush()
        wall, cpu = self.answer().split()
        return float(wall), float(cpu)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % confidence interval of the median, by bootstrap."""
    drawn = np.random.default_rng(0).choice(ratios, (4000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent
    parser.add_argument("--old", type=Path, required=True, help="src folder of the older commit")
    parser.add_argument("--new", type=Path, default=here.parent / "src", help="src folder of the newer commit")
    parser.add_argument("--rounds", type=int, default=9, help="least number of rounds")
    parser.add_argument("--most", type=int, default=30, help="most rounds of a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()

    indices = np.linspace(0, SECONDS * FPS - 1, FRAMES).round().astype(int).tolist()
    trees = [Tree(arguments.old, arguments.threads), Tree(arguments.new, arguments.threads)]
    print(f"{'row':>28} {'old':>9} {'new':>9} {'ratio':>7} {'95 % interval':>15} {'CPU':>6} {'rounds':>7}")
    rows = []
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clip.mp4")
            make_clip(path, width, height)
            for kind in ("bench", "read_clip"):
                repeats = max(1, round(0.5 / min(tree.seconds(kind, 1, path, indices)[0] for tree in trees * 2)))
                walls: list[list[float]] = [[], []]
                cpus: list[list[float]] = [[], []]
                while True:
                    order = (0, 1) if len(walls[0]) % 2 else (1, 0)
                    for i in order:
                        wall, cpu = trees[i].seconds(kind, repeats, path, indices)
                        walls[i].append(wall / repeats)
                        cpus[i].append(cpu / repeats)
                    ratios = [new / old for old, new in zip(*walls, strict=True)]
                    if len(ratios) < arguments.rounds:
                        continue
                    ratio, (low, high) = statistics.median(ratios), interval(ratios)
                    if len(ratios) >= arguments.most or max(high - ratio, ratio - low) <= 0.03:
                        break
                old, new = map(statistics.median, walls)
                cpu = statistics.median(n / o for o, n in zip(*cpus, strict=True))
                name = f"{kind}, {width}x{height}"
                spread = f"{low:.3f} to {high:.3f}"
                print(
                    f"{name:>28} {old:9.4f} {new:9.4f} {ratio:7.3f} {spread:>15} {cpu:6.3f} {len(ratios):7}", flush=True
                )
                rows.append(
                    {
                        "row": name,
                        "old": old,
                        "new": new,
                        "ratio": ratio,
                        "low": low,
                        "high": high,
                        "cpu": cpu,
                        "rounds": len(ratios),
                    }
                )
    for tree in trees:
        tree.close()
    about = {"cpu": cpu_name(), "threads": arguments.threads, "python": platform.python_version()}
    arguments.output.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
