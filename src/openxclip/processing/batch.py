"""What a processor returns: named inputs of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

Tensors = Literal["pt", "np"]


class BatchEncoding(dict[str, Any]):
    """A dict of inputs whose entries are attributes too, so that `model(**batch)` and `batch.input_ids` both work.

    Entries (each present if it was asked for): `input_ids` (K, L) and `attention_mask` (K, L) of K texts of L tokens,
    int64; `pixel_values` (B, T, 3, H, W) of B videos of T frames, float32.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r} in this batch; it has {', '.join(self) or 'nothing'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def copy(self) -> BatchEncoding:
        """A batch of the same entries."""
        return BatchEncoding(self)

    @property
    def data(self) -> dict[str, Any]:
        """The entries as a dict."""
        return self

    def to(
        self, *targets: str | int | torch.device | torch.dtype, non_blocking: bool = False, **named: Any
    ) -> BatchEncoding:
        """Move every tensor to a device and cast the floating ones to a dtype, here and not in a copy.

        Args:
            targets: a device, a dtype, or one of each, in any order.
            non_blocking: don't wait for copies from pinned memory.
            named: `device=` and `dtype=`, the same by name.

        Returns:
            The batch itself.

        Raises:
            TypeError: a target is neither a device nor a dtype.
        """
        if unknown := named.keys() - {"device", "dtype"}:
            raise TypeError(f"to() has no argument {sorted(unknown)[0]!r}: it takes device and dtype")
        device: torch.device | None = None
        dtype: torch.dtype | None = None
        for target in (*targets, *named.values()):
            if isinstance(target, torch.dtype):
                dtype = target
            elif isinstance(target, str | int | torch.device):
                device = torch.device(target)
            elif target is not None:
                raise TypeError(f"to() takes a device or a dtype, not {target!r}")
        for name, value in self.items():
            if isinstance(value, torch.Tensor):
                own = dtype if value.is_floating_point() else None
                self[name] = value.to(device=device, dtype=own, non_blocking=non_blocking)
        return self


def check_tensors(kind: str | None) -> None:
    """Refuse a `return_tensors` other than "pt", "np" and None with a ValueError."""
    if kind not in ("pt", "np", None):
        raise ValueError(f'return_tensors={kind!r} is unknown: choose "pt" (torch), "np" (numpy) or None (lists)')


def convert_rows(rows: Sequence[Sequence[int]], name: str, kind: str | None) -> Any:
    """Rows of numbers as a tensor (int64), an array (int64), or as they are for None.

    Raises:
        ValueError: the rows are of unequal length and can't become a tensor.
    """
    if kind is None:
        return list(rows)
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise ValueError(
            f"{name} of {min(lengths)} to {max(lengths)} tokens can't be put in one tensor: "
            "pass padding=True (and truncation=True for texts that are too long)"
        )
    return torch.tensor(rows, dtype=torch.int64, device="cpu") if kind == "pt" else np.asarray(rows, dtype=np.int64)
