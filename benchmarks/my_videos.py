"""Measure `openxclip train my-videos` on three actions that mini was never trained on.

    python benchmarks/my_videos.py [--work DIR] [--threads 2]

A thing rolls along (moves and turns), climbs stairs, or draws a triangle. The playground has none of these actions,
nor mini's training texts their names. There are 8 clips of each action for training and 16 for evaluation. The recipe
trains mini, and the same architecture with random weights. Accuracy, time and the share of time spent waiting for data
are printed.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path

import torch

from openxclip import XCLIPModel, XCLIPProcessor
from openxclip.evaluation import evaluate_recipe
from openxclip.playground.export import export_clip
from openxclip.playground.motion import States
from openxclip.playground.rendering import crop_middle, draw_backgrounds, paint
from openxclip.playground.world import SEEN_THINGS
from openxclip.training import train
from openxclip.training.log import read_log

ACTIONS = ("rolls along", "climbs stairs", "draws a triangle")
FRAMES, SIZE = 24, 96


def path_of(action: str, t: torch.Tensor, draw: torch.Generator) -> States:
    """Draw an instance of the action: states at times from 0 to 1."""
    low, high, side = (float(torch.rand((), generator=draw)) for _ in range(3))
    size, sign = 0.28 + 0.12 * low, 1.0 if side < 0.5 else -1.0
    still = torch.zeros_like(t)
    x, y, angle = still.clone(), still.clone(), still.clone()
    if action == "rolls along":
        x, y = sign * (1.3 * t - 0.65), still + 0.5 * high
        angle = sign * 2 * math.pi * (1 + high) * t
    elif action == "climbs stairs":
        steps = (t * 4).floor() / 4
        rest = 4 * t - (4 * t).floor()
        x = sign * (1.2 * (steps + (2 * rest - 1).clamp(0, 1) / 4) - 0.6)
        y = 0.6 - 1.2 * (steps + (2 * rest).clamp(0, 1) / 4)
    else:
        corners = torch.tensor([[0.0, -0.5], [0.55, 0.45], [-0.55, 0.45], [0.0, -0.5]]) * (0.7 + 0.3 * high)
        leg = (3 * t).clamp(max=2.999).long()
        part = (3 * t - leg)[:, None]
        place = corners[leg] * (1 - part) + corners[leg + 1] * part
        x, y = sign * place[:, 0], place[:, 1]
    return States(x, y, still + size, angle, still + 1, still + 1)


def write_clips(folder: Path, number: int, seed: int) -> None:
    """Write `number` clips of each action into a folder per action."""
    draw = torch.Generator().manual_seed(seed)
    t = torch.linspace(0, 1, FRAMES)
    for action in ACTIONS:
        (folder / action).mkdir(parents=True)
        for i in range(number):
            background = crop_middle(draw_backgrounds(1, SIZE, draw), SIZE)
            frames = background[:, None].expand(1, FRAMES, -1, -1, -1).clone()
            states = path_of(action, t, draw)
            thing = torch.randint(len(SEEN_THINGS), (1,), generator=draw)
            paint(frames, thing, states.map(lambda values: values[None]), torch.tensor([0]), torch.zeros(1, 3))
            export_clip((frames[0] * 255).round().clamp(0, 255).byte(), folder / action / f"{i}.mp4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for clips and models")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("changes", nargs="*", help="key=value to change the recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work or Path(tempfile.mkdtemp())
    if not (work / "train").exists():
        write_clips(work / "train", 8, seed=1)
        write_clips(work / "test", 16, seed=2)
    model = XCLIPModel.from_pretrained("mini")
    torch.manual_seed(0)
    random = XCLIPModel(model.config)
    random.save_pretrained(work / "random")
    XCLIPProcessor.from_pretrained("mini").save_pretrained(work / "random")
    rows = []
    for name, start in (("mini", "mini"), ("random weights", str(work / "random"))):
        out = work / f"from {name}, {time.time():.0f}"
        began = time.monotonic()
        train("my-videos", f"model={start}", f"data={work / 'train'}", "hold_out=0", "eval_every=0",
              *arguments.changes, out=out, say=lambda text: None)  # fmt: skip
        seconds = time.monotonic() - began
        results = evaluate_recipe("my-videos", f"data={work / 'test'}", "hold_out=0", model=out)
        steps = [line for line in read_log(out / "training") if line["kind"] == "step"]
        spent = sum(line["seconds"] for line in steps)
        rows.append({
            "start": name, "accuracy": results.metrics["top1"], "videos": len(results.predictions), "seconds": seconds,
            "clips_per_second": sum(line["clips"] for line in steps) / spent,
            "waited": sum(line["waited"] for line in steps) / spent, "first loss": steps[0]["loss"],
            "last loss": steps[-1]["loss"],
        })  # fmt: skip
        row = rows[-1]
        print(
            f"from {name}: {100 * row['accuracy']:.1f} % of {row['videos']} held-out clips right, {seconds:.0f} s, "
            f"{row['clips_per_second']:.1f} clips/s, {100 * row['waited']:.0f} % waiting for data, loss "
            f"{row['first loss']:.2f} to {row['last loss']:.2f}", flush=True,
        )  # fmt: skip
    Path(__file__).with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
