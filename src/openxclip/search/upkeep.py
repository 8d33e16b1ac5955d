"""Upkeep of an index's tables: compaction where it pays, old versions, and the index of vectors."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

VERSIONS_KEPT = timedelta(minutes=10)  # longer than any search takes: its version's files stay
VECTORS_INDEXED_FROM = 50_000  # windows: from there on an index of vectors saves more than it costs
_REBUILT_AT = 4  # times as many
_VECTORS = "vectors_"  # prefix of the vector index's name; the number of windows at the time follows

# Compaction writes all rows again. Done whenever the rows since the last one are half as many as before it, all
# compactions together write about three times what they keep. Fragments are bounded because each commit lists them all.
_FRAGMENTS, _MOST_FRAGMENTS = 32, 512
_GARBAGE = 1.25  # times the live bytes: from there on old versions are removed. One compaction leaves 1.0
_GARBAGE_BYTES = 1 << 20


def tidy(table: Any, folder: Path | None) -> None:
    """Compact a table and remove its old versions, where it pays.

    Args:
        table: LanceDB's.
        folder: its folder; None in an object store, where old versions go with a compaction only.
    """
    if _fragments_pay(table) or _versions_pay(table, folder):
        table.optimize(cleanup_older_than=VERSIONS_KEPT)


def compact(table: Any) -> None:
    """Compact a table and remove all its old versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # searches under way may fail: documented
        table.optimize(cleanup_older_than=timedelta(0))


def _fragments_pay(table: Any) -> bool:
    stats = table.stats()["fragment_stats"]
    fragments, largest = stats["num_fragments"], stats["lengths"]["max"]
    rows = table.count_rows()
    stored = stats["lengths"]["mean"] * fragments  # with deleted rows
    is_split = fragments >= _FRAGMENTS and 2 * (stored - largest) >= largest
    return bool(is_split or fragments >= _MOST_FRAGMENTS or stored - rows > max(rows // 2, _FRAGMENTS))


def _versions_pay(table: Any, folder: Path | None) -> bool:
    if folder is None:
        return False
    live = table.stats()["total_bytes"]
    if disk_bytes(folder) - live < _GARBAGE * live + _GARBAGE_BYTES:
        return False
    # Removing versions compacts, too. While one add follows another, some version is always old enough, so that without
    # twice the age each add would write the whole table
    versions = table.list_versions()
    age = datetime.now() - versions[0]["timestamp"].replace(tzinfo=None)
    return len(versions) > 1 and bool(age > 2 * VERSIONS_KEPT)


def disk_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                total += Path(where, name).stat().st_size
    return total


def vectors_indexed_at(table: Any) -> int:
    """The number of windows when the vector index was built; 0 if there is none.

    Later windows are put into its partitions, which then are larger and fit worse.
    """
    return max((int(name.removeprefix(_VECTORS)) for name in _vector_indexes(table)), default=0)


def keep_vectors_indexed(table: Any) -> None:
    """Build the vector index if there are enough windows, or several times as many as when it was built."""
    if table.count_rows() >= max(VECTORS_INDEXED_FROM, _REBUILT_AT * vectors_indexed_at(table)):
        index_vectors(table)


def index_vectors(table: Any) -> None:
    """Build the vector index: partitions of similar embeddings, 8 bits per dimension."""
    from lancedb.index import IvfSq

    old = _vector_indexes(table)
    new = f"{_VECTORS}{table.count_rows()}"
    table.create_index("embedding", config=IvfSq(distance_type="cosine"), name=new, replace=True)
    for name in old:
        if name != new:
            table.drop_index(name)


def _vector_indexes(table: Any) -> list[str]:
    return [index.name for index in table.list_indices() if index.name.startswith(_VECTORS)]
