"""Linear layers for inference, with dense weights or with weights in oneDNN's packed layout.

The oneDNN operator fuses the activation, or the addition to the residual stream, into the product. It is private to
PyTorch (`torch.ops.mkldnn._linear_pointwise`), has no gradient, and its packed weight can be neither copied nor saved.
So it is tested before use, and packed weights are never part of a model that is copied or saved.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from openxclip.model.layers import activation

LINEAR_VARIABLE = "OPENXCLIP_LINEAR"  # dense, packed or auto

_SCALE = 1.702  # QuickGELU(h) = SiLU(1.702 h) / 1.702
_FUSED = {  # the operator's names of activations and their variants
    "quick_gelu": ("swish", ""),
    "silu": ("swish", ""),
    "relu": ("relu", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
}


@dataclass(frozen=True)
class Kernel:
    """How products are computed: their dtype, and whether weights are packed by oneDNN."""

    dtype: torch.dtype
    packed: bool = False

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{name}, {'weights packed by oneDNN' if self.packed else 'dense weights'}"


class Linear:
    """`activation(x @ weight.T + bias)` without gradients.

    Args:
        weight: (out, in).
        bias: (out,) or None.
        kernel: how the product is computed.
        hidden_act: name of the activation. For CLIP's "quick_gelu", the output lacks the factor 1 / 1.702.
        after: `hidden_act` of the layer before this one, whose missing factor this layer applies.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        kernel: Kernel,
        *,
        hidden_act: str | None = None,
        after: str | None = None,
    ) -> None:
        scale_out = _SCALE if hidden_act == "quick_gelu" else 1.0
        scale_in = _SCALE if after == "quick_gelu" else 1.0
        weight = _scaled(weight, scale_out / scale_in).to(kernel.dtype).contiguous()
        self._bias = None if bias is None else _scaled(bias, scale_out).to(kernel.dtype)
        self.kernel = kernel
        self._fused = _FUSED.get(hidden_act or "", ("none", "")) if kernel.packed else ("none", "")
        self._activation: Callable[[Tensor], Tensor] | None = None
        if hidden_act is not None and self._fused == ("none", ""):
            self._activation = F.silu if hidden_act == "quick_gelu" else activation(hidden_act)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if kernel.packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), both of the kernel's dtype."""
        if not self.kernel.packed:
            out = F.linear(x, self._weight, self._bias)
        else:
            out = torch.ops.mkldnn._linear_pointwise(
                x.contiguous(), self._weight, self._bias, self._fused[0], [], self._fused[1]
            )
        return out if self._activation is None else self._activation(out)

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """Return `residual + self(x)` in the residual stream's float32."""
        if self.kernel.packed and self.kernel.dtype == residual.dtype and self._fused == ("none", ""):
            out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
                x.contiguous(), residual.contiguous(), self._weight, self._bias, "add"
            )
            return out
        return torch.add(residual, self(x))


def _scaled(weight: Tensor, scale: float) -> Tensor:
    return weight.detach() if scale == 1.0 else weight.detach().float() * scale


def can_pack(dtype: torch.dtype) -> bool:
    """Return whether this PyTorch has the operator for this dtype on this CPU."""
    ops = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not all(
        hasattr(ops, name) for name in ("_linear_pointwise", "_reorder_linear_weight")
    ):
        return False
    try:
        if dtype == torch.bfloat16:
            return bool(ops._is_mkldnn_bf16_supported())
        if dtype == torch.float16:
            return bool(ops._is_mkldnn_fp16_supported())
        with torch.no_grad():
            ones = torch.ones(2, 8, device="cpu")
            answer = Linear(torch.eye(8, device="cpu"), ones[0], Kernel(dtype, packed=True)).added_to(ones, ones)
        return bool((answer == 3).all())
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False


def choose_kernel(dtype: torch.dtype, device: torch.device) -> Kernel:
    """Return the kernel for a device: packed on x86 if the CPU supports it, else dense.

    On CPUs, `OPENXCLIP_LINEAR` overrides this. The choice is a rule and not a measurement, so that a model gives the
    same bits in every process on a machine. With packed weights the towers took 0.4 to 0.97 of transformers' time in
    float32 on the AMD and Intel CPUs that were tried (benchmarks/README.md); on ARM nothing was measured.

    Raises:
        ValueError: the variable has a value other than "dense", "packed" or "auto".
    """
    if device.type != "cpu":
        return Kernel(dtype)
    wanted = os.environ.get(LINEAR_VARIABLE) or "auto"
    if wanted not in ("auto", "dense", "packed"):
        raise ValueError(f"{LINEAR_VARIABLE}={wanted!r}: must be dense, packed or auto.")
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return Kernel(dtype, packed=(wanted == "packed" or (wanted == "auto" and is_x86)) and can_pack(dtype))
