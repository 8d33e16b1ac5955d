"""Parameter groups and learning rates of the paper (arXiv 2208.02816, §4.1 and the supplement's table of settings)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

Towers = Literal["visual", "text", "both", "none"]
Loss = Literal["classes", "pairs"]


def is_fresh(name: str) -> bool:
    """Whether a parameter is one that CLIP hasn't: messages, MIT, prompts. They learn ten times as fast."""
    return name.startswith(("mit.", "prompts_")) or "message_" in name


def trains(name: str, *, towers: Towers, loss: Loss) -> bool:
    """Whether a parameter is trained.

    CLIP's temperature, `logit_scale`, is trained with both towers, as in the authors' code, and with pairs.

    Args:
        name: in `XCLIPModel.named_parameters()`.
        towers: which of CLIP's two are trained; messages, MIT and prompts always are. The paper trains the visual one.
        loss: what is minimised.
    """
    if is_fresh(name):
        return True
    if name == "logit_scale":
        return towers == "both" or loss == "pairs"
    return towers in ("both", "text" if name.startswith("text_") else "visual")


def has_weight_decay(name: str, parameter: nn.Parameter) -> bool:
    """Not vectors, biases and positions. The temperature, a single number, has, as in the authors' code."""
    return parameter.ndim != 1 and not name.endswith(".bias") and "position_embedding" not in name


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with one peak learning rate and one weight decay.

    Attributes:
        name: in words.
        lr: the base rate that the schedule scales.
        weight_decay: of AdamW.
        names: of the parameters.
    """

    name: str
    lr: float
    weight_decay: float
    names: tuple[str, ...]


def parameter_groups(
    model: nn.Module, *, lr: float, fresh_factor: float = 10.0, weight_decay: float = 0.001
) -> list[ParameterGroup]:
    """Of the parameters that require a gradient, in at most four groups; each parameter is in one.

    Args:
        model: an XCLIPModel whose frozen parameters don't require a gradient.
        lr: of what CLIP has.
        fresh_factor: what is fresh learns so many times as fast.
        weight_decay: of what has any.
    """
    found: dict[tuple[bool, bool], list[str]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found.setdefault((is_fresh(name), has_weight_decay(name, parameter)), []).append(name)
    groups = []
    for (fresh, decays), names in sorted(found.items()):
        title = f"{'messages, MIT, prompts' if fresh else 'CLIP'}, {'with' if decays else 'without'} weight decay"
        rate = lr * fresh_factor if fresh else lr
        groups.append(ParameterGroup(title, rate, weight_decay if decays else 0.0, tuple(names)))
    return groups


def adamw(
    model: nn.Module, groups: list[ParameterGroup], *, betas: tuple[float, float], eps: float
) -> torch.optim.AdamW:
    """The optimizer; each of its groups knows its base rate as `base_lr`.

    Raises:
        ValueError: nothing is trained.
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
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters.values())  # one pass over the weights
    return torch.optim.AdamW(options, betas=betas, eps=eps, fused=fused)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A cosine over all steps, of which a linear warm-up from 0 replaces the first.

    As in the authors' code, the cosine is counted from step 0: where it takes over, it has already fallen (to 0.93 of
    the base rate after 5 of 30 epochs). The minimum is one rate for every group.

    Attributes:
        total: steps of the whole training.
        warmup: of them, how many the warm-up takes.
        minimum: the learning rate at the end.
    """

    total: int
    warmup: int
    minimum: float

    def __post_init__(self) -> None:
        if self.total < 1 or not 0 <= self.warmup <= self.total:
            raise ValueError(f"a warm-up of {self.warmup} steps of {self.total}: must be from 0 to all of 1 or more.")

    def rate(self, step: int, base: float) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return base * step / self.warmup
        return self.minimum + (base - self.minimum) * (1 + math.cos(math.pi * step / self.total)) / 2

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set every group's rate."""
        for group in optimizer.param_groups:
            group["lr"] = self.rate(step, group["base_lr"])


def trained_names(model: nn.Module, *, towers: Towers, loss: Loss) -> Iterator[str]:
    """Have each parameter require a gradient or not; the names of those that do."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains(name, towers=towers, loss=loss))
        if parameter.requires_grad:
            yield name
