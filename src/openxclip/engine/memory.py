"""Release memory of weights that are mapped from a file."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from torch import Tensor

_PAGEMAP = "/proc/self/pagemap"  # a 64-bit word per page; see Linux's Documentation/admin-guide/mm/pagemap.rst
_PRESENT, _SWAPPED, _FILE_PAGE = 1 << 63, 1 << 62, 1 << 61


def release(weights: Iterable[Tensor]) -> None:
    """Release the memory of weights that are mapped from a file and were not written to.

    The weights stay readable: the system reads their pages from the file again. So a model whose weights have been
    copied into another layout isn't in memory twice. Nothing happens on systems other than Linux, or for weights that
    are not mapped from a file.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError), Path(_PAGEMAP).open("rb", buffering=0) as pagemap:
        libc = ctypes.CDLL(None, use_errno=True)
        madvise = libc.madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for weight in weights:
            if weight.device.type == "cpu" and weight.is_contiguous():
                start, end = weight.data_ptr(), weight.data_ptr() + weight.nbytes
                first, last = -(-start // mmap.PAGESIZE), end // mmap.PAGESIZE  # pages that hold nothing else
                if last > first and _is_clean(pagemap.fileno(), first, last):
                    madvise(first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE, mmap.MADV_DONTNEED)
        libc.malloc_trim(0)  # glibc keeps the memory of temporary copies otherwise


def _is_clean(descriptor: int, first: int, last: int) -> bool:
    """Return whether all pages in memory are the file's: a page that was written to belongs to the process."""
    words = np.frombuffer(os.pread(descriptor, 8 * (last - first), 8 * first), dtype=np.uint64)
    is_present, is_swapped, is_of_file = ((words & np.uint64(flag)) != 0 for flag in (_PRESENT, _SWAPPED, _FILE_PAGE))
    return len(words) == last - first and not (is_swapped | (is_present & ~is_of_file)).any()
