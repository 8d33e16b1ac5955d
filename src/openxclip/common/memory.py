"""Whether an error says that memory has run out."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory has run out: a GPU's, or this machine's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)  # PyTorch has no type of its own for the CPU
    return isinstance(error, RuntimeError) and ("can't allocate memory" in said or "out of memory" in said)
