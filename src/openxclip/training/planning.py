"""What a training would do, before it does it: `openxclip train --dry-run`."""

from __future__ import annotations

from dataclasses import dataclass

from openxclip.model import XCLIPModel
from openxclip.training.clips import Steps
from openxclip.training.data import Dataset, describe_problems
from openxclip.training.optimisation import ParameterGroup, Schedule, parameter_groups, trained_names
from openxclip.training.recipe import Recipe


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
    memory: bytes of weights, gradients, moments and activations, about.
    problems: what is wanting in the data, see `openxclip.training.data.describe_problems`: lines, at most ten a part.
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
        lines.append(f"about {self.memory / 2**30:.1f} GiB of memory for the model and one pass, beside the decoders'")
        return "\n".join([*lines, *self.problems])


def plan(recipe: Recipe, model: XCLIPModel, dataset: Dataset, val: Dataset | None, *, world: int = 1) -> Plan:
    """What the recipe comes to with this model and data."""
    set(trained_names(model, towers=recipe.towers, loss=recipe.loss))
    steps = Steps(len(dataset.samples), recipe.batch, recipe.batch_per_pass, recipe.seed, world=world)
    total = steps.per_epoch * recipe.epochs
    groups = parameter_groups(model, lr=recipe.lr, fresh_factor=recipe.fresh_factor, weight_decay=recipe.weight_decay)
    trained = model.num_parameters(only_trainable=True)
    everything = model.num_parameters()
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
        problems=tuple(line for one in (dataset, val) if one for line in describe_problems(one).splitlines()),
        memory=4 * everything + 12 * trained + _activations(recipe, model),
    )


def _activations(recipe: Recipe, model: XCLIPModel) -> int:
    """Bytes that one pass keeps for its backward, in float32: of each token of each block, sixteen vectors of width D.

    (Two norms, queries, keys, values, what attention gives, two residuals, and twice the MLP's four.) With checkpointed
    gradients, one a block and those of one block.
    """
    vision = model.config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 2
    vector = 4 * recipe.batch_per_pass * vision.num_frames * tokens * vision.hidden_size
    if recipe.checkpoint_gradients:
        return vector * (vision.num_hidden_layers + 16)
    return vector * 16 * vision.num_hidden_layers
