"""What a bulk run over an index did, and how the receipts of its workers become commits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openxclip.cluster.collecting import Collector
from openxclip.cluster.reporting import Done
from openxclip.search.bulk.failures import Failure
from openxclip.search.bulk.receipts import Receipt, new_id
from openxclip.search.bulk.rows import encoding_options, new_video
from openxclip.search.columns import columns_to_text
from openxclip.search.schema import FileStamp

if TYPE_CHECKING:
    from openxclip.search.bulk.items import SourceItem
    from openxclip.search.schema import IndexInfo


@dataclass(frozen=True, kw_only=True)
class BulkResult:
    """What a bulk run over an index did.

    Attributes:
        uri: place of the index.
        videos: number of videos that were indexed.
        windows: number of their windows.
        footage: their length, in seconds.
        failed: number of videos that could not be indexed; they are in the table of failures.
        reasons: how often each reason occurred.
        done_before: number of videos that the index had already.
        failed_before: number of videos of the source that could not be indexed before, and were not tried again.
        waiting: number of videos that are indexed, and wait for a commit.
        missing: after `commit_parts`, number of videos of the source that no part has tried; None without a source.
        first_missing: the paths of the first of them.
        seconds: how long it took.
        notes: sentences about what the source left out.
    """

    uri: str
    videos: int = 0
    windows: int = 0
    footage: float = 0.0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    done_before: int = 0
    failed_before: int = 0
    waiting: int = 0
    missing: int | None = None
    first_missing: tuple[str, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def done_by(receipt: Receipt) -> Done:
    """Return what a receipt says about its videos."""
    complete = receipt.complete
    return Done(
        videos=len(complete) + len(receipt.unchanged) + len(receipt.failures),
        windows=sum(video.windows for video in complete),
        footage=sum(video.duration for video in complete if not math.isnan(video.duration)),
        failures=tuple((failure.path, failure.reason) for failure in receipt.failures),
    )


class IndexResults:
    """Takes the receipts of workers, and gives them to the thread that commits.

    Args:
        collector: commits receipts.
        info: description of the index.
    """

    def __init__(self, collector: Collector, info: IndexInfo) -> None:
        self._collector, self._info = collector, info

    def add(self, result: Receipt) -> Done:
        """Take a worker's receipt."""
        self._collector.add(result)
        return done_by(result)

    def add_failure(self, item: SourceItem, reason: str, attempts: int, node: str) -> Done:
        """Take a video that ended workers, as a receipt without windows."""
        columns = columns_to_text(item.columns)
        failure = Failure(path=item.path, reason=reason, attempts=attempts, node=node, columns=columns)
        stamp = FileStamp(item.size, item.modified, 0, 0)
        row = new_video(item.path, "", stamp, self._info, state="failed", reason=reason)
        receipt = Receipt(
            id=new_id(), weights=self._info.weights, options=encoding_options(self._info), fragments=[], videos=[row],
            failures=[failure], node=node,
        )  # fmt: skip
        return self.add(receipt)

    @property
    def is_behind(self) -> bool:
        """Whether more receipts wait than should."""
        return self._collector.is_behind

    def check(self) -> None:
        """Raise what a commit raised."""
        self._collector.check()
