"""Append the fragments of receipts to an index's table of windows, each of them once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from openxclip.errors import VideoIndexError
from openxclip.search.bulk.lance_versions import import_lance
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.receipts import Receipt
from openxclip.search.bulk.tables import delete_windows, windows_per_video
from openxclip.search.bulk.writing import data_files, lance_errors, object_name, open_windows
from openxclip.search.connecting import storage_options
from openxclip.search.store import Store

# Files that no version of a table names are deleted a week after they were written, by any compaction
_OLD_S = 6 * 24 * 3600.0


class Appender:
    """Appends fragments.

    Args:
        store: the index.
        objects: its place.
    """

    def __init__(self, store: Store, objects: Objects) -> None:
        self._store, self._objects = store, objects

    def lost(self, receipts: Sequence[Receipt], begun: Collection[int]) -> list[Receipt]:
        """Return the receipts of which files are gone, because they were left uncommitted for a week.

        Args:
            receipts: receipts.
            begun: ids of videos that an interrupted commit may have appended.
        """
        old = [receipt for receipt in receipts if time.time() - receipt.created > _OLD_S or _has(receipt, begun)]
        present = self._fragments_by_file(open_windows(self._store.uri)) if old else {}
        lost = []
        for receipt in old:
            files = [file for fragment in receipt.fragments for file in data_files(fragment) if file not in present]
            is_gone = any(not self._objects.exists(object_name(file)) for file in files)
            if is_gone and not self._is_appended(receipt):
                lost.append(receipt)
        return lost

    def append(self, receipts: Sequence[Receipt], begun: Collection[int]) -> None:
        """Append the fragments that the table doesn't have, in one commit.

        Args:
            receipts: receipts, no two of the same video.
            begun: ids of videos that an interrupted commit may have appended.

        Raises:
            StoreError, VideoIndexError: the table can't be read or written.
        """
        lance = import_lance()
        dataset = open_windows(self._store.uri)
        present = self._fragments_by_file(dataset)
        missing: list[str] = []
        for receipt in receipts:
            new = [
                fragment for fragment in receipt.fragments if any(file not in present for file in data_files(fragment))
            ]
            if new and _has(receipt, begun):  # a compaction gives the windows of a commit other files
                if self._is_appended(receipt):
                    continue
                delete_windows(self._store, {row.id for row in receipt.complete})
                new, dataset = receipt.fragments, open_windows(self._store.uri)
            missing += new
        if not missing:
            return
        fragments = [lance.FragmentMetadata.from_json(fragment) for fragment in missing]
        self._commit(dataset, lance.LanceOperation.Append(fragments))
        self._remove_repeated({file for fragment in missing for file in data_files(fragment)})

    def _remove_repeated(self, files: Collection[str]) -> None:
        """Check that the table has these files once: a commit whose answer was lost is sent again by some clients."""
        lance = import_lance()
        dataset = open_windows(self._store.uri)
        present = self._fragments_by_file(dataset)
        if any(file not in present for file in files):
            raise VideoIndexError(
                f"{self._store.uri}: a commit of windows didn't take effect: run the same command again."
            )
        repeated = sorted({number for file in files for number in present[file][1:]})
        if repeated:
            self._commit(dataset, lance.LanceOperation.Delete([], repeated, "false"))

    def _commit(self, dataset: Any, operation: Any) -> None:
        options = storage_options(self._store.uri) or None
        with lance_errors(self._store.uri):
            import_lance().LanceDataset.commit(
                dataset, operation, read_version=dataset.version, storage_options=options
            )

    def _is_appended(self, receipt: Receipt) -> bool:
        """Return whether the table has all windows of a receipt's videos, even if a compaction has moved them."""
        counts = windows_per_video(self._store, {row.id for row in receipt.complete})
        return all(counts[row.id] == row.windows for row in receipt.complete)

    def _fragments_by_file(self, dataset: Any) -> dict[str, list[int]]:
        """Return the numbers of the table's fragments, by the names of their files."""
        numbers: dict[str, list[int]] = defaultdict(list)
        with lance_errors(self._store.uri, "the index can't be read, and may be damaged"):
            for fragment in dataset.get_fragments():
                for file in fragment.data_files():
                    numbers[file.path].append(fragment.fragment_id)
        return dict(numbers)


def _has(receipt: Receipt, ids: Collection[int]) -> bool:
    return any(row.id in ids for row in receipt.complete)
