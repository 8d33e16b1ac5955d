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
_ROW = np.dtype([("second", "<u8"), ("size", "<i8"), ("modified", "<i8"), ("state", "i1")])
_WRITTEN = np.dtype([("first", "<u8"), *[(name, _ROW[name]) for name in _ROW.names or ()]])
_GROUPS = 256  # files by the highest bits of the hash; one at a time is sorted in memory
_BATCH_ROWS = 8192
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

    The table of videos is read once. It takes about 75 bytes of temporary disk per video while the file is made, and
    half of that afterwards; the file is deleted with the object.

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
        needed = 2 * count * _WRITTEN.itemsize
        folder = Path(tempfile.mkdtemp(prefix="openxclip-plan-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        free = shutil.disk_usage(folder).free
        if free < needed + _FREE:
            raise StoreError(
                f"{folder.parent}: has {format_bytes(free)} free, but the plan for an index of {count} videos needs "
                f"{format_bytes(needed)}: make room, or set TMPDIR to another disk."
            )
        self._firsts, self._rows = folder / "firsts", folder / "rows"
        with ExitStack() as stack:
            groups = [
                stack.enter_context((folder / str(group)).open("w+b", buffering=1 << 16)) for group in range(_GROUPS)
            ]
            with store.read_errors():
                search = videos.search().select(["path", "state", "size", "modified"])
                self._count = _write_groups(groups, search.to_batches(batch_size=_BATCH_ROWS))
            _sort_groups(groups, self._firsts, self._rows)
        for group in range(_GROUPS):
            (folder / str(group)).unlink()

    def __len__(self) -> int:
        return self._count

    def of(self, paths: Sequence[str]) -> list[list[Version]]:
        """Return what the index has of each path; some thousand paths in one call are best."""
        found: list[list[Version]] = [[] for _ in paths]
        if not self._count or not paths:
            return found
        asked = _hashes(paths)
        # Mapped anew in each call: otherwise the pages that were looked at would stay in memory
        firsts = np.memmap(self._firsts, "<u8", "r")
        rows = np.memmap(self._rows, _ROW, "r")
        at = np.searchsorted(firsts, asked["first"])
        number = np.arange(len(paths))
        while len(number):  # one path may have several rows, which are next to each other
            is_inside = at < len(firsts)
            number, at = number[is_inside], at[is_inside]
            is_same = firsts[at] == asked["first"][number]
            number, at = number[is_same], at[is_same]
            of_same = rows[at]
            for i, row in zip(number.tolist(), of_same.tolist(), strict=True):
                second, size, modified, state = row
                if second == asked["second"][i]:
                    found[i].append(Version(_STATES[state], size, modified))
            at = at + 1
        return found


def _hashes(paths: Sequence[str]) -> NDArray[Any]:
    digests = [hashlib.blake2b(path.encode(), digest_size=_HASH.itemsize).digest() for path in paths]
    return np.frombuffer(b"".join(digests), _HASH)


def _write_groups(groups: list[BinaryIO], batches: Iterator[Any]) -> int:
    """Write the rows of all videos into files by hash, and return their number."""
    count = 0
    for batch in batches:
        hashes = _hashes(batch["path"].to_pylist())
        written = np.empty(len(hashes), _WRITTEN)
        written["first"], written["second"] = hashes["first"], hashes["second"]
        written["size"], written["modified"] = batch["size"].to_numpy(), batch["modified"].to_numpy()
        written["state"] = [_STATES.index(state) for state in batch["state"].to_pylist()]
        group = (hashes["first"] >> np.uint64(56)).astype(np.int64)
        written = written[np.argsort(group, kind="stable")]
        ends = np.cumsum(np.bincount(group, minlength=_GROUPS))
        for file, start, end in zip(groups, [0, *ends[:-1]], ends, strict=True):
            if start < end:
                file.write(written[start:end].tobytes())
        count += len(hashes)
    return count


def _sort_groups(groups: list[BinaryIO], firsts: Path, rows: Path) -> None:
    with firsts.open("wb") as firsts_file, rows.open("wb") as rows_file:
        for file in groups:
            file.flush()
            file.seek(0)
            written = np.frombuffer(file.read(), _WRITTEN)
            os.truncate(file.fileno(), 0)
            written = written[np.argsort(written["first"])]
            sorted_rows = np.empty(len(written), _ROW)
            for name in _ROW.names or ():
                sorted_rows[name] = written[name]
            firsts_file.write(written["first"].tobytes())
            rows_file.write(sorted_rows.tobytes())
