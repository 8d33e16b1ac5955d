"""What writers need from the tables of an index besides `Store`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

from openxclip.search.schema import State, VideoRow
from openxclip.search.sql import video_in
from openxclip.search.store import Store

_AT_ONCE = 4096  # paths or ids in one condition

_T = TypeVar("_T")


def rows_of_paths(store: Store, paths: Collection[str]) -> list[VideoRow]:
    """Return the videos with these paths, in every state."""
    return [row for some in _parts(sorted(paths)) for row in store.rows_of(some)]


def rows_in_state(store: Store, *states: State) -> list[VideoRow]:
    """Return the videos in one of these states."""
    videos, _ = store.tables
    listed = ", ".join(f"'{state}'" for state in states)
    with store.read_errors():
        return [VideoRow(**row) for row in videos.search().where(f"state IN ({listed})").to_arrow().to_pylist()]


def remove_repeated_rows(store: Store, ids: Collection[int]) -> None:
    """Remove rows of the table of videos whose id another row has too; such rows are equal.

    Some clients send a commit again if its answer is lost, and so insert the same rows twice.
    """
    videos, _ = store.tables
    seen: set[int] = set()
    repeated: list[int] = []
    with store.read_errors():
        for some in _parts(sorted(ids)):
            search = videos.search().where(f"id IN ({', '.join(map(str, some))})").select(["id"]).with_row_id(True)
            for row in search.to_arrow().to_pylist():
                if row["id"] in seen:
                    repeated.append(row["_rowid"])
                seen.add(row["id"])
    if repeated:
        with store.write_errors():
            videos.delete(f"_rowid IN ({', '.join(map(str, repeated))})")


def windows_per_video(store: Store, ids: Collection[int]) -> Counter[int]:
    """Return the number of windows that the table has of each of these videos, whatever the state of the videos."""
    _, windows = store.tables
    counts: Counter[int] = Counter()
    with store.read_errors():
        for some in _parts(sorted(ids)):
            for batch in windows.search().where(video_in(some)).select(["video"]).to_batches():
                counts.update(batch["video"].to_pylist())
    return counts


def metadata_of(store: Store, video: VideoRow | None) -> dict[str, Any]:
    """Return the values of the index's metadata columns in the windows of a video; {} without video or columns."""
    _, windows = store.tables
    if video is None or not store.metadata:
        return {}
    with store.read_errors():
        found = windows.search().where(video_in([video.id])).select(store.metadata).limit(1).to_arrow().to_pylist()
    return found[0] if found else {}


def delete_windows(store: Store, ids: Collection[int]) -> None:
    """Delete the windows of these videos."""
    _, windows = store.tables
    with store.write_errors():
        for some in _parts(sorted(ids)):
            windows.delete(video_in(some))


def _parts(values: Sequence[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(values), _AT_ONCE):
        yield list(values[start : start + _AT_ONCE])
