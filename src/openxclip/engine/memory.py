"""Giving back memory that a file can give again."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable

import numpy as np
from torch import Tensor

_PAGEMAP = "/proc/self/pagemap"  # a 64-bit word for each page; see Linux's Documentation/admin-guide/mm/pagemap.rst
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61


def release(weights: Iterable[Tensor]) -> None:
    """Let go of what weights that are mapped from a file take in memory, where none of it was written to.

    They read as before: what is touched comes back out of the file's pages. So a model whose weights have been copied
    into another layout isn't held twice. Elsewhere than on Linux, and for weights in memory of their own, nothing
    happens.
    """
    if sys.platform != "linux":
        return
    here = [weight for weight in weights if weight.device.type == "cpu" and weight.is_contiguous()]
    ranges = [(weight.data_ptr(), weight.numel() * weight.element_size()) for weight in here]
    try:
        descriptor = os.open(_PAGEMAP, os.O_RDONLY)
    except OSError:
        return
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        madvise = libc.madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for address, size in ranges:
            first, last = -(-address // mmap.PAGESIZE), (address + size) // mmap.PAGESIZE  # whole pages of its own
            if last > first and _is_clean(descriptor, first, last):
                madvise(first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE, mmap.MADV_DONTNEED)
        libc.malloc_trim(0)  # and of what was in between: glibc keeps the holes that copies leave
    except (OSError, AttributeError):
        return
    finally:
        os.close(descriptor)


def _is_clean(descriptor: int, first: int, last: int) -> bool:
    """Whether every page that is there is the file's own: one that was written to has become the process's."""
    words = np.frombuffer(os.pread(descriptor, 8 * (last - first), 8 * first), dtype=np.uint64)
    if len(words) != last - first:
        return False
    there = (words & np.uint64(_PRESENT | _SWAPPED)) != 0
    return bool(((words[there] & np.uint64(_OF_FILE)) != 0).all() and not (words & np.uint64(_SWAPPED)).any())
