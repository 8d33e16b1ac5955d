"""Measure decoding and preprocessing with openxclip, with transformers as documented, and with torchcodec.

`python benchmarks/decoding.py` prints a table and writes benchmarks/decoding.json. Each method reads 8 frames of an
H.264 clip of 10 s at 30 fps with B-frames and a key frame every 250 frames, generated from FFmpeg's test picture.
Frames are sampled from the first to the last (numpy's linspace, as in transformers' documentation) and at the
midpoints of equal segments (as `read_clip` does). The documented method decodes all frames up to the last sampled
frame with PyAV, which are fewer for midpoints. The script checks that both methods return the same frames.

The methods run in turns, and their medians are compared. Processing has 2 threads, and decoding each method's default
number. torchcodec is measured if it is installed: with openxclip's processor, approximate seeking and 2 threads, its
fastest settings here.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from processor import MEAN, STD, write_report
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from openxclip.benchmarking.measuring import Rounds, medians
from openxclip.benchmarking.videos import FPS, FRAMES, SECONDS, SIZES, decode_as_documented, decode_here, make_clip
from openxclip.processing import VideoProcessor
from openxclip.video import sample_uniform


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each method")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    theirs: Any = VideoMAEImageProcessorPil(image_mean=MEAN, image_std=STD)
    ours = VideoProcessor(image_mean=MEAN, image_std=STD)
    total = SECONDS * FPS
    spreads = {
        "ends": np.linspace(0, total - 1, FRAMES).round().astype(int).tolist(),
        "midpoints": sample_uniform(total=total, num_frames=FRAMES),
    }
    torchcodec = torchcodec_reader()
    rows = []
    head = f"{'clip':>10} {'frames':>10} {'transformers':>13}"
    print(head + f" {'openxclip':>13} {'ratio':>6} {'torchcodec':>13} {'ratio':>6}")
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clip.mp4")
            make_clip(path, width, height)
            for spread, indices in spreads.items():
                if not np.array_equal(decode_as_documented(path, indices), decode_here(path, indices).numpy()):
                    raise SystemExit("the frames differ")
                readers = {"openxclip": decode_here} | ({"torchcodec": torchcodec} if torchcodec else {})
                methods: dict[str, Callable[[], Any]] = {
                    "transformers": lambda: theirs(list(decode_as_documented(path, indices)), return_tensors="pt")  # noqa: B023
                }
                for name, read in readers.items():
                    methods[name] = lambda read=read: ours(read(path, indices), return_tensors="pt")  # noqa: B023
                seconds = medians(methods, Rounds(arguments.rounds, longest=600)).seconds
                row: dict[str, Any] = {"clip": f"{width}x{height}", "frames": spread}
                for name, value in seconds.items():
                    row[f"{name}_ms"] = round(1e3 * value, 1)
                    row[f"{name}_ratio"] = round(value / seconds["transformers"], 2)
                rows.append(row)
                line = f"{row['clip']:>10} {spread:>10} {row['transformers_ms']:>10.1f} ms"
                for name in ("openxclip", "torchcodec"):
                    if name in seconds:
                        line += f" {row[f'{name}_ms']:>10.1f} ms {row[f'{name}_ratio']:>6.2f}"
                    else:
                        line += f" {'not installed':>13}"
                print(line, flush=True)
    write_report(arguments, rows, av=av.__version__)


def torchcodec_reader() -> Callable[[Path, list[int]], torch.Tensor] | None:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError):  # not installed, or the FFmpeg that it needs is missing
        return None

    def read(path: Path, indices: list[int]) -> torch.Tensor:
        decoder = VideoDecoder(str(path), seek_mode="approximate", num_ffmpeg_threads=2, dimension_order="NHWC")
        frames: torch.Tensor = decoder.get_frames_at(indices).data
        return frames

    return read


if __name__ == "__main__":
    main()
