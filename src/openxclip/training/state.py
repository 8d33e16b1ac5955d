"""Save and load the state of a training, so that it resumes as if it had never stopped."""

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

from openxclip.common.files import atomic_file, reason_of
from openxclip.training.distributed import Processes
from openxclip.training.errors import StateError

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
_FORMAT = "openxclip training state 1"


@dataclass
class TrainingState:
    """Everything that an optimizer step changes.

    Attributes:
        model: the model, wrapped if several processes train it.
        optimizer: optimizer of the trained parameters.
        scaler: loss scaler, used with float16.
        average: moving average of the trained weights by name, or None if the recipe keeps none.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: dict[str, Tensor] | None = None


def save_state(path: Path, state: TrainingState, progress: dict[str, Any], processes: Processes) -> None:
    """Write the state. All processes call this; the main one writes.

    Args:
        path: file to write; an existing one is replaced atomically.
        state: the state. Frozen weights aren't written, because training doesn't change them.
        progress: JSON values that `read_progress` will return.
        processes: processes that train together.
    """
    trained = {name.removeprefix("module.") for name, p in state.model.named_parameters() if p.requires_grad}
    weights: Any = get_model_state_dict(state.model, options=_FULL)
    optimizer: Any = get_optimizer_state_dict(state.model, state.optimizer, options=_FULL)
    if not processes.is_main:
        return
    tensors = {f"model.{name}": tensor for name, tensor in weights.items() if name in trained}
    for name, moments in optimizer.get("state", {}).items():
        tensors |= {f"optimizer.{name}:{key}": torch.as_tensor(value) for key, value in moments.items()}
    tensors |= {f"average.{name}": tensor.cpu() for name, tensor in (state.average or {}).items()}
    metadata = {"format": _FORMAT, "facts": json.dumps({**progress, "scaler": state.scaler.state_dict()})}
    with atomic_file(path) as partial:
        save_file({name: _unshared(tensor) for name, tensor in tensors.items()}, partial, metadata=metadata)


def _unshared(tensor: Tensor) -> Tensor:
    """Return the tensor with memory of its own, which safetensors requires; copy it only if it shares memory."""
    tensor = tensor.contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def read_progress(path: Path) -> dict[str, Any] | None:
    """Return the `progress` that was given to `save_state`, and the scaler's state; None if there is no such file.

    Raises:
        StateError: the file is damaged, or is not the state of a training.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise StateError(f"{path}: can't be read ({reason_of(error)}): delete it to start over.") from error
    if metadata.get("format") != _FORMAT:
        raise StateError(f"{path}: is not the state of a training: move it away.")
    progress: dict[str, Any] = json.loads(metadata["facts"])
    return progress


def load_state(path: Path, state: TrainingState, progress: dict[str, Any]) -> None:
    """Load a saved state.

    Args:
        path: file that `save_state` wrote.
        state: state of the same model and recipe, changed in place.
        progress: result of `read_progress`.
    """
    weights: dict[str, Any] = {}
    moments: dict[str, Any] = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (the file is not a dict)
            kind, _, rest = name.partition(".")
            if kind == "model":
                weights[rest] = file.get_tensor(name)
            elif kind == "optimizer":
                parameter, _, key = rest.rpartition(":")
                moments.setdefault(parameter, {})[key] = file.get_tensor(name)
            elif state.average is not None:
                state.average[rest].copy_(file.get_tensor(name))
    options = StateDictOptions(full_state_dict=True, strict=False)
    set_model_state_dict(state.model, weights, options=options)
    groups = get_optimizer_state_dict(state.model, state.optimizer, options=_FULL)["param_groups"]
    optimizer: Any = {"state": moments, "param_groups": groups}
    set_optimizer_state_dict(state.model, state.optimizer, optimizer, options=options)
    state.scaler.load_state_dict(progress["scaler"])
