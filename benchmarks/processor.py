"""Measure preprocessing of frames to pixel values with openxclip and with transformers.

`python benchmarks/processor.py` prints a table and writes benchmarks/processor.json. A video has 8 frames of noise, as
a list of arrays (H, W, 3) of uint8, which is what transformers' documentation passes. Both processors run in turns
with 2 threads, and their medians are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

import openxclip
from openxclip.benchmarking.measuring import Rounds, cpu_name, medians
from openxclip.benchmarking.videos import SIZES
from openxclip.processing import VideoProcessor

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each processor")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    theirs = VideoMAEImageProcessorPil(image_mean=MEAN, image_std=STD)
    ours = VideoProcessor(image_mean=MEAN, image_std=STD)
    rows = []
    print(f"{'frames':>14} {'transformers':>13} {'openxclip':>10} {'ratio':>6} {'level difference':>17}")
    for width, height in SIZES:
        frames = list(np.random.default_rng(0).integers(0, 256, (8, height, width, 3), dtype=np.uint8))
        methods = {
            "transformers": partial(theirs, frames, return_tensors="pt"),
            "openxclip": partial(ours, frames, return_tensors="pt"),
        }
        seconds = medians(methods, Rounds(arguments.rounds, longest=600)).seconds
        row = {
            "frames": f"8 x {width}x{height}",
            "transformers_ms": round(1e3 * seconds["transformers"], 2),
            "openxclip_ms": round(1e3 * seconds["openxclip"], 2),
            "ratio": round(seconds["transformers"] / seconds["openxclip"], 2),
            "max_level_difference": level_difference(theirs, ours, frames),
        }
        rows.append(row)
        print(
            f"{row['frames']:>14} {row['transformers_ms']:>10.1f} ms {row['openxclip_ms']:>7.1f} ms "
            f"{row['ratio']:>5.1f}x {row['max_level_difference']:>17.3f}"
        )
    write_report(arguments, rows)


def write_report(arguments: argparse.Namespace, rows: list[dict[str, Any]], **versions: str) -> None:
    """Write the rows and a description of the machine to `arguments.output`."""
    report = {
        "cpu": cpu_name(),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "versions": {
            "openxclip": openxclip.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            **versions,
            "python": platform.python_version(),
        },
        "results": rows,
    }
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{report['cpu']}, {arguments.threads} threads; written to {arguments.output}")


def level_difference(theirs: Any, ours: VideoProcessor, frames: list[np.ndarray]) -> float:
    """Return the largest difference of any value, in levels of 1/255 before normalisation."""
    difference = theirs(frames, return_tensors="pt")["pixel_values"] - ours(frames, return_tensors="pt")["pixel_values"]
    std = torch.tensor(STD).view(3, 1, 1)
    return round(float((difference * std * 255).abs().max()), 3)


if __name__ == "__main__":
    main()
