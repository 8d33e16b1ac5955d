"""Compress patch features, from which prompts are made, with Zstandard in half precision (relative error ≤ 2^-11)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def compress_patches(patches_PE: NDArray[np.floating]) -> bytes:
    """Compress (P, E) patch features."""
    import pyarrow as pa

    half = np.clip(patches_PE, -65504, 65504).astype("<f2")
    planes = half.reshape(-1).view(np.uint8).reshape(-1, 2).T  # similar high bytes together compress better
    compressed: bytes = pa.compress(planes.tobytes(), codec="zstd", asbytes=True)
    return compressed


def decompress_patches(compressed: bytes, width: int, patches: int) -> NDArray[np.float32]:
    """Return patch features (P, E).

    Args:
        compressed: result of `compress_patches`.
        width: E, the size of a patch's features.
        patches: P, the number of patches.
    """
    import pyarrow as pa

    size = 2 * width * patches
    planes = np.frombuffer(pa.decompress(compressed, size, codec="zstd", asbytes=True), dtype=np.uint8).reshape(2, -1)
    return np.ascontiguousarray(planes.T).view("<f2").reshape(patches, width).astype(np.float32)
