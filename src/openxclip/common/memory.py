"""Recognise errors that mean that memory has run out."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of a GPU or of this machine has run out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error)  # PyTorch has no exception type for the CPU's memory
    return isinstance(error, RuntimeError) and ("can't allocate memory" in message or "out of memory" in message)
