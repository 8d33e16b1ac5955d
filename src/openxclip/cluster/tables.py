"""Run a job that writes a table on a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openxclip.cluster.connecting import connected
from openxclip.cluster.feeding import Feed
from openxclip.cluster.parts_of_table import Part, Table, not_done
from openxclip.cluster.placing import Layout
from openxclip.cluster.pool import Pool
from openxclip.cluster.reporting import Done, OnReport, Totals
from openxclip.cluster.running import Run
from openxclip.search.bulk.failures import Failure
from openxclip.search.bulk.lease import Lease
from openxclip.search.bulk.probe import check_conditional_writes
from openxclip.search.bulk.sources import open_source

if TYPE_CHECKING:
    from openxclip.cluster.jobs import Job
    from openxclip.cluster.session import Say
    from openxclip.search.bulk.items import Source, SourceItem


@dataclass(frozen=True, kw_only=True)
class TableResult:
    """What a run that writes a table did.

    Attributes:
        uri: place of the table.
        videos: number of videos that got rows.
        rows: number of their rows.
        footage: their length, in seconds.
        failed: number of videos that could not be read.
        failures: place of the Parquet file that has them.
        reasons: how often each reason occurred.
        done_before: number of videos that had their rows already.
        seconds: how long it took.
        notes: sentences about what the source left out.
    """

    uri: str
    videos: int = 0
    rows: int = 0
    footage: float = 0.0
    failed: int = 0
    failures: str = ""
    reasons: dict[str, int] = field(default_factory=dict)
    done_before: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def run_table(
    job: Job,
    source: str | Path,
    table: Table,
    holder: str,
    *,
    address: str,
    layout: Layout,
    hidden: bool,
    max_failures: int | None,
    on_report: OnReport,
    say: Say,
) -> TableResult:
    """Let a cluster write the rows of all videos of a source that the table lacks.

    Args:
        job: makes the rows.
        source, address, layout, hidden, max_failures, on_report, say: see `index_on_cluster`.
        table: the table.
        holder: what this process does, for the message that another process gets.

    Raises:
        Exception: see `index_on_cluster`.
    """
    began = time.monotonic()
    layout.check()
    videos = open_source(source, hidden=hidden)
    if videos.columns.names:
        say(f"the rows have no {', '.join(videos.columns.names)} of the manifest: join them by path.")
    table.check_place()
    if "://" in table.uri:
        check_conditional_writes(table.objects)
    with connected(address) as ray, Lease.take(table.objects, holder):
        planned = _Planned(videos, table.done())
        totals = Totals(lambda: (planned.left, planned.is_complete), max_failures)
        pool, feed = Pool(ray, job, layout, say), Feed(iter(planned))
        try:
            Run(
                ray, pool, feed, _Results(table), totals, on_look=lambda: on_report(totals.report()), say=say
            ).work()  # fmt: skip
        finally:
            feed.close()
            pool.close()
            totals.stage = "commit"
            on_report(totals.report())
            table.settle()
    return TableResult(
        uri=table.uri, videos=totals.videos - totals.failed, rows=totals.windows, footage=totals.footage,
        failed=totals.failed, failures=table.failures, reasons=dict(totals.reasons.most_common()),
        done_before=planned.done, seconds=time.monotonic() - began, notes=tuple(videos.notes),
    )  # fmt: skip


class _Planned:
    """The videos of a source that have no rows.

    Attributes:
        left: number of them so far.
        done: number of videos that have rows.
        is_complete: whether the whole source was seen.
    """

    def __init__(self, source: Source, done: Any) -> None:
        self._source, self._done = source, done
        self.left = self.done = 0
        self.is_complete = False

    def __iter__(self) -> Iterator[list[SourceItem]]:
        seen = 0

        def parts() -> Iterator[list[SourceItem]]:
            nonlocal seen
            for part in self._source.items():
                seen += len(part)
                yield part

        for part in not_done(parts(), self._done):
            self.left += len(part)
            self.done = seen - self.left
            yield part
        self.is_complete = True


class _Results:
    """Takes the records of parts, which the workers have written."""

    is_behind = False

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, result: Part) -> Done:
        """Count a part."""
        return Done(
            videos=len(result.paths) + len(result.failures),
            windows=result.rows,
            footage=result.footage,
            failures=tuple((failure.path, failure.reason) for failure in result.failures),
        )

    def add_failure(self, item: SourceItem, reason: str, attempts: int, node: str) -> Done:
        """Write a video that ended workers as a part without rows."""
        failure = Failure(path=item.path, reason=reason, attempts=attempts, node=node)
        part = Part(
            name=f"failed-{failure.time:.6f}", files=[], paths=[], rows=0, footage=0.0, failures=[failure]
        )  # fmt: skip
        self._table.put(part)
        return self.add(part)

    def check(self) -> None:
        """Nothing is done in another thread that could fail."""
