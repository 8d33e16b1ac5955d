"""The rows of `openxclip bench` in two source trees, alternating in one run.

Run `git worktree add --detach /tmp/old COMMIT && python benchmarks/commits.py --old /tmp/old/src`: prints a table and
writes benchmarks/commits.json. Each tree gets a process of its own, and the two processes answer in turn, in an order
that changes from round to round. Every fifth round starts with new processes, because two processes of the same code
can differ by some percent for as long as they live (memory layout). The ratio of a round is new over old; the table
shows the median of the ratios with its 95 % confidence interval (bootstrap). A row whose interval is wider than 3 % to
either side gets more rounds, up to 30. Both trees use the same environment, the same files and the same weights.
`--only TEXT` measures the rows whose names contain the text; `--old` and `--new` may name the same tree, which shows
the noise.
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
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SIZES = ((340, 256), (1280, 720), (1920, 1080))
SECONDS, FPS, FRAMES = 10, 30, 8
ROUNDS_OF_A_PROCESS = 5
MODEL = "base-patch32"
PRECISIONS = ("fp32", "bf16")
IN_PROCESS = (
    *(f"{how}, {width}x{height}" for width, height in SIZES for how in ("decode + preprocess", "read_clip")),
    "video, plain fp32",
    *(f"video, optimised {precision}" for precision in PRECISIONS),
    *(f"400 class names, cold, {precision}" for precision in PRECISIONS),
    *(f"next video, same 400 names, {precision}" for precision in PRECISIONS),
    *(f"prompts, 8 videos x 400, {precision}" for precision in PRECISIONS),
    "forward, 400 texts at 77, second call, fp32",
    *(f"training step, 2 videos, 400 texts, {precision}" for precision in PRECISIONS),
)
WHOLE = (
    "openxclip --help",
    "first result, one clip, 2 labels",
    *(f"classify 20 clips x 400 names, {precision}" for precision in PRECISIONS),
)

HELP = "from openxclip.cli.main import cli; cli(['--help'], standalone_mode=False)"
CLASSIFY = """
import sys, torch, openxclip
torch.set_num_threads(int(sys.argv[1]))
labels = open(sys.argv[3]).read().splitlines()
for result in openxclip.classify(sys.argv[5:], labels, model=sys.argv[2], precision=sys.argv[4]):
    assert result.error is None
