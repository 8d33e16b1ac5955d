"""Make the windows of receipts part of an index, so that a kill between any two steps loses and doubles nothing.

Under the lease of the index, for some receipts at a time:

1. Receipts of videos that the index has, or that an earlier receipt has, are left out.
2. The new videos get rows with the state "reading", in one commit.
3. Their fragments are appended, in one commit.
4. The rows become "complete"; rows of videos that failed are written, and rows of replaced versions become "removed",
   in one commit. Then the windows of replaced versions are deleted, and dead letters are written.
5. The receipts are deleted.

Each step can be done again. So whoever finds receipts does all steps; what is done already changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from openxclip.search import maintenance
from openxclip.search.bulk.appending import Appender
from openxclip.search.bulk.failures import Failure, Failures
from openxclip.search.bulk.lease import Lease
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.patience import patiently
from openxclip.search.bulk.receipts import Receipt, waiting
from openxclip.search.bulk.rows import encoding_options, new_video
from openxclip.search.bulk.tables import remove_repeated_rows, rows_in_state, rows_of_paths
from openxclip.search.bulk.writing import rows_in
from openxclip.search.opening import OpenIndex
from openxclip.search.schema import FileStamp, IndexInfo, VideoRow

AT_ONCE = 256  # receipts in one commit
# Small fragments that are left until the next compaction: few of the table in which each commit looks videos up, and
# more of the large one, so that each window is rewritten about twice.
_SMALL_VIDEOS, _SMALL_WINDOWS, _FEW_FRAGMENTS = 64, 512, 32
_UNKNOWN = FileStamp(0, 0, 0, 0)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Committed:
    """What a commit did.

    Attributes:
        videos: number of videos that became searchable.
        windows: number of their windows.
        failed: number of videos that failed.
        again: paths of videos that have to be indexed again, because their receipt was refused.
        refused: number of receipts that were refused; damaged ones are deleted and not counted.
        interrupted: number of videos that an interrupted writer left incomplete, and that were removed.
    """

    videos: int = 0
    windows: int = 0
    failed: int = 0
    again: tuple[str, ...] = ()
    refused: int = 0
    interrupted: int = 0

    def __add__(self, other: Committed) -> Committed:
        return Committed(
            videos=self.videos + other.videos,
            windows=self.windows + other.windows,
            failed=self.failed + other.failed,
            again=self.again + other.again,
            refused=self.refused + other.refused,
            interrupted=self.interrupted + other.interrupted,
        )


class Committer:
    """Commits receipts to an index. Threads may share it.

    Args:
        index: the index, which exists.
        objects: its place; while the store doesn't answer, everything is tried again for as long as it waits.
        lease: the lease of the index.

    Raises:
        MissingPackageError: pylance isn't installed.
        VideoIndexError: pylance doesn't fit LanceDB, or there is no index.
    """

    def __init__(self, index: OpenIndex, objects: Objects, lease: Lease) -> None:
        self._info = index.require()
        self._store, self._objects, self._lease = index.store, objects, lease
        self._appender = Appender(index.store, objects)
        self._failures = Failures(index.store.uri)
        self._lock = threading.RLock()

    def commit(self, receipts: Sequence[Receipt]) -> Committed:
        """Commit receipts, and delete them from the store.

        Raises:
            LeaseLostError: this process no longer holds the lease.
            StoreError: the store refuses, or didn't answer for too long.
            VideoIndexError: the index can't be read or written, or another process of this machine is writing to it.
        """
        done = Committed()
        for start in range(0, len(receipts), AT_ONCE):
            some = receipts[start : start + AT_ONCE]
            done += self._do(lambda some=some: self._commit(some))  # type: ignore[misc]
        return done

    def recover(self) -> Committed:
        """Commit the receipts that wait in the store, and remove what interrupted writers left.

        Raises as `commit`.
        """
        done = Committed()
        while names := self._do(lambda: sorted(islice(waiting(self._objects), AT_ONCE))):
            done += self._do(lambda names=names: self._commit_named(names))  # type: ignore[misc]
        return done + self._do(self._remove_interrupted)

    def finish(self, *, compact: bool = True, vectors: bool = True) -> None:
        """Compact the tables if that saves something, and build or update their indexes.

        Args:
            compact: compact.
            vectors: build or update the index of embeddings.

        Raises as `commit`.
        """

        def work() -> None:
            videos, windows = self._store.tables
            with self._store.write_errors():
                if compact:
                    for table in (videos, windows):
                        maintenance.compact_fragments(table, _FEW_FRAGMENTS)
                        maintenance.tidy(table, self._store.folder and self._store.folder / f"{table.name}.lance")
                self._lease.check()
                maintenance.update_scalar_index(videos, "path", "id")
                maintenance.update_scalar_index(windows, "video")
                self._lease.check()
                if vectors:
                    maintenance.update_vector_index(windows)
            self._store.refresh()

        self._do(work)

    def _do(self, work: Callable[[], _T]) -> _T:
        """Do some work as the only writer; if the store doesn't answer, do it again from its beginning."""

        def locked() -> _T:
            self._lease.check()
            with self._store.writing(self._lease):
                return work()

        with self._lock:
            return patiently(locked, self._objects)

    # -- the protocol ------------------------------------------------------------------------------------------------

    def _commit_named(self, names: Sequence[str]) -> Committed:
        receipts, damaged = [], []
        for name in names:
            found = self._objects.get(name)
            if found is None:
                continue
            try:
                receipts.append(Receipt.from_json(found[0]))
            except ValueError:
                damaged.append(name)
        done = self._commit(receipts)
        if damaged:
            self._objects.on_wait(
                f"{self._objects.uri}: damaged receipts are deleted, and their videos have to be indexed again: "
                f"{len(damaged)}, such as {damaged[0]}."
            )
            self._lease.check()
            self._objects.delete(damaged)
        return done

    def _commit(self, receipts: Sequence[Receipt]) -> Committed:
        """Commit some receipts, by the steps above."""
        known = _Known(rows_of_paths(self._store, {path for receipt in receipts for path in receipt.paths}))
        batch = _Batch(self._info, known)
        for receipt in {receipt.id: receipt for receipt in receipts}.values():
            batch.add(receipt)
        for receipt in self._appender.lost(batch.accepted, known.begun):
            batch.refuse(receipt)

        # Without windows, so that a process that resumes the video later, by itself, begins at its start
        self._put([replace(row, state="reading", windows=0) for row in batch.complete])
        self._lease.check()
        self._appender.append(batch.accepted, known.begun)
        self._store.refresh()

        removed = batch.removed()
        self._put([*batch.final_rows(), *(row for row in removed if row.state == "removed")])
        self._lease.check()
        self._store.remove_videos(removed)
        self._record(batch)
        self._lease.check()
        Receipt.delete(self._objects, receipts)
        self._keep_few_fragments()
        return batch.result()

    def _put(self, rows: Sequence[VideoRow]) -> None:
        self._lease.check()
        self._store.put_videos(rows)
        remove_repeated_rows(self._store, {row.id for row in rows})

    def _record(self, batch: _Batch) -> None:
        """Write the dead letters of a batch, and remove those of videos that could be read this time."""
        self._lease.check()
        self._failures.record(batch.failures)
        if batch.read and self._failures.count():
            self._failures.remove(batch.read)

    def _remove_interrupted(self) -> Committed:
        """Remove what no receipt names: videos that were being written, and replaced versions of others."""
        rows = rows_in_state(self._store, "reading", "removed")
        self._lease.check()
        self._store.remove_videos(rows)
        return Committed(interrupted=sum(row.state == "reading" for row in rows))

    def _keep_few_fragments(self) -> None:
        self._lease.check()
        videos, windows = self._store.tables
        with self._store.write_errors():
            maintenance.compact_fragments(videos, _SMALL_VIDEOS)
            maintenance.compact_fragments(windows, _SMALL_WINDOWS)
            maintenance.update_scalar_index(videos, "path", "id")
        self._store.refresh()


