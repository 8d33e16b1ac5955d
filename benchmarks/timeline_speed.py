"""Measure how fast timelines are, and how much memory they take, by the length of a 720p video.

`python benchmarks/timeline_speed.py --files FOLDER` prints tables and writes benchmarks/timeline_speed.json. It makes
H.264 videos of 1280 x 720 pixels, 30 frames a second, without cuts and with a key frame in 250, in the folder, and
keeps them there: "calm" is a still camera (1.1 Mbit/s, P-frames alone), "busy" a moving one with grain (2.3 Mbit/s,
mostly B-frames). Moving shapes are in both. Each run is a process of its own; the runs alternate in every round.

- Speed: seconds of video for each second of a warm `openxclip.timeline`, for the exact default, `--decode nonref` and
  `key`, and for shots. Beside it: reading the windows' frames without the model; decoding every frame with FFmpeg by
  two threads, without converting them; and the model alone, without a video.
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
KINDS = ("calm", "busy")
RUNS = ("all", "nonref", "key", "sampled", "exact", "reading alone", "FFmpeg alone", "model alone")


def picture(number: int, kind: str, still: Any, grain: Any) -> Any:
    """Return a frame, uint8 RGB of shape (H, W, 3)."""
    import numpy as np

    if kind == "calm":
        frame = (grain[number % 4] + np.array([90, 120, 70])).astype(np.uint8)
    else:
        y, x = number % (still.shape[0] - HEIGHT), 3 * number % (still.shape[1] - WIDTH)
        moved = still[y : y + HEIGHT, x : x + WIDTH] + np.random.default_rng(number).normal(0, 3, (HEIGHT, WIDTH))
        frame = np.clip(moved[..., None] + np.array([90, 120, 70]), 0, 255).astype(np.uint8)
    for k in range(6):
        x, y = (97 * k + 5 * number * (1 + k % 3)) % WIDTH, (61 * k + 3 * number * (1 + k % 2)) % HEIGHT
        frame[max(0, y - 60) : y + 60, max(0, x - 60) : x + 60] = 30 * k + 20
    frame[..., 2] = np.maximum(frame[..., 2], ((np.arange(WIDTH) + 2 * number) % 256 // 2).astype(np.uint8))
    return frame


def make_minute(path: Path, kind: str) -> Path:
    """Write a minute of content without cuts, unless it is there."""
    import av
    import numpy as np

    if path.exists():
        return path
    random = np.random.default_rng(0)
    grain = random.integers(0, 24, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    still = random.normal(0, 10, (HEIGHT + 400, WIDTH + 400))
    partial = path.with_name("partial.mp4")
    with av.open(str(partial), "w") as container:
        options = {"crf": "23", "preset": "veryfast" if kind == "calm" else "medium", "g": "250"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(60 * FPS):
            frame = av.VideoFrame.from_ndarray(picture(number, kind, still, grain), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    partial.rename(path)
    return path


def make_video(folder: Path, seconds: int, kind: str = "calm") -> Path:
    """Write a video of a minute's content over and over, unless it is there."""
    import av

    path = folder / f"{kind}-{seconds}s.mp4"
    if path.exists():
        return path
    minute = make_minute(folder / f"{kind}-minute.mp4", kind)
    partial = path.with_name("partial.mp4")
    with av.open(str(partial), "w") as out:
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


def decode(video: Path) -> int:
    """Decode every frame by two threads, without converting any; return their number."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", 2
        return sum(1 for _ in container.decode(stream))


def encode(pipeline: Any, count: int) -> int:
    """Run the model for so many windows, whose levels are random."""
    import torch

    vision = pipeline.model.config.vision_config
    levels = torch.randint(0, 256, (vision.num_frames, 3, vision.image_size, vision.image_size), dtype=torch.uint8)
    with torch.inference_mode():
        for _ in range(count):
            pipeline._encode([levels])
    return count


def path_seconds(video: Path) -> int:
    return int(video.stem.rsplit("-", 1)[1][:-1])


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
        if run == "FFmpeg alone":
            return decode(video)
        if run == "model alone":
            return encode(pipeline, round(path_seconds(video) / stride))
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
        warm = make_video(folder, 12)
        rows: list[dict[str, Any]] = []
        print(f"{'model':8}{'content':>8}{'run':>16}{'x real time':>14}{'of the default':>16}")
        for name, kind in [(name, kind) for name in arguments.models for kind in KINDS]:
            model = str(b32(folder)) if name == "b32" else name
            seconds = round(60 * (arguments.minutes if name == "mini" else max(0.2, arguments.minutes / 3)))
            video = make_video(folder, seconds, kind)
            runs = RUNS if name == "mini" else ("all", "key", "reading alone", "model alone")
            taken: dict[str, list[float]] = {run: [] for run in runs}
            for _ in range(arguments.rounds):
                for run in runs:
                    result = start([run, video, warm, model, 0])
                    taken[run].append(result["seconds"])
            for run, times in taken.items():
                ratio = statistics.median(a / b for a, b in zip(times, taken["all"], strict=True))
                speed = seconds / statistics.median(times)
                row = {"model": name, "content": kind, "run": run, "video_seconds": seconds, "seconds": times}
                row |= {"speed": speed, "of_default": ratio, "window": result["window"], "stride": result["stride"]}
                rows.append(row)
                print(f"{name:8}{kind:>8}{run:>16}{speed:>14.2f}{ratio:>16.3f}", flush=True)
        memory: list[dict[str, Any]] = []
        if arguments.lengths:
            print(f"\n{'minutes':>8}{'memory above the model, MB':>30}")
        for minutes in arguments.lengths:
            seconds = round(60 * minutes)
            result = start(["all", make_video(folder, seconds), warm, "mini", 1])
            memory.append({"minutes": minutes, **result, "speed": seconds / result["seconds"]})
            print(f"{minutes:>8g}{result['memory_mb']:>30.0f}", flush=True)
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": 2}
    arguments.json.write_text(json.dumps({"machine": machine, "speed": rows, "memory": memory}, indent=1) + "\n")


if __name__ == "__main__":
    main()
