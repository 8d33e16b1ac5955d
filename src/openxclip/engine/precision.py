"""Which kernel a model gets on its device."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from openxclip.engine.linears import Kernel, can_pack, chosen_kernel
from openxclip.model import XCLIPModel

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str) -> Precision:
    """The precision of that name.

    Raises:
        ValueError: there is none.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r}: must be one of {', '.join(get_args(Precision))}.")
    return precision  # type: ignore[return-value]


def choose_dtype(model: XCLIPModel, precision: Precision) -> tuple[torch.dtype, str]:
    """What products are computed in, and why it is float32 if that isn't what was asked for.

    "auto" is the weights' own dtype on a CPU, where half precision is another answer, and float16 on CUDA, where
    float32 is several times slower and float16's rounding is an eighth of bfloat16's.
    """
    device = model.device
    dtype = _DTYPES.get(precision)
    if dtype is None:
        dtype = model.dtype if model.dtype in _DTYPES.values() else torch.float32
        if device.type == "cuda" and dtype == torch.float32:
            dtype = torch.float16
    if device.type == "cpu" and dtype != torch.float32 and not can_pack(dtype):
        name = precision if precision != "auto" else str(dtype).removeprefix("torch.")
        return torch.float32, f"this CPU has no {name} products"
    return dtype, ""


def choose_kernel(model: XCLIPModel, dtype: torch.dtype) -> Kernel:
    """The kernel for the model's device, by rule (see `chosen_kernel`)."""
    return chosen_kernel(dtype) if model.device.type == "cpu" else Kernel(dtype)
