"""PyTorch's threads where they could hang or change an answer: in forked processes, and while weights are loaded.

A fork copies only the thread that called it. OpenMP, which PyTorch computes with, then waits for ever for the threads
that it had started in the parent. So a forked child computes with one thread, and loading a model starts none.
"""

from __future__ import annotations

import os
import warnings

import torch
from torch import Tensor

_GRAIN = 1 << 15  # at::internal::GRAIN_SIZE: elements up to which PyTorch doesn't share an operation out to threads

_state = {"forked": False, "said": False}


def _after_fork() -> None:
    torch.set_num_threads(1)
    _state.update(forked=True, said=False)


if hasattr(os, "register_at_fork"):  # Windows has neither this nor forks
    os.register_at_fork(after_in_child=_after_fork)


def say_if_forked() -> None:
    """Warn once in a forked process that the model computes with one thread there."""
    if _state["forked"] and not _state["said"] and torch.get_num_threads() == 1 and (os.cpu_count() or 1) > 1:
        _state["said"] = True
        warnings.warn(
            "this process was forked after PyTorch was loaded, so the model computes with one thread. To use more, "
            "load the model in the worker, or start workers by spawn.",
            RuntimeWarning,
            stacklevel=3,
        )


def converted(tensor: Tensor, *, device: torch.device | None, dtype: torch.dtype | None) -> Tensor:
    """`tensor.to(device, dtype)` that starts no threads on a CPU, so that a server may load a model and then fork."""
    is_on_cpu = tensor.device.type == "cpu" and (device is None or device.type == "cpu")
    if not is_on_cpu or dtype is None or dtype == tensor.dtype or tensor.numel() <= _GRAIN:
        return tensor.to(device=device, dtype=dtype)
    flat = tensor.contiguous().flatten()
    out = torch.empty(flat.shape, dtype=dtype, device="cpu")
    for here, there in zip(out.split(_GRAIN), flat.split(_GRAIN), strict=True):
        here.copy_(there)
    return out.view(tensor.shape)
