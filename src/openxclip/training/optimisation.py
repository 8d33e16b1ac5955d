"""Parameter groups and learning rates of the paper (arXiv 2208.02816, §4.1 and the supplement's table of settings)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from openxclip.recipes.recipe import Loss, Towers


def is_fresh(name: str) -> bool:
    """Return whether a parameter belongs to a part that CLIP lacks: messages, MIT or prompts."""
    return name.startswith(("mit.", "prompts_")) or "message_" in name


def is_trained(name: str, *, towers: Towers, loss: Loss) -> bool:
    """Return whether a parameter is trained.

    Messages, MIT and prompts always are. CLIP's temperature, `logit_scale`, is trained with both towers, as in the
    authors' code, and with pairs.

    Args:
        name: name in `XCLIPModel.named_parameters()`.
        towers: CLIP's towers that are trained; the paper trains the visual one.
        loss: loss that is minimised.
    """
    if is_fresh(name):
        return True
    if name == "logit_scale":
        return towers == "both" or loss == "pairs"
    return towers in ("both", "text" if name.startswith("text_") else "visual")


def set_trainable(model: nn.Module, *, towers: Towers, loss: Loss) -> set[str]:
    """Set `requires_grad` of every parameter, and return the names of those that are trained; see `is_trained`."""
    trained = set()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name, towers=towers, loss=loss))
        if parameter.requires_grad:
            trained.add(name)
    return trained


def has_weight_decay(name: str, parameter: nn.Parameter) -> bool:
    """Return whether weight decay applies to a parameter.

    As in the authors' code, vectors, biases and positions have none, and the temperature, a scalar, has one.
    """
    return parameter.ndim != 1 and not name.endswith(".bias") and "position_embedding" not in name


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with one peak learning rate and one weight decay.

    Attributes:
        name: description for users.
        lr: base learning rate, which the schedule scales.
        weight_decay: AdamW's weight decay.
        names: names of the parameters.
    """

    name: str
    lr: float
    weight_decay: float
    names: tuple[str, ...]


def parameter_groups(
    model: nn.Module, *, lr: float, fresh_factor: float = 10.0, weight_decay: float = 0.001
) -> list[ParameterGroup]:
    """Divide the parameters that require a gradient into at most four groups.

    Args:
        model: an XCLIPModel whose frozen parameters don't require a gradient.
        lr: base learning rate of CLIP's own parameters.
        fresh_factor: factor for the learning rate of fresh parameters, see `is_fresh`.
        weight_decay: weight decay of the parameters that have one, see `has_weight_decay`.
    """
    names_by_kind: dict[tuple[bool, bool], list[str]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            names_by_kind.setdefault((is_fresh(name), has_weight_decay(name, parameter)), []).append(name)
    groups = []
    for (fresh, decays), names in sorted(names_by_kind.items()):
        title = f"{'messages, MIT, prompts' if fresh else 'CLIP'}, {'with' if decays else 'without'} weight decay"
        rate = lr * fresh_factor if fresh else lr
        groups.append(ParameterGroup(title, rate, weight_decay if decays else 0.0, tuple(names)))
    return groups


def make_optimizer(
    model: nn.Module, groups: list[ParameterGroup], *, betas: tuple[float, float], eps: float
) -> torch.optim.AdamW:
    """Make AdamW for the groups, each of which has its base learning rate as `base_lr`.

    Raises:
        ValueError: there are no groups, so nothing is trained.
    """
    if not groups:
        raise ValueError("no parameter of the model requires a gradient: there is nothing to train.")
    parameters = dict(model.named_parameters())
    options: list[dict[str, Any]] = [
        {
            "params": [parameters[name] for name in group.names],
            "lr": group.lr,
            "base_lr": group.lr,
            "weight_decay": group.weight_decay,
        }
        for group in groups
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters.values())  # reads the weights once per step
    return torch.optim.AdamW(options, betas=betas, eps=eps, fused=fused)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A cosine over all steps, whose first steps are replaced by a linear warm-up from 0.

    As in the authors' code, the cosine is counted from step 0, so it has already fallen when the warm-up ends (to 0.93
    of the base rate after 5 of 30 epochs). The minimum is the same for all groups.

    Attributes:
        total: steps in the training.
        warmup: steps in the warm-up.
        minimum: learning rate at the end.

    Raises:
        ValueError: `warmup` is not from 0 to `total`, or `total` is below 1.
    """

    total: int
    warmup: int
    minimum: float

    def __post_init__(self) -> None:
        if self.total < 1 or not 0 <= self.warmup <= self.total:
            raise ValueError(f"warmup={self.warmup}, total={self.total}: must be 0 <= warmup <= total, and total > 0.")

    def rate(self, step: int, base: float) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return base * step / self.warmup
        return self.minimum + (base - self.minimum) * (1 + math.cos(math.pi * step / self.total)) / 2

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set the learning rate of every group."""
        for group in optimizer.param_groups:
            group["lr"] = self.rate(step, group["base_lr"])
