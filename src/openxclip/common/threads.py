"""Keep PyTorch's threads from hanging in forked processes.

A fork copies only the thread that called it. OpenMP, with which PyTorch computes, then waits for ever for threads that
it had started in the parent. So a forked child computes with one thread, and loading a model starts no threads.
"""

from __future__ import annotations

import os
import warnings

import torch
from torch import Tensor

_GRAIN = 1 << 15  # at::internal::GRAIN_SIZE: PyTorch uses one thread for operations on up to this many elements

_must_warn = False  # whether this process was forked, and hasn't warned yet


def _after_fork() -> None:
    global _must_warn
    torch.set_num_threads(1)
    _must_warn = True


if hasattr(os, "register_at_fork"):  # Windows has neither this nor forks
    os.register_at_fork(after_in_child=_after_fork)


def warn_if_forked() -> None:
    """Warn once in a forked process that the model computes with one thread there."""
    global _must_warn
    if _must_warn and torch.get_num_threads() == 1 and (os.cpu_count() or 1) > 1:
        _must_warn = False
        warnings.warn(
            "this process was forked after PyTorch was loaded, so the model computes with one thread. To use more, "
            "load the model in the worker, or start workers by spawn.",
            RuntimeWarning,
            stacklevel=3,
        )


def convert_tensor(tensor: Tensor, *, device: torch.device | None, dtype: torch.dtype | None) -> Tensor:
    """Return `tensor.to(device, dtype)` without starting threads on a CPU, so that a server can fork afterwards."""
    is_on_cpu = tensor.device.type == "cpu" and (device is None or device.type == "cpu")
    if not is_on_cpu or dtype is None or dtype == tensor.dtype or tensor.numel() <= _GRAIN:
        return tensor.to(device=device, dtype=dtype)
    flat = tensor.contiguous().flatten()
    out = torch.empty(flat.shape, dtype=dtype, device="cpu")
    for target, source in zip(out.split(_GRAIN), flat.split(_GRAIN), strict=True):
        target.copy_(source)
    return out.view(tensor.shape)
