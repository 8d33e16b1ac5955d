"""Measure how fast timelines are, and how much memory they take, by the length of a 720p video.

`python benchmarks/timeline_speed.py --files FOLDER` prints tables and writes benchmarks/timeline_speed.json. It makes
H.264 videos of 1280 x 720 pixels, 30 frames a second, with noise and moving shapes, B-frames and a key frame in 250, in
the folder, and keeps them there. Each run is a process of its own; the runs alternate in every round.

- Speed: seconds of video for each second of a warm `openxclip.timeline`, for the exact default, `--decode nonref` and
  `key`, and for shots; beside it the speed of reading the windows' frames without the model.
- Memory: peak of the proportional set size (PSS) over the process and its children, less the value after the model was
  loaded and a short video was read.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

LABELS = ["a cat moves left", "a dog bounces", "an owl vanishes", "a rocket leaves"]
WIDTH, HEIGHT, FPS = 1280, 720, 30
RUNS = ("all", "nonref", "key", "sampled", "exact", "reading alone")


def make_video(path: Path, seconds: int) -> Path:
    """Write the video unless it is there; a minute of content is repeated."""
    import av
    import numpy as np

    if path.exists():
        return path
    minute = path.with_name("minute.mp4")
    if not minute.exists():
        random = np.random.default_rng(0)
        noise = random.integers(0, 24, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
        partial = minute.with_name("partial.mp4")
        with av.open(str(partial), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast", "g": "250"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            _, x = np.mgrid[:HEIGHT, :WIDTH]
            for i in range(60 * FPS):
                scene = i // 240
                colours = np.random.default_rng(scene).integers(40, 200, 3)
                picture = (noise[i % 4] + colours).astype(np.uint8)
                for k in range(6):
                    cx = (97 * k + 5 * i * (1 + k % 3)) % WIDTH
                    cy = (61 * k + 3 * i * (1 + k % 2)) % HEIGHT
                    picture[max(0, cy - 60) : cy + 60, max(0, cx - 60) : cx + 60] = 30 * k + 20
                picture[..., 2] = np.maximum(picture[..., 2], ((x + 2 * i) % 256 // 2).astype(np.uint8))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        partial.rename(minute)
    partial = path.with_name("partial.mp4")
    with av.open(str(partial), "w") as out:
        stream = None
        with av.open(str(minute)) as source:
            stream = out.add_stream_from_template(source.streams.video[0])
            base = source.streams.video[0].time_base
        for number in range(-(-seconds // 60)):
            offset = round(number * 60 / base)
            with av.open(str(minute)) as source:
                for packet in source.demux(video=0):
                    if packet.dts is None or packet.pts * base + number * 60 >= seconds:
                        continue
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = stream
                    out.mux(packet)
    partial.rename(path)
    return path


def pss(pid: int) -> int:
    """Return the proportional set size of a process and its descendants, in bytes."""
    total, pids = 0, [pid]
    for each in pids:
        try:
            for thread in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue  # it has ended
        total += int(rollup.split("Pss:")[1].split()[0]) * 1024
    return total


class Peak:
    """The peak of `pss` of this process while the block runs."""

    def __enter__(self) -> Peak:
        self.bytes, self._done = pss(os.getpid()), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.bytes = max(self.bytes, pss(os.getpid()))

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def child(run: str, path: Path, warm: Path, model: str, watch: bool) -> dict[str, float]:
    import torch

    import openxclip
    from openxclip import ClipPlan, ReadOptions

    torch.set_num_threads(2)
    pipeline = openxclip.VideoPipeline.from_pretrained(model, device="cpu")
    contract = pipeline.contract
    window, stride = contract.window or 10.0, contract.stride_seconds or 5.0
    options: dict[str, Any] = {"window": window, "stride": stride, "model": pipeline}
    if run in ("nonref", "key"):
        options["read"] = ReadOptions(decode=run)
    if run in ("sampled", "exact"):
        options["shots"] = run

    def work(video: Path) -> int:
        if run != "reading alone":
            return len(openxclip.timeline(video, LABELS, **options).starts)
        reader = pipeline._clip_reader(pipeline.complete_plan(ClipPlan(window=window, stride=stride)), None)
        with pipeline._workers.borrow(1) as (worker,):
            return sum(len(clips) for clips in reader.read_clips(worker, video))

    work(warm)
    before = pss(os.getpid())
    began = time.perf_counter()
    if watch:
        with Peak() as peak:
            windows = work(path)
        extra = {"memory_mb": (peak.bytes - before) / 1e6}
    else:
        windows, extra = work(path), {}
    return {"seconds": time.perf_counter() - began, "windows": windows, "window": window, "stride": stride, **extra}


def start(arguments: list[object]) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def b32(folder: Path) -> Path:
    """Write a B/32 with random weights, which takes as long as the released one."""
    if not (folder / "b32").exists():
        from openxclip import XCLIPConfig, XCLIPModel, XCLIPProcessor

        XCLIPModel(XCLIPConfig()).save_pretrained(folder / "b32")
        XCLIPProcessor.from_pretrained("mini").tokenizer.save_pretrained(folder / "b32")
        XCLIPProcessor().save_pretrained(folder / "b32")
    return folder / "b32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=5, metavar=("RUN", "VIDEO", "WARM", "MODEL", "WATCH"))
    parser.add_argument("--files", type=Path, help="folder for the videos; default is a temporary one")
    parser.add_argument("--minutes", type=float, default=3, help="length of the video for the speed")
    parser.add_argument("--lengths", type=float, nargs="*", default=[1, 10, 60], help="minutes, for the memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=["mini", "b32"])
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    if arguments.child:
        run, path, warm, model, watch = arguments.child
        print(json.dumps(child(run, Path(path), Path(warm), model, watch == "1")))
        return
    from openxclip.benchmarking.measuring import cpu_name

    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        warm = make_video(folder / "12s.mp4", 12)
        rows: list[dict[str, Any]] = []
        print(f"{'model':8}{'run':>16}{'x real time':>14}{'of the default':>16}")
        for name in arguments.models:
            model = str(b32(folder)) if name == "b32" else name
            seconds = round(60 * (arguments.minutes if name == "mini" else max(0.2, arguments.minutes / 3)))
            video = make_video(folder / f"{seconds}s.mp4", seconds)
            runs = RUNS if name == "mini" else ("all", "key", "reading alone")
            taken: dict[str, list[float]] = {run: [] for run in runs}
            for _ in range(arguments.rounds):
                for run in runs:
                    result = start([run, video, warm, model, 0])
                    taken[run].append(result["seconds"])
            for run, times in taken.items():
                ratio = statistics.median(a / b for a, b in zip(times, taken["all"], strict=True))
                speed = seconds / statistics.median(times)
                rows.append({"model": name, "run": run, "video_seconds": seconds, "seconds": times, "speed": speed,
                             "of_default": ratio, "window": result["window"], "stride": result["stride"]})  # fmt: skip
                print(f"{name:8}{run:>16}{speed:>14.2f}{ratio:>16.3f}", flush=True)
        memory: list[dict[str, Any]] = []
        if arguments.lengths:
            print(f"\n{'minutes':>8}{'memory above the model, MB':>30}")
        for minutes in arguments.lengths:
            seconds = round(60 * minutes)
            result = start(["all", make_video(folder / f"{seconds}s.mp4", seconds), warm, "mini", 1])
            memory.append({"minutes": minutes, **result, "speed": seconds / result["seconds"]})
            print(f"{minutes:>8g}{result['memory_mb']:>30.0f}", flush=True)
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": 2}
    arguments.json.write_text(json.dumps({"machine": machine, "speed": rows, "memory": memory}, indent=1) + "\n")


if __name__ == "__main__":
    main()
