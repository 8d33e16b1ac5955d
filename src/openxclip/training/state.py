"""All that a training needs to go on as if it had never stopped, in one file that is whole or isn't there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from openxclip.common.files import reason_of, written_whole
from openxclip.errors import OpenXCLIPError
from openxclip.training.distributed import Processes

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_FORMAT = "openxclip training state 1"


class StateError(OpenXCLIPError):
    """A training can't go on from what is there."""


@dataclass
class Learner:
    """What changes in training.

    Attributes:
        model: wrapped for several processes, or not.
        optimizer: of its trained parameters.
        scaler: of float16's gradients.
        average: of the weights, by name; None if none is kept.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: dict[str, Tensor] | None = None


def save_state(path: Path, learner: Learner, facts: dict[str, Any], processes: Processes) -> None:
    """Write the state; called by all processes, written by the main one.

    Args:
        path: is replaced, whole.
        learner: of which only what is trained is written: what is frozen comes from where training started.
        facts: JSON values to be read back: where in the training this is.
        processes: that train together.
    """
    trained = {name.removeprefix("module.") for name, p in learner.model.named_parameters() if p.requires_grad}
    weights: Any = get_model_state_dict(learner.model, options=_WHOLE)
    moments: Any = get_optimizer_state_dict(learner.model, learner.optimizer, options=_WHOLE)
    if not processes.is_main:
        return
    tensors = {f"model.{name}": tensor for name, tensor in weights.items() if name in trained}
    for name, state in moments.get("state", {}).items():
        tensors |= {f"optimizer.{name}:{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors |= {f"average.{name}": tensor.cpu() for name, tensor in (learner.average or {}).items()}
    meta = {"format": _FORMAT, "facts": json.dumps({**facts, "scaler": learner.scaler.state_dict()})}
    with written_whole(path) as partial:
        save_file({name: _alone(tensor) for name, tensor in tensors.items()}, partial, metadata=meta)


def _alone(tensor: Tensor) -> Tensor:
    """The tensor with memory of its own, as safetensors wants it: a copy only where it shares it with others."""
    tensor = tensor.contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def read_facts(path: Path) -> dict[str, Any] | None:
    """What was said of the state there; None if there is none.

    Raises:
        StateError: it is no training's state.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise StateError(f"{path}: can't be read ({reason_of(error)}): delete it to begin anew.") from error
    if meta.get("format") != _FORMAT:
        raise StateError(f"{path}: is no state of a training: move it away.")
    facts: dict[str, Any] = json.loads(meta["facts"])
    return facts


def load_state(path: Path, learner: Learner, facts: dict[str, Any]) -> None:
    """Put the state into a learner that was made as the one that was saved.

    Args:
        path: of the state.
        learner: is changed.
        facts: what `read_facts` gave.
    """
    weights: dict[str, Any] = {}
    state: dict[str, Any] = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (it is no dict)
            kind, _, rest = name.partition(".")
            if kind == "model":
                weights[rest] = file.get_tensor(name)
            elif kind == "optimizer":
                parameter, _, key = rest.rpartition(":")
                state.setdefault(parameter, {})[key] = file.get_tensor(name)
            elif learner.average is not None:
                learner.average[rest].copy_(file.get_tensor(name))
    options = StateDictOptions(full_state_dict=True, strict=False)
    set_model_state_dict(learner.model, weights, options=options)
    fresh = get_optimizer_state_dict(learner.model, learner.optimizer, options=_WHOLE)
    set_optimizer_state_dict(
        learner.model, learner.optimizer, {"state": state, "param_groups": fresh["param_groups"]}, options=options
    )
    learner.scaler.load_state_dict(facts["scaler"])