"""


def decoding_call(row: str, folder: Path) -> Callable[[], Any]:
    """Return the call of a decoding row: 8 frames of a clip as pixel values."""
    from openxclip.processing import VideoProcessor
    from openxclip.video import VideoReader, read_clip

    process = VideoProcessor()
    path = folder / f"{row.split()[-1]}.mp4"
    indices = np.linspace(0, SECONDS * FPS - 1, FRAMES).round().astype(int).tolist()

    def with_reader() -> None:
        with VideoReader(path) as video:
            process(video.get_frames(indices).frames_THWC, return_tensors="pt")

    def with_read_clip() -> None:
        process(read_clip(path, num_frames=FRAMES).frames_THWC, return_tensors="pt")

    return with_read_clip if row.startswith("read_clip") else with_reader


def model_call(row: str) -> Callable[[], Any]:
    """Return the call of a row of the model; see openxclip/benchmarking/inference.py."""
    import torch

    from openxclip.benchmarking.inference import class_names, clips_for
    from openxclip.benchmarking.peers import random_model
    from openxclip.engine import optimize

    torch.manual_seed(0)
    model = random_model(MODEL)
    precision = row.split()[-1]
    if row.startswith("training"):
        ids, pixels, labels = class_names(), clips_for(model, 2), torch.tensor([3, 5])
        with torch.no_grad():
            text_KE = model.get_text_features(ids)
        for name, weight in model.named_parameters():
            weight.requires_grad_(not name.startswith("text_"))
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-8, fused=True)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = model(text_features=text_KE, pixel_values=pixels, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    def without_gradients(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> None:
            with torch.no_grad():
                call()

        return run

    pixels = clips_for(model, 1)
    if row.startswith("video, plain"):
        return without_gradients(partial(model.get_video_features, pixels))
    if row.startswith("400 class names"):
        cold = optimize(model, precision, verbose=False, texts_kept=0)
        return without_gradients(partial(cold.get_text_features, class_names()))
    fast = optimize(model, precision, verbose=False)
    if row.startswith("video, optimised"):
        return without_gradients(partial(fast.get_video_features, pixels))
    if row.startswith("prompts"):
        text_BKE = torch.randn(400, model.config.projection_dim).expand(8, -1, -1)
        return without_gradients(partial(fast._prompts, text_BKE, torch.randn(8, 49, model.config.projection_dim)))
    return without_gradients(partial(fast, class_names(padded=77 if "at 77" in row else None), pixels))


def answer_requests(row: str, threads: int, folder: Path) -> None:
    """Time the call of a row as often as each line of the input says; print wall and CPU seconds."""
    import torch

    torch.set_num_threads(threads)
    decodes = row.startswith(("decode", "read_clip"))
    call = decoding_call(row, folder) if decodes else model_call(row)
    call()
    call()
    print("ready", flush=True)
    for line in sys.stdin:
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            call()
        print(time.perf_counter() - began, time.process_time() - cpu, flush=True)


class Tree:
    """A process that imports openxclip from one source tree and times a row when asked."""

    def __init__(self, source: Path, row: str, threads: int, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--answer", row, "--threads", str(threads), "--folder", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(source),
            text=True,
        )
        self.answer()

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a measuring process ended; its error is above")
        return line

    def seconds(self, repeats: int) -> tuple[float, float]:
        """Wall and CPU seconds of `repeats` calls."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{repeats}\n")
        self.process.stdin.flush()
        wall, cpu = self.answer().split()
        return float(wall), float(cpu)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def environment(source: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def whole_seconds(source: Path, row: str, threads: int, folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a new process."""
    if row == "openxclip --help":
        arguments = [HELP]
    else:
        clips = [str(folder / "340x256.mp4")] * (1 if row.startswith("first") else 20)
        labels = str(folder / ("two.txt" if row.startswith("first") else "labels.txt"))
        precision = "fp32" if row.startswith("first") else row.split()[-1]
        arguments = [CLASSIFY, str(threads), str(folder / "model"), labels, precision, *clips]
    command = [sys.executable, "-W", "ignore", "-c", *arguments]
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, env=environment(source), stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % confidence interval of the median, by bootstrap."""
    drawn = np.random.default_rng(0).choice(ratios, (4000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


def measure(row: str, sources: tuple[Path, Path], folder: Path, least: int, most: int, threads: int) -> dict[str, Any]:
    """Measure a row in both trees until its interval is narrow enough or `most` rounds have run."""
    walls: tuple[list[float], list[float]] = ([], [])
    cpus: tuple[list[float], list[float]] = ([], [])
    trees: list[Tree] = []
    repeats = 1
    while True:
        if row in IN_PROCESS and len(walls[0]) % ROUNDS_OF_A_PROCESS == 0:
            for tree in trees:
                tree.close()
            trees = [Tree(source, row, threads, folder) for source in sources]
            repeats = max(1, round(0.5 / min(tree.seconds(1)[0] for tree in trees * 2)))
        for i in (0, 1) if len(walls[0]) % 2 else (1, 0):
            wall, cpu = trees[i].seconds(repeats) if trees else whole_seconds(sources[i], row, threads, folder)
            walls[i].append(wall / repeats)
            cpus[i].append(cpu / repeats)
        ratios = [new / old for old, new in zip(*walls, strict=True)]
        if len(ratios) < least:
            continue
        ratio, (low, high) = statistics.median(ratios), interval(ratios)
        if len(ratios) >= most or max(high - ratio, ratio - low) <= 0.03:
            break
    for tree in trees:
        tree.close()
    old, new = map(statistics.median, walls)
    cpu = statistics.median(n / o for o, n in zip(*cpus, strict=True))
    return {"row": row, "old": old, "new": new, "ratio": ratio, "low": low, "high": high, "cpu": cpu,
            "rounds": len(ratios)}  # fmt: skip


def make_files(folder: Path, rows: list[str]) -> None:
    from openxclip.benchmarking.peers import random_model
    from openxclip.benchmarking.processes import make_labels
    from openxclip.benchmarking.videos import make_clip
    from openxclip.processing import XCLIPProcessor

    for width, height in SIZES:
        make_clip(folder / f"{width}x{height}.mp4", width, height)
    if any(row in WHOLE for row in rows):
        random_model(MODEL).save_pretrained(folder / "model")
        XCLIPProcessor().save_pretrained(folder / "model")
        (folder / "labels.txt").write_text("\n".join(make_labels()), encoding="utf-8")
        (folder / "two.txt").write_text("\n".join(make_labels(2)), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent
    parser.add_argument("--old", type=Path, help="src folder of the older commit")
    parser.add_argument("--new", type=Path, default=here.parent / "src", help="src folder of the newer commit")
    parser.add_argument("--only", action="append", metavar="TEXT", help="rows whose names contain this")
    parser.add_argument("--rounds", type=int, default=9, help="least number of rounds")
    parser.add_argument("--most", type=int, default=30, help="most rounds of a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--answer", metavar="ROW", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        answer_requests(arguments.answer, arguments.threads, arguments.folder)
        return
    if arguments.old is None:
        parser.error("--old is required")

    import torch

    from openxclip.benchmarking.measuring import cpu_name
    from openxclip.engine.linears import can_pack

    rows = [row for row in IN_PROCESS + WHOLE if any(text in row for text in arguments.only or [""])]
    if not can_pack(torch.bfloat16):  # these rows would measure float32 again; training uses autocast
        rows = [row for row in rows if not row.endswith("bf16") or row.startswith("training")]
    about = {"cpu": cpu_name(), "threads": arguments.threads, "python": platform.python_version()}
    print(f"{'row':>44} {'old':>9} {'new':>9} {'ratio':>7} {'95 % interval':>15} {'CPU':>6} {'rounds':>7}")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), rows)
        for row in rows:
            result = measure(row, (arguments.old, arguments.new), Path(folder), arguments.rounds, arguments.most,
                             arguments.threads)  # fmt: skip
            spread = f"{result['low']:.3f} to {result['high']:.3f}"
            print(f"{row:>44} {result['old']:9.4f} {result['new']:9.4f} {result['ratio']:7.3f} {spread:>15} "
                  f"{result['cpu']:6.3f} {result['rounds']:7}", flush=True)  # fmt: skip
            results.append(result)
            arguments.output.write_text(json.dumps({**about, "rows": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
