"""Where weights go and in which type: the arguments `device`, `device_map`, `max_memory` and `dtype`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch.backends import mps

# Names of transformers' plans for splitting a model over devices. One device is enough for this one.
_PLANS = frozenset({"auto", "balanced", "balanced_low_0", "sequential"})
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """None is float32; "auto" is None, which leaves every tensor as it is."""
    if dtype is None:
        return torch.float32
    if dtype == "auto" or isinstance(dtype, torch.dtype):
        return None if dtype == "auto" else dtype  # type: ignore[return-value]
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype={dtype!r}: say float32, bfloat16, float16 or auto.")
    return found


def as_device(device: Any) -> torch.device | None:
    """The device that is meant, if it can be used here.

    Args:
        device: a device, its name, or its number. A dict is a `device_map` of transformers, which must put the whole
            model on one device. "auto" and transformers' other plans mean a GPU if there is one. None stays None.

    Raises:
        ValueError: there is no such device, or the model would be split over several.
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
    except (RuntimeError, AssertionError) as error:  # the latter is what a torch without CUDA says of it
        name = f"cuda:{device}" if isinstance(device, int) else str(device)
        raise ValueError(f"device {name!r} can't be used here{_why_not(name)}") from error


def as_computing_device(device: torch.device | str) -> torch.device:
    """As `as_device`, of a device that computes: "meta", which holds no numbers, is refused too."""
    found = as_device(device)
    assert found is not None
    if found.type == "meta":
        raise ValueError(f"device {str(device)!r} can't be used here{_why_not(found.type)}")
    return found


def check_memory(needed: int, device: torch.device | None, max_memory: Mapping[Any, int | str] | None) -> None:
    """Refuse a model that is larger than `max_memory` allows on its device, for it can't be split.

    Args:
        needed: bytes of the weights.
        device: where they go; None is the CPU.
        max_memory: bytes, or text such as "10GB" or "8GiB", by the number of a GPU or "cpu", as in transformers.

    Raises:
        ValueError: it is larger, or a limit is no size.
    """
    if not max_memory:
        return
    place: int | str = "cpu"
    if device is not None and device.type != "cpu":
        place = device.index or 0
    limit = max_memory.get(place)
    if limit is not None and needed > _bytes(limit):
        raise ValueError(
            f"max_memory allows {limit} on device {place}, but the weights are {needed / 1e9:.2f} GB and are not split "
            "over devices: allow more, choose another device or dtype=torch.bfloat16."
        )


def _bytes(size: int | str) -> int:
    if isinstance(size, int):
        return size
    found = re.fullmatch(r"([\d.]+)\s*([KMGT]?I?)B?", str(size).strip().upper())
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"max_memory has {size!r}, which is no size: say it as in '10GB' or '8GiB'.")
    return int(float(found[1]) * _UNITS[found[2]])


def _why_not(device: str) -> str:
    """The rest of a sentence on a device that can't be used: why, if that is known, and which can."""
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *(["mps"] if mps.is_available() else [])]
    kind, why = device.split(":")[0], ""
    if kind == "gpu" and len(there) > 1:
        why = f" by this name: it is called {there[1]}"
    elif kind in ("cuda", "gpu") and not torch.backends.cuda.is_built():
        why = ", because this PyTorch was built without CUDA"
    elif kind in ("cuda", "gpu") and len(there) == 1:
        why = ", because PyTorch finds no GPU"
    return f"{why}. There is: {', '.join(there)}."
