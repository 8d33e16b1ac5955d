"""Make an index of made-up windows, and receipts for it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from openxclip.search.bulk.committing import Committer
from openxclip.search.bulk.failures import Failure
from openxclip.search.bulk.items import SourceItem
from openxclip.search.bulk.lease import Lease
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.receipts import Receipt, new_id
from openxclip.search.bulk.rows import encoding_options, new_video
from openxclip.search.bulk.writing import FragmentWriter
from openxclip.search.opening import OpenIndex
from openxclip.search.schema import FileStamp, IndexInfo, VideoRow

WIDTH = 8
INFO = IndexInfo(
    model=None, weights="w", transforms={}, num_frames=4, window=1.0, stride=1.0, sampling="time", patches=False
)


def create_index(uri: str) -> OpenIndex:
    """Create an empty index, and open it."""
    index = OpenIndex(uri, None, {}, {})
    index.create(INFO, WIDTH)
    return index


def video(path: str, *, content: str = "1", windows: int = 2, **values: Any) -> VideoRow:
    """Return the row of a complete video."""
    stamp = FileStamp(len(content), len(content), 0, 0)
    row = new_video(path, content, stamp, INFO, windows=windows, duration=float(windows), width=4, height=2)
    return replace(row, **{"state": "complete", **values})


def failed_video(path: str, *, content: str = "", reason: str = "it is broken") -> VideoRow:
    """Return the row of a video that can't be read."""
    return replace(video(path, content=content, windows=0), state="failed", duration=math.nan, reason=reason)


def rows_of(row: VideoRow, **columns: Any) -> list[dict[str, Any]]:
    """Return the windows of a video, which its id decides."""
    random = np.random.default_rng(row.id)
    return [
        {
            "video": row.id, "path": row.path, "number": number, "start": float(number), "end": number + 1.0,
            "duration": row.duration, "size": row.size, "featureless": False,
            "embedding": random.normal(size=WIDTH).astype(np.float32), "patches": None, **columns,
        }
        for number in range(row.windows)
    ]  # fmt: skip


def write_receipt(
    objects: Objects,
    *videos: VideoRow,
    unchanged: tuple[VideoRow, ...] = (),
    put: bool = True,
    fragment_bytes: int = 1 << 20,
    columns: dict[str, Any] | None = None,
    **values: Any,
) -> Receipt:
    """Write the windows of some videos as fragments, and a receipt."""
    writer = FragmentWriter(objects, fragment_bytes=fragment_bytes)
    for row in videos:
        for window in rows_of(row, **(columns or {})):
            writer.add(window)
        writer.end_video(keep=row.state == "complete")
    receipt = Receipt(**{
        "id": new_id(), "weights": INFO.weights, "options": encoding_options(INFO), "fragments": writer.finish(),
        "videos": list(videos), "node": "here", "unchanged": list(unchanged), "columns": [*(columns or {})],
        "failures": [Failure(path=row.path, reason=row.reason) for row in videos if row.state == "failed"], **values,
    })  # fmt: skip
    if put:
        receipt.put(objects)
    return receipt


class NoLease(Lease):
    """A lease that nobody contests."""

    def __init__(self) -> None:
        pass

    def check(self) -> None:
        pass


def committer(uri: str, objects: Objects | None = None) -> Committer:
    """Return a committer that has just been started."""
    return Committer(OpenIndex(uri, None, {}, {}), objects or Objects.open(uri), NoLease())


def state_of(uri: str) -> tuple[dict[str, tuple[str, int]], list[tuple[Any, ...]]]:
    """Return what an index holds: state and id of each video, and all its windows, hidden ones too, sorted.

    Every window of the table belongs to a row of a video, and each row is there once.
    """
    index = OpenIndex(uri, None, {}, {})
    index.require()
    videos = index.store.videos()
    assert len({row.id for row in videos}) == len(videos)
    _, windows = index.store.tables
    table = windows.to_arrow()
    counts = {row.id: row.windows for row in videos if row.state == "complete"}
    assert {*table["video"].to_pylist()} <= {*counts}
    rows = sorted((row["path"], row["number"], row["video"], tuple(row["embedding"])) for row in table.to_pylist())
    for number in counts:
        assert [row[1] for row in rows if row[2] == number] == list(range(counts[number]))
    return {row.path: (row.state, row.id) for row in videos}, rows


def item(path: str, **values: Any) -> SourceItem:
    """Return a video of a source."""
    return SourceItem(path, **values)
