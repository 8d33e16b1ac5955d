"""Estimate what it takes to index an archive of video: core-hours, GPU-hours, machines, bytes and money.

`python benchmarks/bulk_cost.py` prints the table of docs/bulk.md. The rates are measured (each has its source beside
it); the prices are examples: give your own by the options. Reading means decoding every frame of 1280 x 720 H.264 with
B-frames and resizing what the windows need. A core has two hardware threads, which most clouds call two vCPUs.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

# Hours of footage that a core reads in an hour (benchmarks/timeline_speed.json, 720p, "reading alone", busy content)
READ = 14.8
# Seconds of a core for a clip of 8 frames in float32 (docs/which-checkpoint.md, an Intel Xeon with AMX)
CORE_SECONDS = {"base-patch32": 0.26, "base-patch16": 1.39, "large-patch14": 5.61}
# Clips a second of an NVIDIA H200 in fp16 in batches of 64 (benchmarks/gpu.json)
GPU_CLIPS = {"base-patch32": 64 / 0.0149, "base-patch16": 64 / 0.0543, "large-patch14": 64 / 0.2213}
WIDTH = {"base-patch32": 512, "base-patch16": 512, "large-patch14": 768}
ROW = 100  # bytes of a window beside its embedding


@dataclass(frozen=True)
class Cost:
    """What a model costs for an archive."""

    model: str
    hours: float
    stride: float

    @property
    def windows(self) -> float:
        return self.hours * 3600 / self.stride

    @property
    def reading(self) -> float:
        """Core-hours of reading."""
        return self.hours / READ

    @property
    def on_cores(self) -> float:
        """Core-hours of the model without a GPU."""
        return self.windows * CORE_SECONDS[self.model] / 3600

    @property
    def on_gpus(self) -> float:
        """GPU-hours of the model."""
        return self.windows / GPU_CLIPS[self.model] / 3600

    @property
    def terabytes(self) -> float:
        """Size of the table of windows without patches."""
        return self.windows * (4 * WIDTH[self.model] + ROW) / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1e6, help="hours of footage")
    parser.add_argument("--stride", type=float, default=10.0, help="seconds from one window to the next")
    parser.add_argument("--days", type=float, default=7.0, help="days that the run may take")
    parser.add_argument("--core", type=float, default=0.05, help="price of a core-hour")
    parser.add_argument("--gpu", type=float, default=4.0, help="price of a GPU-hour")
    parser.add_argument("--terabyte", type=float, default=23.0, help="price of a TB in the object store for a month")
    parser.add_argument("--megabits", type=float, default=2.5, help="Mbit/s of the footage, for the network")
    options = parser.parse_args()
    wall = options.days * 24
    columns = (
        "model", "windows", "reading, core-hours", "model, core-hours", "or GPU-hours", "cores that keep a GPU busy",
        f"cores for {options.days:g} days", "or cores and GPUs", "index", "price on cores", "or with GPUs",
        "store, a month",
    )  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}")
    for model in CORE_SECONDS:
        cost = Cost(model, options.hours, options.stride)
        on_cores = cost.reading + cost.on_cores
        with_gpus = cost.reading * options.core + cost.on_gpus * options.gpu
        print(
            f"| {model} | {cost.windows:,.0f} | {cost.reading:,.0f} | {cost.on_cores:,.0f} | {cost.on_gpus:,.0f} | "
            f"{cost.reading / cost.on_gpus:,.0f} | {on_cores / wall:,.0f} | "
            f"{cost.reading / wall:,.0f} and {math.ceil(cost.on_gpus / wall)} | {cost.terabytes:.2f} TB | "
            f"{on_cores * options.core:,.0f} | {with_gpus:,.0f} | {cost.terabytes * options.terabyte:,.0f} |"
        )
    network = options.hours * 3600 * options.megabits / 8 / 1e6
    speed = network * 8e3 / wall / 3600
    print(f"\nFootage of {options.megabits:g} Mbit/s: {network:,.0f} TB are fetched, {speed:,.1f} Gbit/s in all.")


if __name__ == "__main__":
    main()
