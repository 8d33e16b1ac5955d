"""Keep the tables of an index small and fast: compaction, removal of old versions, and the vector index."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

VERSIONS_KEPT = timedelta(minutes=10)  # longer than any search takes, so that it can read its version to the end
VECTORS_INDEXED_FROM = 50_000  # windows; a vector index of fewer costs more than it saves
SCALARS_INDEXED_FROM = 50_000  # rows; fewer are scanned in a millisecond
_REBUILT_AT = 4  # rebuild the vector index when it has this many times as many windows
_VECTORS = "vectors_"  # prefix of the vector index's name; the number of windows it was built from follows

# A compaction rewrites all rows. It is due when the rows added since the last compaction are half as many as that one
# wrote, so that all compactions together write about three times the data. Fragments are limited because each commit
# lists them all.
_FRAGMENTS, _MAX_FRAGMENTS = 32, 512
_GARBAGE = 1.25  # old versions are removed if they take this many times the live bytes; a compaction leaves 1.0
_GARBAGE_BYTES = 1 << 20


def tidy(table: Any, folder: Path | None) -> None:
    """Compact a table and remove its old versions if that saves more than it costs.

    Args:
        table: a LanceDB table.
        folder: folder of the table; None in an object store, where only a compaction removes old versions.
    """
    if _needs_compaction(table) or _has_old_versions(table, folder):
        table.optimize(cleanup_older_than=VERSIONS_KEPT)


def compact(table: Any) -> None:
    """Compact a table and remove all its old versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # warns that running searches may fail, as our docs do
        table.optimize(cleanup_older_than=timedelta(0))


def compact_fragments(table: Any, most: int) -> None:
    """Compact a table if it has many small fragments, without rewriting large ones.

    Args:
        table: a LanceDB table.
        most: the number of small fragments that it may have.
    """
    if table.stats()["fragment_stats"]["num_small_fragments"] > most:
        table.optimize(cleanup_older_than=VERSIONS_KEPT)


def update_scalar_index(table: Any, *columns: str) -> None:
    """Build an index of each of these columns if a table has enough rows; compactions keep it up to date."""
    from lancedb.index import BTree

    if table.count_rows() < SCALARS_INDEXED_FROM:
        return
    indexed = {column for index in table.list_indices() for column in index.columns}
    for column in columns:
        if column not in indexed:
            table.create_index(column, config=BTree(), name=f"{column}_index")


def _needs_compaction(table: Any) -> bool:
    stats = table.stats()["fragment_stats"]
    fragments, largest = stats["num_fragments"], stats["lengths"]["max"]
    rows = table.count_rows()
    stored = stats["lengths"]["mean"] * fragments  # includes deleted rows
    is_split = fragments >= _FRAGMENTS and 2 * (stored - largest) >= largest
    return bool(is_split or fragments >= _MAX_FRAGMENTS or stored - rows > max(rows // 2, _FRAGMENTS))


def _has_old_versions(table: Any, folder: Path | None) -> bool:
    if folder is None:
        return False
    live = table.stats()["total_bytes"]
    if disk_bytes(folder) - live < _GARBAGE * live + _GARBAGE_BYTES:
        return False
    # Removing versions also compacts. During a series of adds, some version is always old enough to be removed, so each
    # add would rewrite the whole table. So wait until the oldest version is twice as old.
    versions = table.list_versions()
    age = datetime.now() - versions[0]["timestamp"].replace(tzinfo=None)
    return len(versions) > 1 and bool(age > 2 * VERSIONS_KEPT)


def disk_bytes(folder: Path) -> int:
    """Return the total size of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # another process may remove the file meanwhile
                total += Path(parent, name).stat().st_size
    return total


def windows_at_last_build(table: Any) -> int:
    """Return the number of windows from which the vector index was built; 0 if there is none.

    Windows added later go into the existing partitions, which become larger and less suitable.
    """
    return max((int(name.removeprefix(_VECTORS)) for name in _vector_indexes(table)), default=0)


def update_vector_index(table: Any) -> None:
    """Build the vector index if there are enough windows, or several times as many as at its last build."""
    if table.count_rows() >= max(VECTORS_INDEXED_FROM, _REBUILT_AT * windows_at_last_build(table)):
        build_vector_index(table)


def build_vector_index(table: Any) -> None:
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