class _Known:
    """What the index has of the paths of some receipts.

    Attributes:
        complete, failed: rows by path.
        begun: ids of videos that are being written, of which an interrupted commit may have appended the windows.
    """

    def __init__(self, rows: Sequence[VideoRow]) -> None:
        self.complete = {row.path: row for row in rows if row.state == "complete"}
        self.failed = {row.path: row for row in rows if row.state == "failed"}
        self.begun = {row.id for row in rows if row.state == "reading"}
        self.others = [row for row in rows if row.state in ("reading", "removed")]

    def has(self, video: VideoRow) -> bool:
        """Return whether the index has the windows of a video: of the same path and content."""
        row = self.complete.get(video.path)
        return row is not None and (row.id == video.id or (row.content == video.content != ""))


class _Batch:
    """Some receipts that are committed together.

    Attributes:
        accepted: receipts whose fragments are to be appended.
    """

    def __init__(self, info: IndexInfo, known: _Known) -> None:
        self.accepted: list[Receipt] = []
        self._info, self._known = info, known
        self._options = encoding_options(info)
        self._complete: dict[str, VideoRow] = {}  # new videos by path
        self._failed: dict[str, VideoRow] = {}
        self._failures: dict[str, Failure] = {}
        self._unchanged: dict[str, VideoRow] = {}
        self._committed: set[str] = set()  # paths of videos that were committed before their receipt could be deleted
        self._again: list[str] = []
        self._refused = 0

    def add(self, receipt: Receipt) -> None:
        """Accept a receipt, or refuse it as a whole, because its fragments can't be separated."""
        is_fitting = receipt.weights == self._info.weights and receipt.options == self._options
        is_whole = sum(map(rows_in, receipt.fragments)) == sum(row.windows for row in receipt.complete)
        if not (is_fitting and is_whole):
            self.refuse(receipt)
        elif receipt.complete and all(self._known.has(row) for row in receipt.complete):
            self._committed |= {row.path for row in receipt.complete}
            self._note(receipt)
        elif any(self._is_done(row) for row in receipt.complete):
            self.refuse(receipt)
        else:
            self.accepted.append(receipt)
            self._complete.update((row.path, row) for row in receipt.complete)
            self._note(receipt)

    def _note(self, receipt: Receipt) -> None:
        """Note what a receipt says besides its windows."""
        self._unchanged.update((row.path, row) for row in receipt.unchanged)
        self._failures.update((failure.path, failure) for failure in receipt.failures)
        self._failed.update((row.path, row) for row in receipt.videos if row.state == "failed")

    def refuse(self, receipt: Receipt) -> None:
        """Leave a receipt out; its files are deleted with the index's old versions, because some may be in use."""
        if receipt in self.accepted:
            self.accepted.remove(receipt)
            for row in receipt.complete:
                del self._complete[row.path]
        self._refused += 1
        self._again += [row.path for row in receipt.complete if not self._is_done(row)]

    def _is_done(self, video: VideoRow) -> bool:
        return video.path in self._complete or self._known.has(video)

    @property
    def complete(self) -> list[VideoRow]:
        """The rows of new videos."""
        return [replace(row, state="complete") for row in self._complete.values()]

    @property
    def failures(self) -> list[Failure]:
        """Dead letters of videos that could not be read by anybody."""
        return [failure for failure in self._failures.values() if failure.path not in self.read]

    @property
    def read(self) -> set[str]:
        """Paths of videos that could be read, so that they have no dead letters any more."""
        return {*self._complete, *self._committed, *self._unchanged}

    def final_rows(self) -> list[VideoRow]:
        """Return the rows to write when all windows are in the table."""
        failed = {**{failure.path: self._row_of(failure) for failure in self.failures}, **self._failed}
        known = self._known.complete
        unchanged = [
            replace(known[path], size=row.size, modified=row.modified, changed=row.changed, inode=row.inode)
            for path, row in self._unchanged.items()
            if path in known and self._known.has(row) and path not in self._complete
        ]
        failed_rows = [row for path, row in failed.items() if path not in self.read and not self._known.has(row)]
        return [*self.complete, *unchanged, *failed_rows]

    def removed(self) -> list[VideoRow]:
        """Return the rows that are replaced: other versions of the files, and what interrupted writers left of them."""
        written = {row.id for row in self.final_rows()}
        rows = [row for path, row in self._known.complete.items() if self._is_replaced(path)]
        rows += [row for row in self._known.others if row.path in self._complete]
        rows = [replace(row, state="removed") for row in rows]
        rows += [row for path, row in self._known.failed.items() if path in self.read or path in self._failed]
        return [row for row in rows if row.id not in written]

    def _is_replaced(self, path: str) -> bool:
        """Return whether the file has changed; one that can't be reached any more keeps its windows."""
        return path in self._complete or (path in self._failed and self._failed[path].content != "")

    def _row_of(self, failure: Failure) -> VideoRow:
        """Return a row for a video that wasn't read, so that it isn't tried again until it is asked for."""
        return replace(new_video(failure.path, "", _UNKNOWN, self._info), state="failed", reason=failure.reason)

    def result(self) -> Committed:
        """Return what was done."""
        return Committed(
            videos=len(self._complete),
            windows=sum(row.windows for row in self._complete.values()),
            failed=len(self.failures),
            again=tuple(self._again),
            refused=self._refused,
        )
