"""What a training would do, before it does it: `openxclip train --dry-run`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from openxclip.datasets import Dataset, describe_problems
from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.recipes import Recipe
from openxclip.training.loading import Steps
from openxclip.training.optimisation import ParameterGroup, Schedule, parameter_groups, trained_names

_VECTORS = 16  # that a block keeps of each token
_LOADED_LATER = 100 * 2**20  # bytes of libraries that only the first step and the first evaluation load


@dataclass(frozen=True)
class Plan:
    """Attributes:
    classes, clips, val_clips: how many.
    epochs, steps_per_epoch: of the optimizer.
    passes: through the model, of each step and process.
    schedule: of the learning rate.
    groups: of parameters.
    frozen: number of parameters that aren't trained.
    trained: number of those that are.
    memory: bytes of weights, gradients, moments and activations, about; on a CPU, of Python and its libraries too.
    problems: what is wanting in the data, see `openxclip.datasets.describe_problems`: lines, at most ten a part.
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
        warm = self.schedule.warmup
        lines = [
            f"{self.clips} clips of {self.classes} classes" if self.classes else f"{self.clips} clips with captions",
            f"judged by {self.val_clips} others" if self.val_clips else "judged by none",
            f"{self.epochs} epochs of {self.steps_per_epoch} steps, {self.passes} passes a step; warm-up over {warm}",
            f"{self.trained / 1e6:.2f} M parameters are trained, {self.frozen / 1e6:.2f} M are frozen:",
        ]
        lines += [
            f"  {group.name}: {len(group.names)} tensors, learning rate {group.lr:.3g} to {self.schedule.minimum:.3g}, "
            f"weight decay {group.weight_decay:g}"
            for group in self.groups
        ]
        lines.append(f"about {self.memory / 2**30:.1f} GiB of memory for one process, beside those that read videos")
        return "\n".join([*lines, *self.problems])


def plan(
    recipe: Recipe,
    model: XCLIPModel,
    processor: XCLIPProcessor,
    dataset: Dataset,
    val: Dataset | None,
    *,
    world: int = 1,
    beside: int = 0,
) -> Plan:
    """What the recipe comes to with this model and data.

    Args:
        recipe, model, processor, dataset, val: of the training.
        world: how many processes train together.
        beside: bytes of memory that this process had in use before the model was loaded, see `memory_in_use`.
    """
    set(trained_names(model, towers=recipe.towers, loss=recipe.loss))
    steps = Steps(len(dataset.samples), recipe.batch, recipe.batch_per_pass, recipe.seed, world=world)
    total = steps.per_epoch * recipe.epochs
    groups = parameter_groups(model, lr=recipe.lr, fresh_factor=recipe.fresh_factor, weight_decay=recipe.weight_decay)
    trained = model.num_parameters(only_trainable=True)
    everything = model.num_parameters()
    weights = 4 * everything + 12 * trained  # and of what is trained, the gradient and AdamW's two moments
    weights += 4 * trained * (recipe.ema is not None)
    weights = weights // world if recipe.sharded else weights + 4 * trained * (world > 1)  # DDP's buckets
    return Plan(
        classes=len(dataset.classes),
        clips=len(dataset.samples),
        val_clips=0 if val is None else len(val.samples),
        epochs=recipe.epochs,
        steps_per_epoch=steps.per_epoch,
        passes=steps.passes_each(0),
        schedule=Schedule(total=total, warmup=round(steps.per_epoch * recipe.warmup_epochs), minimum=recipe.minimum_lr),
        groups=groups,
        frozen=everything - trained,
        trained=trained,
        memory=weights + _activations(recipe, model, processor, dataset, world) + (beside and beside + _LOADED_LATER),
        problems=tuple(line for one in (dataset, val) if one for line in describe_problems(one).splitlines()),
    )


def memory_in_use() -> int:
    """Bytes of memory that this process has in use; 0 where a GPU's memory counts, or the system doesn't say."""
    if torch.cuda.is_available():
        return 0
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _activations(recipe: Recipe, model: XCLIPModel, processor: XCLIPProcessor, dataset: Dataset, world: int) -> int:
    """Bytes that one pass keeps for its backward, in float32: of each token sixteen vectors in each block.

    (Two norms, queries, keys, values, what attention gives, two residuals, and twice the MLP's four.) With checkpointed
    gradients, one a block and those of one block. The text tower's count where it is trained; each clip has prompts of
    its own for each text.
    """
    vision, text, clips = model.config.vision_config, model.config.text_config, recipe.batch_per_pass
    texts = len(dataset.classes) or clips * world
    tokens = clips * vision.num_frames * ((vision.image_size // vision.patch_size) ** 2 + 2)
    numbers = _kept(recipe, tokens * vision.hidden_size, vision.num_hidden_layers)
    numbers += _VECTORS * clips * texts * model.config.projection_dim * model.config.prompt_layers
    if recipe.towers in ("text", "both"):
        some = dataset.classes or [str(sample.text) for sample in dataset.samples[:1000]]
        length = max(map(len, processor.tokenizer([recipe.template.replace("{}", one) for one in some]).input_ids))
        length = min(length, text.max_position_embeddings)
        numbers += _kept(recipe, texts * length * text.hidden_size, text.num_hidden_layers)
    return 4 * numbers


def _kept(recipe: Recipe, vector: int, blocks: int) -> int:
    """Numbers that the blocks of a tower keep."""
    return vector * (blocks + _VECTORS if recipe.checkpoint_gradients else _VECTORS * blocks)
