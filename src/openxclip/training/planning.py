"""Plan a training without running it, as `openxclip train --dry-run` does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from openxclip.datasets import describe_problems
from openxclip.recipes import Recipe
from openxclip.training.batches import Batches
from openxclip.training.optimisation import ParameterGroup, Schedule, parameter_groups, set_trainable
from openxclip.training.setup import Setup

_FLOAT32 = 4  # bytes
_VECTORS_PER_BLOCK = 16  # vectors per token that a block keeps for the backward pass
_LATE_LIBRARIES = 100 * 2**20  # bytes of libraries that only the first step and the first evaluation load


@dataclass(frozen=True)
class Plan:
    """What a training would do.

    Attributes:
        classes, clips, val_clips: number of classes, training clips and validation clips.
        epochs: number of epochs.
        steps_per_epoch: optimizer steps in an epoch.
        passes: passes through the model that each process takes in a step.
        schedule: schedule of the learning rate.
        groups: parameter groups.
        frozen, trained: number of frozen and of trained parameters.
        memory: estimated bytes of weights, gradients, moments and activations; on a CPU, also of Python and its
            libraries.
        problems: lines about problems of the data, see `openxclip.datasets.describe_problems`.
    """

    classes: int
    clips: int
    val_clips: int
    epochs: int
    steps_per_epoch: int
    passes: int
    schedule: Schedule
    groups: list[ParameterGroup]
    frozen: int
    trained: int
    memory: int
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.clips} clips of {self.classes} classes" if self.classes else f"{self.clips} clips with captions",
            f"evaluated on {self.val_clips} other clips" if self.val_clips else "no clips to evaluate on",
            f"{self.epochs} epochs of {self.steps_per_epoch} steps, {self.passes} passes per step; warm-up over "
            f"{self.schedule.warmup} steps",
            f"{self.trained / 1e6:.2f} M parameters are trained, {self.frozen / 1e6:.2f} M are frozen:",
        ]
        lines += [
            f"  {group.name}: {len(group.names)} tensors, learning rate {group.lr:.3g} to {self.schedule.minimum:.3g}, "
            f"weight decay {group.weight_decay:g}"
            for group in self.groups
        ]
        lines.append(f"about {self.memory / 2**30:.1f} GiB of memory per process, without the workers that read videos")
        return "\n".join([*lines, *self.problems])


def make_plan(setup: Setup, *, memory_before: int = 0) -> Plan:
    """Return what a training would do, and set `requires_grad` of the model's parameters as it would.

    Args:
        setup: the training's setup.
        memory_before: bytes that `memory_in_use` gave before the model was loaded.
    """
    recipe, model, val = setup.recipe, setup.model, setup.val
    set_trainable(model, towers=recipe.towers, loss=recipe.loss)
    batches, schedule = plan_steps(setup)
    num_trained = model.num_parameters(only_trainable=True)
    num_frozen = model.num_parameters() - num_trained
    memory = _weight_memory(setup, num_frozen, num_trained) + _activation_memory(setup)
    if memory_before:
        memory += memory_before + _LATE_LIBRARIES
    datasets = [dataset for dataset in (setup.dataset, val) if dataset is not None]
    return Plan(
        classes=len(setup.dataset.classes),
        clips=len(setup.dataset.samples),
        val_clips=0 if val is None else len(val.samples),
        epochs=recipe.epochs,
        steps_per_epoch=batches.steps_per_epoch,
        passes=batches.num_passes(0),
        schedule=schedule,
        groups=parameter_groups(
            model, lr=recipe.lr, fresh_factor=recipe.fresh_factor, weight_decay=recipe.weight_decay
        ),
        frozen=num_frozen,
        trained=num_trained,
        memory=memory,
        problems=tuple(line for dataset in datasets for line in describe_problems(dataset).splitlines()),
    )


def plan_steps(setup: Setup) -> tuple[Batches, Schedule]:
    """Return the batches of a training and the schedule of its learning rate."""
    recipe, processes = setup.recipe, setup.processes
    batches = Batches(
        len(setup.dataset.samples), recipe.batch, recipe.batch_per_pass, recipe.seed, processes.rank, processes.world
    )
    schedule = Schedule(
        total=batches.steps_per_epoch * recipe.epochs,
        warmup=round(batches.steps_per_epoch * recipe.warmup_epochs),
        minimum=recipe.minimum_lr,
    )
    return batches, schedule


def memory_in_use() -> int:
    """Return the bytes of memory that this process uses; 0 if there is a GPU or the system doesn't report it."""
    if torch.cuda.is_available():
        return 0
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _weight_memory(setup: Setup, num_frozen: int, num_trained: int) -> int:
    """Return the bytes of weights, gradients and AdamW's two moments, and of the moving average if there is one."""
    world, copies = setup.processes.world, 4 + (setup.recipe.ema is not None)
    memory = _FLOAT32 * (num_frozen + copies * num_trained)
    if setup.recipe.sharded:
        return memory // world
    buckets = _FLOAT32 * num_trained if world > 1 else 0  # of DistributedDataParallel
    return memory + buckets


def _activation_memory(setup: Setup) -> int:
    """Return the bytes that one pass keeps for its backward pass, in float32.

    A block keeps 16 vectors per token: two norms, queries, keys, values, the output of attention, two residuals, and
    twice the MLP's four. Each clip has its own prompts for each text. The text tower counts only if it is trained.
    """
    recipe, model, dataset = setup.recipe, setup.model, setup.dataset
    vision, text, clips = model.config.vision_config, model.config.text_config, recipe.batch_per_pass
    texts = len(dataset.classes) or clips * setup.processes.world
    tokens = clips * vision.num_frames * ((vision.image_size // vision.patch_size) ** 2 + 2)
    numbers = tokens * vision.hidden_size * _vectors_per_token(recipe, vision.num_hidden_layers)
    numbers += _VECTORS_PER_BLOCK * clips * texts * model.config.projection_dim * model.config.prompt_layers
    if recipe.towers in ("text", "both"):
        examples = dataset.classes or [str(sample.text) for sample in dataset.samples[:1000]]
        token_ids = setup.processor.tokenizer([recipe.template.replace("{}", name) for name in examples]).input_ids
        length = min(max(map(len, token_ids)), text.max_position_embeddings)
        numbers += texts * length * text.hidden_size * _vectors_per_token(recipe, text.num_hidden_layers)
    return _FLOAT32 * numbers


def _vectors_per_token(recipe: Recipe, blocks: int) -> int:
    """Return the vectors that a tower keeps: with checkpointed gradients, one per block and all of one block."""
    return blocks + _VECTORS_PER_BLOCK if recipe.checkpoint_gradients else blocks * _VECTORS_PER_BLOCK
