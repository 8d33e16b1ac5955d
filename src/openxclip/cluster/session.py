"""Hold an index for writing in bulk: check the store, take the lease, and commit what earlier runs left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openxclip.common.counting import counted
from openxclip.errors import LeaseHeldError, needs_package
from openxclip.search.bulk.committing import Committed, Committer
from openxclip.search.bulk.failures import Failures
from openxclip.search.bulk.items import ListedSource, Source
from openxclip.search.bulk.lance_versions import import_lance
from openxclip.search.bulk.lease import Lease
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.planning import Plan, plan
from openxclip.search.bulk.probe import check_conditional_writes
from openxclip.search.bulk.sources import open_source
from openxclip.search.columns import check_names, new_columns
from openxclip.search.opening import OpenIndex
from openxclip.search.store import Store

_WAITS_FOR_LEASE_S = 120.0  # of a part that only wants to create the index

Say = Callable[[str], object]


@dataclass(frozen=True)
class Session:
    """An index that this process may commit to.

    Attributes:
        index: the index, which exists.
        objects: its place.
        committer: commits receipts to it.
    """

    index: OpenIndex
    objects: Objects
    committer: Committer


@contextmanager
def writing(
    index: OpenIndex, holder: str, *, columns: Any = None, watch: bool = True, say: Say = lambda text: None
) -> Iterator[Session]:
    """Hold an index for a block, after creating it if necessary.

    Args:
        index: the index.
        holder: what this process does, for the message that another process gets.
        columns: pyarrow schema of metadata columns, which the table of windows gets if it lacks them.
        watch: wait to see whether an expired lease is still renewed; see `Lease.take`.
        say: called with messages for the user.

    Raises:
        LeaseHeldError: another process holds it.
        StoreError: the store can't be read or written.
        Exception: see `OpenIndex.pipeline`.
    """
    objects = Objects.open(index.store.uri, on_wait=say)
    with Lease.take(objects, holder, watch=watch) as lease:
        if not is_prepared(index, columns):
            if columns is not None and index.info is None:
                check_names(columns, index.store.uri)
            index.pipeline()  # creates it
            if columns is not None:
                index.store.add_columns(columns)
        yield Session(index, objects, Committer(index, objects, lease))


def check_packages() -> None:
    """Check that what writes an index in bulk is installed, before anything is begun.

    Raises:
        MissingPackageError: a package isn't installed, or doesn't fit the others.
    """
    with needs_package("indexing in bulk", "obstore", "cluster"):
        import obstore.store  # noqa: F401
    import_lance()


def checked_store(index: OpenIndex, say: Say) -> None:
    """Check that the place of an index honours conditional writes, which a folder always does.

    Raises:
        StoreError: it doesn't, or it can't be read or written.
    """
    if index.store.folder is None:
        check_conditional_writes(Objects.open(index.store.uri, on_wait=say))


def wait_until_prepared(index: OpenIndex, holder: str, columns: Any, say: Say) -> None:
    """Create an index and its metadata columns, or wait until another process that has the lease has done so.

    Raises:
        LeaseHeldError: another process holds the lease, and the index is still missing after some minutes.
    """
    deadline = time.monotonic() + _WAITS_FOR_LEASE_S
    while not is_prepared(index, columns):
        try:
            with writing(index, holder, columns=columns, watch=False, say=say):
                return
        except LeaseHeldError:  # noqa: PERF203 (it waits)
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def is_prepared(index: OpenIndex, columns: Any) -> bool:
    """Return whether an index exists and has these metadata columns.

    Raises:
        ValueError: a name can't be used, or the index has the column with another type.
    """
    if index.refresh() is None:
        return False
    return columns is None or not new_columns(columns, index.store.windows_schema, index.store.uri)


def open_videos(source: str | Path | None, index: OpenIndex, *, hidden: bool = False) -> Source:
    """Open a source of videos; None stands for the dead letters of the index.

    Raises:
        ValueError: there is no such source.
    """
    if source is not None:
        videos = open_source(source, hidden=hidden)
        if index.info is None:
            next(videos.items(), None)  # raises the error of an empty source before an index is created for it
        return videos
    uri = index.store.uri
    return ListedSource(f"the failed videos of {uri}", lambda: Failures(uri).items())


def plan_of(source: Source, uri: str, **options: Any) -> Plan:
    """Return the plan of a source, with its own connection to the index, because it is made in another thread."""
    store = Store(uri)
    return plan(source, store if store.open() is not None else None, **options)


def mention_recovered(done: Committed, say: Say) -> None:
    """Say what an earlier run left, if it left something."""
    if done.videos:
        verb = "is" if done.videos == 1 else "are"
        say(f"{counted(done.videos, 'video')} of an earlier run, not committed then, {verb} now in the index.")
    if done.interrupted:
        say(f"{counted(done.interrupted, 'video')}, which an interrupted run left incomplete, will be indexed again.")
    if done.again:
        say(f"{counted(len(done.again), 'video')} will be indexed again, because two workers had indexed some of them.")


def mention_unusable(done: Committed, say: Say) -> None:
    """Say which work of parts a commit could not use."""
    if done.interrupted:
        say(f"{counted(done.interrupted, 'video')}, left incomplete by an interrupted run: run its part again.")
    if done.refused:
        lost = f" {counted(len(done.again), 'video')} must be indexed again: run the parts again." if done.again else ""
        receipts = counted(done.refused, "receipt")
        say(f"{receipts} could not be used, being of another model or of videos indexed twice.{lost}")


def count_videos(index: OpenIndex) -> tuple[int, int, int]:
    """Return the number of searchable videos, of their windows, and of videos that failed."""
    index.refresh()
    videos, _ = index.store.tables
    with index.store.read_errors():
        complete, failed = (int(videos.count_rows(f"state = '{state}'")) for state in ("complete", "failed"))
    return complete, index.store.count_windows(), failed
