"""Choose the dtype and kernel of a model's products for its device."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from openxclip.engine.linears import can_pack
from openxclip.model import XCLIPModel

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str) -> None:
    """Raise a ValueError if there is no such precision."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r}: must be one of {', '.join(get_args(Precision))}.")


def choose_dtype(model: XCLIPModel, precision: Precision) -> tuple[torch.dtype, str]:
    """Return the dtype of products, and the reason if it is float32 although another was asked for.

    "auto" is the weights' own dtype on a CPU, where half precision would change the answer, and float16 on CUDA, where
    float32 is several times slower and float16's rounding error is an eighth of bfloat16's.

    Raises:
        ValueError: there is no such precision.
    """
    check_precision(precision)
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
