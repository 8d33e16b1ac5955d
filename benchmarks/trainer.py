"""transformers' Trainer runs the recipe my-videos, beside `openxclip train`, on the clips of my_videos.py.

    python benchmarks/trainer.py [--work DIR] [--threads 2] [--seeds 2]

The Trainer is used as its documentation shows: a dataset of what the processor makes of each clip, a collator that adds
the texts and `labels`, and the optimizer given. Learning rates, epochs, batch, warm-up and what is frozen are the
recipe's. The clips aren't augmented, because that is the training's own work and not the Trainer's. Both folders are
judged by `openxclip eval`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from my_videos import write_clips

from openxclip import Trainer, XCLIPModel, XCLIPProcessor
from openxclip.evaluation import evaluate_recipe
from openxclip.recipes import read_recipe
from openxclip.training import train
from openxclip.training.optimisation import Schedule, adamw, parameter_groups, set_trainable
from openxclip.video import read_clip


class Clips(torch.utils.data.Dataset[dict[str, Any]]):
    """What the processor makes of each clip of a folder of classes, and the number of its class."""

    def __init__(self, folder: Path, processor: XCLIPProcessor, num_frames: int) -> None:
        self.classes = sorted(path.name for path in folder.iterdir())
        self.rows: list[dict[str, Any]] = []
        for label, name in enumerate(self.classes):
            for path in sorted((folder / name).iterdir()):
                frames_THWC = read_clip(path, num_frames=num_frames).frames_THWC
                pixels = processor(videos=list(frames_THWC), return_tensors="pt")["pixel_values"][0]
                self.rows.append({"pixel_values": pixels, "labels": label})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.rows[number]


def by_trainer(data: Path, out: Path, seed: int) -> None:
    """Train mini on a folder of classes, and leave a whole model."""
    recipe = read_recipe("my-videos", ["model=mini", f"data={data}"])
    processor, model = XCLIPProcessor.from_pretrained("mini"), XCLIPModel.from_pretrained("mini")
    clips = Clips(data, processor, model.config.vision_config.num_frames)
    texts = processor(text=[recipe.template.format(name) for name in clips.classes], padding=True, return_tensors="pt")

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        pixels = torch.stack([row["pixel_values"] for row in rows])
        return {**texts, "pixel_values": pixels, "labels": torch.tensor([row["labels"] for row in rows])}

    set_trainable(model, towers=recipe.towers, loss="classes")
    groups = parameter_groups(model, lr=recipe.lr, fresh_factor=recipe.fresh_factor, weight_decay=recipe.weight_decay)
    optimizer = adamw(model, groups, betas=recipe.betas, eps=recipe.eps)
    per_epoch = len(clips) // recipe.batch
    schedule = Schedule(
        total=recipe.epochs * per_epoch, warmup=recipe.warmup_epochs * per_epoch, minimum=recipe.minimum_lr
    )
    rates = [
        lambda step, base=group["base_lr"]: schedule.rate(min(step, schedule.total), base) / base
        for group in optimizer.param_groups
    ]
    arguments = transformers.TrainingArguments(
        str(out), num_train_epochs=recipe.epochs, per_device_train_batch_size=recipe.batch, dataloader_drop_last=True,
        remove_unused_columns=False, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=seed,
        logging_strategy="no", max_grad_norm=0,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=clips, data_collator=collate, processing_class=processor,
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rates)),
    )  # fmt: skip
    trainer.train()
    trainer.save_model()


def by_command(data: Path, out: Path, seed: int) -> None:
    """The same by `openxclip train`."""
    train("my-videos", "model=mini", f"data={data}", "hold_out=0", "eval_every=0", f"seed={seed}",
          out=out, say=lambda text: None)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder to keep clips and models in")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work or Path(tempfile.mkdtemp())
    if not (work / "train").exists():
        write_clips(work / "train", 8, seed=1)
        write_clips(work / "test", 16, seed=2)
    judged = ("my-videos", f"data={work / 'test'}", "hold_out=0")
    before = evaluate_recipe(*judged, model="mini").metrics["top1"]
    print(f"mini, untrained: {100 * before:.1f} %", flush=True)
    rows: list[dict[str, Any]] = [{"by": "untrained", "accuracy": [before]}]
    for name, learn in (("openxclip train", by_command), ("transformers' Trainer", by_trainer)):
        accuracy, seconds = [], []
        for seed in range(arguments.seeds):
            out, began = work / f"{name.split()[0]} {seed}, {time.time():.0f}", time.monotonic()
            learn(work / "train", out, seed)
            seconds.append(time.monotonic() - began)
            accuracy.append(evaluate_recipe(*judged, model=out).metrics["top1"])
        rows.append({"by": name, "accuracy": accuracy, "seconds": seconds})
        shown = ", ".join(f"{100 * one:.1f} %" for one in accuracy)
        print(f"{name}: {shown}; mean {100 * statistics.mean(accuracy):.1f} %, {sum(seconds):.0f} s", flush=True)
    Path(__file__).with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
