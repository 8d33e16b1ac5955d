"""Decide which videos of a source are still to be indexed, and group them into chunks of work."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from openxclip.search.bulk.items import Source, SourceItem
from openxclip.search.bulk.known import KnownVideos, Version
from openxclip.search.store import Store

CHUNK_VIDEOS, CHUNK_BYTES = 64, 256 << 20
_LOOKED_UP = 4  # parts of a source that are looked up in the index; for more, the table of videos is read once
_STORE_TIME_NS = 10**9  # some calls of an object store give an object's time in whole seconds, others exactly


@dataclass
class Planned:
    """What a plan found so far, in numbers of videos.

    Attributes:
        seen: videos of the source.
        elsewhere: of them, videos of other parts.
        done: videos that the index has.
        waiting: videos that a worker has finished, and that are not committed yet.
        failed: videos that could not be read before and are not tried again.
        left: videos to index.
        is_complete: whether the whole source was seen.
    """

    seen: int = 0
    elsewhere: int = 0
    done: int = 0
    waiting: int = 0
    failed: int = 0
    left: int = 0
    is_complete: bool = False


class Plan(Iterator[list[SourceItem]]):
    """The videos of a source that are still to be indexed, in chunks; see `plan`.

    Attributes:
        counts: what was found so far. The plan is made while it is iterated, a few thousand videos ahead.
        chunk_videos: the most videos in the next chunk, which the caller may change. The sizes of a manifest's videos
            are unknown, so only their time of work shows which number is right.
    """

    def __init__(
        self, source: Source, store: Store | None, share: tuple[int, int] | None, retry_failed: bool,
        waiting: Collection[str],
    ) -> None:  # fmt: skip
        if share is not None and not 1 <= share[0] <= share[1]:
            raise ValueError(
                f"part {share[0]}/{share[1]}: must be one of 1/{max(1, share[1])} to {share[1]}/{share[1]}."
            )
        self.counts = Planned()
        self.chunk_videos = CHUNK_VIDEOS
        self._source, self._store, self._share = source, store, share
        self._retry_failed, self._waiting = retry_failed, frozenset(waiting)
        self._find: Callable[[Sequence[str]], list[list[Version]]] | None = None  # what the index has of each path
        self._chunks = self._all_chunks()

    def __next__(self) -> list[SourceItem]:
        return next(self._chunks)

    def _all_chunks(self) -> Iterator[list[SourceItem]]:
        chunk: list[SourceItem] = []
        num_bytes = 0
        for part in self._parts():
            for item in self._select(part):
                is_full = len(chunk) >= self.chunk_videos or num_bytes + item.size > CHUNK_BYTES
                if chunk and is_full:
                    yield chunk
                    chunk, num_bytes = [], 0
                chunk.append(item)
                num_bytes += item.size
        self.counts.is_complete = True
        if chunk:
            yield chunk

    def _parts(self) -> Iterator[list[SourceItem]]:
        """Yield the parts of the source, after choosing how to look them up."""
        parts = self._source.items()
        # Videos that are added meanwhile are this run's own, or of other parts, so an empty index stays irrelevant
        if self._store is not None and self._store.has_videos():
            first = deque(islice(parts, _LOOKED_UP))
            if len(first) < _LOOKED_UP:
                self._find = self._look_up
            else:
                known = KnownVideos(self._store)
                self._find = known.of
            while first:
                yield first.popleft()
        yield from parts

    def _look_up(self, paths: Sequence[str]) -> list[list[Version]]:
        assert self._store is not None
        found: dict[str, list[Version]] = {}
        for row in self._store.rows_of(paths):
            found.setdefault(row.path, []).append(Version(row.state, row.size, row.modified))
        return [found.get(path, []) for path in paths]

    def _select(self, part: list[SourceItem]) -> list[SourceItem]:
        """Return the videos of a part of the source that are to be indexed, and count the others."""
        counts = self.counts
        counts.seen += len(part)
        if self._share is not None:
            number, parts = self._share
            mine = [item for item in part if part_of(item.path, parts) == number]
            counts.elsewhere += len(part) - len(mine)
            part = mine
        if self._waiting:
            new = [item for item in part if item.path not in self._waiting]
            counts.waiting += len(part) - len(new)
            part = new
        if self._find is not None:
            known = zip(part, self._find([item.path for item in part]), strict=True)
            part = self._with_contents([(item, rows) for item, rows in known if self._is_left(item, rows)])
        counts.left += len(part)
        return part

    def _is_left(self, item: SourceItem, rows: Iterable[Version]) -> bool:
        states = {row.state for row in rows if _is_same_version(item, row)}
        if "complete" in states:
            self.counts.done += 1
            return False
        if "failed" in states and not self._retry_failed:
            self.counts.failed += 1
            return False
        return True

    def _with_contents(self, left: list[tuple[SourceItem, list[Version]]]) -> list[SourceItem]:
        """Add the content that the index has of changed files, so that one with only a new time isn't decoded again."""
        changed = [item.path for item, rows in left if any(row.state == "complete" for row in rows)]
        if not changed:
            return [item for item, _ in left]
        assert self._store is not None
        rows = self._store.rows_of(changed)
        contents = {row.path: row.content for row in rows if row.state == "complete"}
        return [replace(item, content=contents.get(item.path, "")) for item, _ in left]


def plan(
    source: Source,
    store: Store | None,
    *,
    share: tuple[int, int] | None = None,
    retry_failed: bool = False,
    waiting: Collection[str] = (),
) -> Plan:
    """Yield the videos of a source that are still to be indexed, in chunks of at most 64 videos and 256 MiB.

    A video is done if the index has it completely, with the same size and modification time where the source knows
    them. Memory grows neither with the source nor with the index: a few parts of a source are looked up in the table of
    videos by path, and for more, hashes of all paths of the table are written to a temporary file.

    Args:
        source: the videos.
        store: the index; None if there is none yet.
        share: part I of N, from 1: only the videos whose paths' hashes belong to it.
        retry_failed: also yield videos that could not be read before.
        waiting: paths that wait to be committed, which aren't planned again.

    Raises:
        ValueError: there is no such part. While the plan is iterated: the source can't be listed, or has no videos.
        VideoIndexError: the index can't be read, while the plan is iterated.
        StoreError: the object store doesn't answer, or the disk for temporary files is full, likewise.
    """
    return Plan(source, store, share, retry_failed, waiting)


def part_of(path: str, parts: int) -> int:
    """Return which of N parts a path belongs to, from 1; the same on every machine."""
    return 1 + zlib.crc32(path.encode()) % parts


def _is_same_version(item: SourceItem, row: Version) -> bool:
    """Return whether the index's video has the item's size and time, as far as both are known."""
    if not item.modified or not row.modified:
        return True
    tolerance = _STORE_TIME_NS if "://" in item.path else 0
    return item.size == row.size and abs(item.modified - row.modified) <= tolerance
