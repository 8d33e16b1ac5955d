"""transformers' Trainer runs the recipe my-videos, beside `openxclip train`, on the clips of my_videos.py.

    python benchmarks/trainer.py [--work DIR] [--threads 2] [--seeds 2]

The Trainer gets a dataset, a collator and an optimizer, as in its documentation. The learning rates, epochs, batches,
frozen weights, random clips and augmentation are those of the recipe. `openxclip eval` evaluates both folders.
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
from openxclip.datasets import open_dataset
from openxclip.evaluation import evaluate_recipe
from openxclip.recipes import Recipe, read_recipe
from openxclip.training import train
from openxclip.training.augmentation import Augmentation
from openxclip.training.batches import ClipKey
from openxclip.training.loading import TrainClips
from openxclip.training.optimisation import Schedule, make_optimizer, parameter_groups, set_trainable


class Clips(torch.utils.data.Dataset[dict[str, Any]]):
    """Random clips of a folder of classes, as the training reads them, with the index of their class."""

    def __init__(self, folder: Path, recipe: Recipe, num_frames: int, size: int) -> None:
        self.data = open_dataset(folder)
        self._clips = TrainClips(
            self.data.samples, num_frames=num_frames, size=size, crop_scales=recipe.augment.crop_scales,
            seed=recipe.seed, steps_per_epoch=1,
        )  # fmt: skip
        self._taken = 0

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, self._taken = self._taken // len(self), self._taken + 1
        _, clip = self._clips[ClipKey(number, step=epoch, pass_index=0, is_counted=True)]
        return {"clip": clip, "label": self.data.samples[number].label}


def by_trainer(data: Path, out: Path, seed: int) -> None:
    """Train mini on a folder of classes with transformers' Trainer, and save a complete model."""
    recipe = read_recipe("my-videos", ["model=mini", f"data={data}", f"seed={seed}"])
    processor, model = XCLIPProcessor.from_pretrained("mini"), XCLIPModel.from_pretrained("mini")
    vision = model.config.vision_config
    clips = Clips(data, recipe, vision.num_frames, vision.image_size)
    classes = clips.data.classes
    texts = processor(text=[recipe.template.format(name) for name in classes], padding=True, return_tensors="pt")
    augment = Augmentation(**recipe.augment.model_dump(exclude={"crop_scales"}))
    generator = torch.Generator().manual_seed(seed)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        frames, labels = torch.stack([row["clip"] for row in rows]), torch.tensor([row["label"] for row in rows])
        pixels, targets = augment(frames, labels, len(classes), generator=generator)
        return {**texts, "pixel_values": pixels, "labels": targets}

    set_trainable(model, towers=recipe.towers, loss="classes")
    groups = parameter_groups(model, lr=recipe.lr, fresh_factor=recipe.fresh_factor, weight_decay=recipe.weight_decay)
    optimizer = make_optimizer(model, groups, betas=recipe.betas, eps=recipe.eps)
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
    """Train mini on the same folder with `openxclip train`."""
    train("my-videos", "model=mini", f"data={data}", "hold_out=0", "eval_every=0", f"seed={seed}",
          out=out, say=lambda text: None)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for clips and models")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2, help="trainings with each method")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work or Path(tempfile.mkdtemp())
    if not (work / "train").exists():
        write_clips(work / "train", 8, seed=1)
        write_clips(work / "test", 16, seed=2)
    evaluated = ("my-videos", f"data={work / 'test'}", "hold_out=0")
    before = evaluate_recipe(*evaluated, model="mini").metrics["top1"]
    print(f"mini, untrained: {100 * before:.1f} %", flush=True)
    rows: list[dict[str, Any]] = [{"by": "untrained", "accuracy": [before]}]
    for name, learn in (("openxclip train", by_command), ("transformers' Trainer", by_trainer)):
        accuracy, seconds = [], []
        for seed in range(arguments.seeds):
            out, began = work / f"{name.split()[0]} {seed}, {time.time():.0f}", time.monotonic()
            learn(work / "train", out, seed)
            seconds.append(time.monotonic() - began)
            accuracy.append(evaluate_recipe(*evaluated, model=out).metrics["top1"])
        rows.append({"by": name, "accuracy": accuracy, "seconds": seconds})
        shown = ", ".join(f"{100 * share:.1f} %" for share in accuracy)
        print(f"{name}: {shown}; mean {100 * statistics.mean(accuracy):.1f} %, {sum(seconds):.0f} s", flush=True)
    Path(__file__).with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
