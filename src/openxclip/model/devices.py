"""Interpret the arguments `device`, `device_map`, `max_memory` and `dtype`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.backends import mps

from openxclip.common.sizes import parse_bytes

# Names of transformers' plans for splitting a model over devices. This model always fits on one.
_PLANS = frozenset({"auto", "balanced", "balanced_low_0", "sequential"})


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """Return the floating-point type of that name; float32 for None; None for "auto", which converts nothing.

    Raises:
        ValueError: there is no such floating-point type.
    """
    if dtype is None:
        return torch.float32
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return None
    named = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else None
    if not isinstance(named, torch.dtype) or not named.is_floating_point:
        raise ValueError(f"dtype={dtype!r}: use float32, bfloat16, float16 or auto.")
    return named


def as_device(device: Any) -> torch.device | None:
    """Return the device of that name, number or `device_map`; None for None.

    Args:
        device: a device, its name, or its number. A dict is transformers' `device_map`, which must put the whole model
            on one device. "auto" and transformers' other plans mean a GPU if there is one, else the CPU.

    Raises:
        ValueError: the device can't be used here, or the model would be split over several.
    """
    if isinstance(device, dict):
        places = set(device.values())
        if len(places) != 1:
            raise ValueError(f"device_map={device}: the model is not split over devices; name one, such as 'cuda:0'.")
        device = places.pop()
    if device == "disk":
        raise ValueError("device_map='disk': the weights are not left on disk; name a device, such as 'cpu'.")
    if isinstance(device, str) and device in _PLANS:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device is None:
        return None
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA raises AssertionError
        name = f"cuda:{device}" if isinstance(device, int) else str(device)
        raise ValueError(f"device {name!r} can't be used here{_explain_unusable(name)}") from error


def as_computing_device(device: torch.device | str) -> torch.device:
    """Return `as_device(device)`, but also refuse "meta", whose tensors have no values."""
    usable = as_device(device)
    assert usable is not None
    if usable.type == "meta":
        raise ValueError(f"device {str(device)!r} can't be used here{_explain_unusable(usable.type)}")
    return usable


def check_memory(
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    device: torch.device | None,
    max_memory: Mapping[Any, int | str] | None,
) -> None:
    """Refuse a model that is larger than `max_memory` allows on its device, because it can't be split.

    Args:
        tensors: weights by name.
        dtype: type of the weights after loading; None keeps their own.
        device: device of the weights; None is the CPU.
        max_memory: bytes, or text such as "10GB" or "8GiB", by the number of a GPU or "cpu", as in transformers.

    Raises:
        ValueError: the model is larger, or a limit isn't a size.
    """
    if not max_memory:
        return
    place: int | str = "cpu"
    if device is not None and device.type != "cpu":
        place = device.index or 0
    limit = max_memory.get(place)
    if limit is None:
        return
    try:
        allowed = limit if isinstance(limit, int) else parse_bytes(limit)
    except ValueError as error:
        raise ValueError(f"max_memory: {error}.") from None
    needed = sum(
        t.numel() * (dtype.itemsize if dtype is not None and t.is_floating_point() else t.itemsize)
        for t in tensors.values()
    )
    if needed > allowed:
        raise ValueError(
            f"max_memory allows {limit} on device {place}, but the weights are {needed / 1e9:.2f} GB and are not split "
            "over devices: allow more, choose another device or dtype=torch.bfloat16."
        )


def _explain_unusable(device: str) -> str:
    """Return the end of "device … can't be used here": the reason, if it is known, and the usable devices."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] + ["mps"] * mps.is_available()
    kind, reason = device.split(":")[0], ""
    if kind == "gpu" and gpus:
        reason = f" by this name: it is called {gpus[0]}"
    elif kind in ("cuda", "gpu") and not torch.backends.cuda.is_built():
        reason = ", because this PyTorch was built without CUDA"
    elif kind in ("cuda", "gpu") and not gpus:
        reason = ", because PyTorch finds no GPU"
    return f"{reason}. There is: {', '.join(['cpu', *gpus])}."
