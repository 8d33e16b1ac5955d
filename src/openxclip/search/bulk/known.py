"""What an index has of which paths, in a temporary file, so that memory doesn't grow with the index."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from openxclip.common.sizes import format_bytes
from openxclip.errors import StoreError
from openxclip.search.schema import State
from openxclip.search.store import Store

# Two 64-bit halves of a path's hash. Two of 10^9 paths have the same hash with a probability of 10^-21
_HASH = np.dtype([("first", "<u8"), ("second", "<u8")])
_STATES: tuple[State, ...] = get_args(State)
_ROW = np.dtype([("first", "<u8"), ("second", "<u8"), ("size", "<i8"), ("modified", "<i8"), ("state", "i1")])
_GROUPS = 256  # files by the highest bits of the hash; one at a time is sorted in memory
_BLOCK = 128  # rows that are read for one path
_PATHS_AT_ONCE = 512  # whose blocks take some megabytes
_ROWS_AT_ONCE, _BATCH_ROWS = 1 << 18, 8192  # of the table of videos in one scan, and in a batch of it
_FREE = 1 << 30  # bytes of the disk that are left to other programs


class Version(NamedTuple):
    """A video of the index, as far as a plan asks.

    Attributes:
        state: see `VideoRow`.
        size, modified: bytes and nanoseconds since 1970, when it was indexed.
    """

    state: State
    size: int
    modified: int


class KnownVideos:
    """The videos of an index by the hashes of their paths, as they are when this is made.

    The table of videos is read once. The temporary file, which is deleted with this object, has 33 bytes per video;
    an eighth of a byte per video is in memory.

    Args:
        store: the index.

    Raises:
        VideoIndexError: the index can't be read.
        StoreError: the disk for temporary files has too little room.
    """

    def __init__(self, store: Store) -> None:
        videos, _ = store.tables
        with store.read_errors():
            count = videos.count_rows()
        needed = count * _ROW.itemsize
        folder = Path(tempfile.mkdtemp(prefix="openxclip-plan-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        free = shutil.disk_usage(folder).free
        if free < needed + _FREE:
            raise StoreError(
                f"{folder.parent}: has {format_bytes(free)} free, but the plan for an index of {count} videos needs "
                f"{format_bytes(needed)}: make room, or set TMPDIR to another disk."
            )
        self._path = folder / "rows"
        with ExitStack() as stack:
            groups = [stack.enter_context((folder / str(group)).open("w+b", 1 << 14)) for group in range(_GROUPS)]
            with store.read_errors():
                self._count = _write_groups(groups, _read(videos, count))
            self._keys, self._starts = _sort_groups(groups, self._path)

    def __len__(self) -> int:
        return self._count

    def of(self, paths: Sequence[str]) -> list[list[Version]]:
        """Return what the index has of each path; some thousand paths in one call are best."""
        found: list[list[Version]] = [[] for _ in paths]
        if self._count:
            with self._path.open("rb", 0) as file:
                for first in range(0, len(paths), _PATHS_AT_ONCE):
                    self._find(file.fileno(), paths[first : first + _PATHS_AT_ONCE], found, first)
        return found

    def _find(self, file: int, paths: Sequence[str], found: list[list[Version]], offset: int) -> None:
        asked = _hashes(paths)
        block = np.maximum(np.searchsorted(self._keys, asked["first"], side="right") - 1, 0)
        starts, counts = self._starts[block], self._starts[block + 1] - self._starts[block]
        size = _ROW.itemsize
        parts = [
            os.pread(file, count * size, start * size)
            for start, count in zip(starts.tolist(), counts.tolist(), strict=True)
        ]
        rows = np.frombuffer(b"".join(parts), _ROW)
        number = np.repeat(np.arange(len(paths)), counts)  # of the path for which a row was read
        is_same = (rows["first"] == asked["first"][number]) & (rows["second"] == asked["second"][number])
        for i, row in zip(number[is_same].tolist(), rows[is_same].tolist(), strict=True):
            _, _, size_of_file, modified, state = row
            found[offset + i].append(Version(_STATES[state], size_of_file, modified))


def _read(videos: Any, count: int) -> Iterator[Any]:
    """Yield the rows of the table of videos in batches. A scan of all rows at once would read far ahead of them."""
    for first in range(0, count, _ROWS_AT_ONCE):
        search = videos.search().select(["path", "state", "size", "modified"]).offset(first).limit(_ROWS_AT_ONCE)
        yield from search.to_batches(batch_size=_BATCH_ROWS)


def _hashes(paths: Sequence[str]) -> NDArray[Any]:
    digests = [hashlib.blake2b(path.encode(), digest_size=_HASH.itemsize).digest() for path in paths]
    return np.frombuffer(b"".join(digests), _HASH)


def _write_groups(groups: Sequence[BinaryIO], batches: Iterator[Any]) -> int:
    """Write the rows of all videos into files by hash, and return their number."""
    count = 0
    for batch in batches:
        hashes = _hashes(batch["path"].to_pylist())
        rows = np.empty(len(hashes), _ROW)
        rows["first"], rows["second"] = hashes["first"], hashes["second"]
        rows["size"], rows["modified"] = batch["size"].to_numpy(), batch["modified"].to_numpy()
        rows["state"] = [_STATES.index(state) for state in batch["state"].to_pylist()]
        group = (hashes["first"] >> np.uint64(56)).astype(np.int64)
        rows = rows[np.argsort(group, kind="stable")]
        ends = np.cumsum(np.bincount(group, minlength=_GROUPS))
        for file, start, end in zip(groups, [0, *ends[:-1]], ends, strict=True):
            if start < end:
                file.write(rows[start:end].tobytes())
        count += len(hashes)
    return count


def _sort_groups(groups: Sequence[BinaryIO], path: Path) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Write the rows of all groups into one file, in the order of their hashes, and delete the groups.

    Returns:
        The first hash of each block of the file, and the number of each block's first row, followed by the total
        number of rows. Rows with the same hash are in one block.
    """
    keys, starts, count = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
    with path.open("wb") as file:
        for group in groups:
            group.flush()
            group.seek(0)
            rows = np.frombuffer(group.read(), _ROW)
            Path(group.name).unlink()
            rows = rows[np.argsort(rows["first"])]
            start = np.unique(np.searchsorted(rows["first"], rows["first"][::_BLOCK]))
            keys.append(rows["first"][start])
            starts.append(count + start)
            count += len(rows)
            file.write(rows.tobytes())
    return np.concatenate(keys), np.concatenate([*starts, [count]])
