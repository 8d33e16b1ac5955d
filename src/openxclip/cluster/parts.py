"""`index_part` and `commit_parts`: fill an index from a job array, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from openxclip.cluster.feeding import Feed
from openxclip.cluster.reporting import OnReport, Totals
from openxclip.cluster.results import BulkResult, done_by
from openxclip.cluster.session import (
    Say,
    check_packages,
    checked_store,
    count_videos,
    mention_unusable,
    open_videos,
    plan_of,
    wait_until_prepared,
    writing,
)
from openxclip.cluster.settings import IndexSettings
from openxclip.errors import LeaseHeldError, VideoError
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.planning import part_of
from openxclip.search.bulk.receipts import Receipt
from openxclip.search.bulk.work import BulkWorker

if TYPE_CHECKING:
    from openxclip.search.bulk.items import Source
    from openxclip.search.opening import OpenIndex

COMMITS_FROM = 256  # receipts of this part that wait
_NAMED = 10  # missing videos


def index_part(
    source: str | Path | None,
    to: str | Path,
    part: tuple[int, int],
    *,
    settings: IndexSettings | None = None,
    hidden: bool = False,
    retry_failed: bool = False,
    max_failures: int | None = None,
    on_report: OnReport = lambda report: None,
    on_video: Callable[[str, VideoError | None], object] = lambda path, error: None,
    say: Say = lambda text: None,
) -> BulkResult:
    """Index one share of a source in this process; the twin of `openxclip index --part I/N`.

    Any number of parts may run at the same time, on any machines. Their windows wait in the store until a part that has
    done much finds the lease free, or until `commit_parts`. The same call resumes a part.

    Args:
        source, to, hidden, retry_failed, max_failures, say: see `index_on_cluster`.
        part: I and N: this is share I of N, counted from 1. All parts must have the same N.
        settings: the model and the windows.
        on_report: called after each video.
        on_video: called after each video with its path, and its error if it can't be read.

    Raises:
        ValueError: an argument is invalid, or there is no such source.
        StoreError: the store can't be used.
        TooManyFailuresError: too many videos failed.
        VideoIndexError: the index can't be read or written.
        CheckpointError: the model can't be found or loaded.
    """
    number, parts = part
    if not 1 <= number <= parts:
        raise ValueError(f"part={number}/{parts}: must be from 1/{parts} to {parts}/{parts}.")
    if source is None and not retry_failed:
        raise ValueError("source=None: name a folder, a prefix or a manifest, or use retry_failed=True.")
    check_packages()
    began, settings = time.monotonic(), settings or IndexSettings()
    index = settings.open(to)
    uri = index.store.uri
    videos = open_videos(source, index, hidden=hidden)
    checked_store(index, say)
    holder = f"openxclip index --part {number}/{parts}"
    wait_until_prepared(index, holder, videos.columns, say)
    pipeline = index.pipeline()
    objects = Objects.open(uri, on_wait=say)

    plan = plan_of(videos, uri, share=part, retry_failed=retry_failed, waiting=_waiting(objects, part))
    totals = Totals(lambda: (plan.counts.left, plan.counts.is_complete), max_failures)
    totals.workers = 1

    def count(path: str, error: VideoError | None, windows: int, footage: float) -> None:
        on_video(path, error)
        on_report(totals.report())

    worker = BulkWorker(uri, pipeline, read=settings.read, batch=settings.batch, on_video=count)
    feed = Feed(plan)
    since_commit = 0
    seconds_per_video: float | None = None
    try:
        while not feed.is_done:
            task = feed.take(1, seconds_per_video)
            if task is None:
                time.sleep(0.05)
                continue
            at = time.monotonic()
            receipt = worker.process(task.items)
            seconds_per_video = (time.monotonic() - at) / len(task.items)
            totals.add(done_by(receipt))
            on_report(totals.report())
            since_commit += 1
            if since_commit >= COMMITS_FROM:
                since_commit = 0 if _try_to_commit(index, holder, say) else since_commit
    finally:
        feed.close()
    counts = plan.counts
    return BulkResult(
        uri=uri, videos=totals.videos - totals.failed, windows=totals.windows, footage=totals.footage,
        failed=totals.failed, reasons=dict(totals.reasons.most_common()), done_before=counts.done,
        failed_before=counts.failed, waiting=counts.waiting + totals.videos - totals.failed,
        seconds=time.monotonic() - began, notes=tuple(videos.notes),
    )  # fmt: skip


def index_here(
    source: str | Path | None,
    to: str | Path,
    *,
    settings: IndexSettings | None = None,
    hidden: bool = False,
    retry_failed: bool = False,
    max_failures: int | None = None,
    on_report: OnReport = lambda report: None,
    on_video: Callable[[str, VideoError | None], object] = lambda path, error: None,
    say: Say = lambda text: None,
) -> BulkResult:
    """Index a manifest or a place in an object store in this process: one part, and its commit.

    Arguments and errors are those of `index_part`.
    """
    settings = settings or IndexSettings()
    result = index_part(
        source, to, (1, 1), settings=settings, hidden=hidden, retry_failed=retry_failed, max_failures=max_failures,
        on_report=on_report, on_video=on_video, say=say,
    )  # fmt: skip
    commit_parts(None, to, settings=settings, say=say)
    return replace(result, waiting=0)


def commit_parts(
    source: str | Path | None,
    to: str | Path,
    *,
    settings: IndexSettings | None = None,
    hidden: bool = False,
    say: Say = lambda text: None,
) -> BulkResult:
    """Commit what all parts have indexed, compact the index, and find what is missing; the twin of `--commit`.

    Args:
        source: the source of the parts, of which missing videos are named; None looks for none.
        to, settings, hidden, say: see `index_on_cluster`.

    Raises:
        ValueError: an argument is invalid, or there is no such source.
        StoreError: the store can't be used, or another process holds the lease of the index.
        VideoIndexError: there is no index, or it can't be read or written.
    """
    check_packages()
    began, settings = time.monotonic(), settings or IndexSettings()
    index = settings.open(to)
    index.require()
    uri = index.store.uri
    videos = None if source is None else open_videos(source, index, hidden=hidden)
    before = count_videos(index)
    with writing(index, "openxclip index --commit", say=say) as session:
        mention_unusable(session.committer.recover(), say)
        session.committer.finish(compact=True, vectors=True)
    after = count_videos(index)
    missing, first, failed = (None, (), 0) if videos is None else _missing(videos, uri)
    return BulkResult(
        uri=uri, videos=after[0] - before[0], windows=after[1] - before[1], failed=after[2], failed_before=failed,
        missing=missing, first_missing=first, seconds=time.monotonic() - began,
        notes=() if videos is None else tuple(videos.notes),
    )  # fmt: skip


def _try_to_commit(index: OpenIndex, holder: str, say: Say) -> bool:
    """Commit all receipts if no other process holds the lease, and return whether that was so."""
    try:
        with writing(index, holder, watch=False, say=say) as session:
            mention_unusable(session.committer.recover(), say)
    except LeaseHeldError:
        return False
    return True


def _waiting(objects: Objects, part: tuple[int, int]) -> set[str]:
    """Return the videos of a part that are finished and wait for a commit."""
    number, parts = part
    return {path for receipt in Receipt.list(objects) for path in receipt.paths if part_of(path, parts) == number}


def _missing(source: Source, uri: str) -> tuple[int, tuple[str, ...], int]:
    """Return how many videos of a source were never indexed, the first of them, and how many failed."""
    count, first = 0, list[str]()
    plan = plan_of(source, uri)
    for chunk in plan:
        count += len(chunk)
        first += [item.path for item in chunk[: _NAMED - len(first)]]
    return count, tuple(first), plan.counts.failed
