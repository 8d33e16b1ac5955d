"""Time from a video file to pixel values: read_clip and VideoProcessor here, the documented way with transformers.

Run `python benchmarks/decoding.py`: prints a table and writes benchmarks/decoding.json. 8 frames (midpoints of equal
segments) of a 10 s, 30 fps H.264 clip with B-frames and a key frame in 250, made here of FFmpeg's test picture. The
documented way decodes all frames with PyAV as far as the last one wanted. Both get the same frames, which is checked;
they take turns and medians are compared; 2 threads for processing, and for decoding what each takes if left alone
(torchcodec: FFmpeg's own choice). Where torchcodec is installed it takes its turn too, with our
processor.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
import torch
import transformers
from processor import MEAN, SIZES, STD, cpu_name
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

import openxclip
from openxclip.processing import VideoProcessor
from openxclip.video import read_clip, sample_uniform

SECONDS, FPS, FRAMES = 10, 30, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each, in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    theirs = VideoMAEImageProcessorPil(image_mean=MEAN, image_std=STD)
    ours = VideoProcessor(image_mean=MEAN, image_std=STD)
    indices = sample_uniform(total=SECONDS * FPS, num_frames=FRAMES)
    torchcodec = torchcodec_reader()
    rows = []
    print(f"{'clip':>10} {'transformers':>13} {'openxclip':>13} {'ratio':>6} {'torchcodec':>13} {'ratio':>6}")
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clip.mp4")
            make_clip(path, width, height)
            if not np.array_equal(decode_all(path, indices), decode_ours(path).numpy()):
                raise SystemExit("the frames differ")
            ways: dict[str, Callable[[], Any]] = {
                "transformers": lambda p=path: theirs(list(decode_all(p, indices)), return_tensors="pt"),
                "openxclip": lambda p=path: ours(decode_ours(p), return_tensors="pt"),
            }
            if torchcodec:
                ways["torchcodec"] = lambda p=path: ours(torchcodec(p, indices), return_tensors="pt")
            seconds = medians(ways, rounds=arguments.rounds)
        row: dict[str, Any] = {"clip": f"{width}x{height}"}
        for name, value in seconds.items():
            row[f"{name}_ms"] = round(1e3 * value, 1)
            row[f"{name}_ratio"] = round(value / seconds["transformers"], 2)
        rows.append(row)
        line = f"{row['clip']:>10} {row['transformers_ms']:>10.1f} ms {row['openxclip_ms']:>10.1f} ms"
        line += f" {row['openxclip_ratio']:>6.2f}"
        if torchcodec:
            line += f" {row['torchcodec_ms']:>10.1f} ms {row['torchcodec_ratio']:>6.2f}"
        else:
            line += f" {'not installed':>13}"
        print(line)
    report = {
        "cpu": cpu_name(),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "versions": {
            "openxclip": openxclip.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "av": av.__version__,
            "python": platform.python_version(),
        },
        "results": rows,
    }
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{report['cpu']}, {arguments.threads} threads; written to {arguments.output}")


def make_clip(path: Path, width: int, height: int) -> None:
    """FFmpeg's moving test picture as H.264."""
    graph = av.filter.Graph()
    source = graph.add("testsrc2", f"size={width}x{height}:rate={FPS}:duration={SECONDS}")
    sink = graph.add("buffersink")
    source.link_to(sink)
    graph.configure()
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_type = "FRAME"  # one slice a picture, as FFmpeg's command writes; PyAV's usual is several
        stream.codec_context.gop_size = 250
        for _ in range(SECONDS * FPS):
            frame = graph.pull()
            frame.pict_type = 0
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def decode_all(path: Path, indices: list[int]) -> np.ndarray:
    """As transformers' documentation of X-CLIP reads a video."""
    frames = []
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i > indices[-1]:
                break
            if i >= indices[0] and i in indices:
                frames.append(frame)
        return np.stack([f.to_ndarray(format="rgb24") for f in frames])


def decode_ours(path: Path) -> torch.Tensor:
    return read_clip(path, num_frames=FRAMES).frames_THWC


def torchcodec_reader() -> Callable[[Path, list[int]], torch.Tensor] | None:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError):  # not installed, or without the FFmpeg that it needs
        return None

    def read(path: Path, indices: list[int]) -> torch.Tensor:
        decoder = VideoDecoder(str(path), num_ffmpeg_threads=0, dimension_order="NHWC")
        frames: torch.Tensor = decoder.get_frames_at(indices).data
        return frames

    return read


def medians(ways: dict[str, Callable[[], Any]], *, rounds: int) -> dict[str, float]:
    """Median seconds of each, measured in turns so that a busy machine slows all."""
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


if __name__ == "__main__":
    main()
