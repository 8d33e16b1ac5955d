"""Find paths that a manifest lists twice, in constant memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.int64]

_IN_MEMORY = 1 << 18  # hashes; more are kept in temporary files
_FILES = 64  # files by hash; one of them at a time is sorted in memory
_MAX_REPEATED = 1_000_000  # paths; their hashes are held in memory


def hashes_of(paths: Sequence[str]) -> Hashes:
    """Return Python's hashes of texts, which differ between processes, (N,)."""
    return np.fromiter(map(hash, paths), np.int64, len(paths))


def find_repeated_hashes(parts: Iterator[Hashes], name: str) -> tuple[set[int], int]:
    """Find the hashes that occur twice or more.

    Args:
        parts: the hashes, in parts.
        name: name of the manifest, for messages.

    Returns:
        These hashes, and how many paths repeat an earlier one. Two paths can have the same hash, so whoever uses the
        hashes must compare the paths too; about one of 10^9 paths is wrong in the number.

    Raises:
        ValueError: too many paths are repeated.
    """
    with ExitStack() as stack:
        files: list[IO[bytes]] = []
        held: list[Hashes] = []
        count = 0
        for hashes in parts:
            held.append(hashes)
            count += len(hashes)
            if count > _IN_MEMORY:
                if not files:
                    files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(_FILES)]
                _write(files, np.concatenate(held))
                held, count = [], 0
        if files and held:
            _write(files, np.concatenate(held))
        groups: Iterator[Hashes] = (
            map(_read, files) if files else iter([np.concatenate([np.zeros(0, np.int64), *held])])
        )
        repeated: set[int] = set()
        surplus = 0
        for group in groups:
            found, counts = np.unique(group, return_counts=True)
            is_repeated = counts > 1
            repeated.update(found[is_repeated].tolist())
            surplus += int((counts[is_repeated] - 1).sum())
            if len(repeated) > _MAX_REPEATED:
                raise ValueError(
                    f"{name}: more than {_MAX_REPEATED} paths are there twice or more: write each path once."
                )
    return repeated, surplus


def _write(files: list[IO[bytes]], hashes: Hashes) -> None:
    group = hashes % _FILES
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=_FILES))
    hashes = hashes[order]
    for file, start, end in zip(files, [0, *ends[:-1]], ends, strict=True):
        file.write(hashes[start:end].tobytes())


def _read(file: Any) -> Hashes:
    file.seek(0)
    return np.frombuffer(file.read(), np.int64)
