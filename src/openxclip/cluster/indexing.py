"""`index_on_cluster`: fill an index from many machines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openxclip.cluster.collecting import Collector
from openxclip.cluster.connecting import connected
from openxclip.cluster.feeding import Feed
from openxclip.cluster.jobs import Job, OnVideo, Work, fetching_options, name_for_workers
from openxclip.cluster.placing import Layout
from openxclip.cluster.pool import Pool
from openxclip.cluster.reporting import OnReport, Totals
from openxclip.cluster.results import BulkResult, IndexResults
from openxclip.cluster.running import Run
from openxclip.cluster.session import (
    Say,
    Session,
    check_packages,
    checked_store,
    mention_recovered,
    open_videos,
    plan_of,
    writing,
)
from openxclip.cluster.settings import IndexSettings
from openxclip.search.bulk.objects import ambient_options
from openxclip.search.paths import absolute_target

if TYPE_CHECKING:
    from openxclip.pipeline import VideoPipeline
    from openxclip.search.bulk.items import Source
    from openxclip.search.bulk.planning import Plan
    from openxclip.search.bulk.receipts import Receipt
    from openxclip.video import ReadOptions

_PASSES = 3  # over the source: another one finds what was lost with a worker


@dataclass(frozen=True, kw_only=True)
class IndexJob(Job):
    """Writes the windows of videos into an index.

    Attributes:
        uri: place of the index.
    """

    uri: str

    def begin(self, pipeline: VideoPipeline, read: ReadOptions, on_video: OnVideo) -> Work:
        """Begin to work in a worker's process."""
        from openxclip.search.bulk.work import BulkWorker

        return BulkWorker(
            self.uri, pipeline, read=read, batch=self.batch, on_video=on_video, **fetching_options(pipeline)
        )


def index_on_cluster(
    source: str | Path | None,
    to: str | Path,
    *,
    address: str = "auto",
    settings: IndexSettings | None = None,
    layout: Layout | None = None,
    hidden: bool = False,
    retry_failed: bool = False,
    max_failures: int | None = None,
    on_report: OnReport = lambda report: None,
    say: Say = lambda text: None,
) -> BulkResult:
    """Fill an index from all machines of a Ray cluster; the twin of `openxclip index --cluster`.

    Workers read and encode chunks of videos, and write their windows to the store without committing them. This
    process commits them, about once a minute, so that killed workers, machines or drivers lose no committed video, and
    the same call resumes. Videos that fail are written to the index's table of failures.

    Args:
        source: a folder, `s3://bucket/prefix`, or a manifest (.parquet, .csv, .jsonl) with a column `path`, whose other
            columns become columns of the index; None reads the table of failures, with `retry_failed`.
        to: place of the index: a folder that all machines share, or an object store.
        address: "auto" for the cluster that runs, "local" to start one on this machine, or HOST:PORT.
        settings: the model and the windows.
        layout: how the machines are used.
        hidden: include hidden files and folders of a source.
        retry_failed: try again the videos that failed before.
        max_failures: stop when more videos have failed; the default is more than half of at least 100.
        on_report: called about twice a second.
        say: called with messages for the user.

    Raises:
        ValueError: an argument is invalid, or there is no such source.
        ClusterError: there is no cluster, or it can't do the work.
        StoreError: the store can't be used, or another process holds the lease of the index.
        TooManyFailuresError: too many videos failed.
        VideoIndexError: the index can't be read or written.
        CheckpointError: the model can't be found or loaded.
    """
    if source is None and not retry_failed:
        raise ValueError("source=None: name a folder, a prefix or a manifest, or use retry_failed=True.")
    began = time.monotonic()
    settings, layout = settings or IndexSettings(), layout or Layout()
    layout.check()
    check_packages()
    index = settings.open(absolute_target(to))
    videos = open_videos(source, index, hidden=hidden)
    checked_store(index, say)
    with (
        connected(address) as ray,
        writing(index, "openxclip index --cluster", columns=videos.columns, say=say) as session,
    ):
        index.check_model()
        index.release_model()  # the workers have their own
        return _Indexing(ray, session, settings, layout, say).run(
            videos, retry_failed=retry_failed, max_failures=max_failures, on_report=on_report, began=began
        )


class _Indexing:
    """The work of one call, while the lease is held."""

    def __init__(self, ray: Any, session: Session, settings: IndexSettings, layout: Layout, say: Say) -> None:
        self._ray, self._session, self._settings, self._layout, self._say = ray, session, settings, layout, say
        info = session.index.info
        assert info is not None  # the session has created it
        name = settings.model if settings.model is not None else info.model
        if name is None or not isinstance(name, str | Path):
            raise ValueError("the model was never saved to a file, so that other machines can't load it: save it.")
        self._info = info
        self._uri = session.index.store.uri
        self._job = IndexJob(
            model=name_for_workers(name),
            precision=settings.precision,
            batch=settings.batch,
            read=settings.read,
            environment=ambient_options(),
            uri=self._uri,
        )

    def run(
        self, source: Source, *, retry_failed: bool, max_failures: int | None, on_report: OnReport, began: float
    ) -> BulkResult:
        committer = self._session.committer
        mention_recovered(committer.recover(), self._say)
        again: set[str] = set()  # videos whose windows couldn't be used, of receipts that overlap

        def commit(receipts: list[Receipt]) -> None:
            again.update(committer.commit(receipts).again)

        plans: list[Plan] = []
        totals = Totals(lambda: _planned(plans), max_failures)
        collector = Collector(commit)
        results = IndexResults(collector, self._info)
        pool = Pool(self._ray, self._job, self._layout, self._say)
        try:
            for number in range(_PASSES):
                plans.append(plan_of(source, self._uri, retry_failed=retry_failed and number == 0))
                has_crashes = self._pass(plans[-1], pool, results, totals, on_report)
                collector.flush()
                if has_crashes:  # perhaps after they had written a receipt
                    again.update(committer.recover().again)
                if not again:
                    break
                again.clear()
        finally:
            pool.close()
            collector.close()
        collector.check()
        totals.stage = "commit"
        on_report(totals.report())
        committer.finish(compact=True, vectors=True)
        counts = plans[0].counts
        return BulkResult(
            uri=self._uri, videos=totals.videos - totals.failed, windows=totals.windows, footage=totals.footage,
            failed=totals.failed, reasons=dict(totals.reasons.most_common()), done_before=counts.done,
            failed_before=counts.failed, seconds=time.monotonic() - began, notes=tuple(source.notes),
        )  # fmt: skip

    def _pass(self, plan: Plan, pool: Pool, results: IndexResults, totals: Totals, on_report: OnReport) -> bool:
        """Handle all videos of a plan, and return whether workers ended meanwhile."""
        feed = Feed(plan)
        try:
            run = Run(self._ray, pool, feed, results, totals, on_look=lambda: on_report(totals.report()), say=self._say)
            run.work()
        finally:
            feed.close()
        return run.crashes > 0


def _planned(plans: list[Plan]) -> tuple[int, bool]:
    """Return the number of videos that were planned, and whether those are all."""
    return sum(plan.counts.left for plan in plans), all(plan.counts.is_complete for plan in plans)
