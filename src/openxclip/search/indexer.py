"""Encode files and write their windows into an index."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from openxclip.common.files import NOT_UTF8, is_utf8
from openxclip.errors import VideoError, VideoIndexError
from openxclip.pipeline.batching import Batch, EncodedClip
from openxclip.search.bulk.rows import PLAN, encoding_options, new_video, reading_options, window_row, with_window
from openxclip.search.bulk.tables import metadata_of
from openxclip.search.opening import OpenIndex
from openxclip.search.paths import content_hash, file_stamp, is_in_store, is_missing
from openxclip.search.results import Added
from openxclip.search.schema import FileStamp, State, VideoRow
from openxclip.video import ClipPlan, ReadOptions
from openxclip.video.memory import MemoryVideo

_COMMIT_EVERY_S = 60.0
_COMMIT_EVERY_BYTES = 64 << 20

OnVideo = Callable[[str, VideoError | None], object]
OnClip = Callable[[str, float, float], object]


@dataclass
class _Pending:
    """Work that is not committed yet."""

    windows: list[dict[str, Any]] = field(default_factory=list)
    num_bytes: int = 0  # of the windows' embeddings and patches
    complete: list[VideoRow] = field(default_factory=list)
    failed: list[VideoRow] = field(default_factory=list)


@dataclass
class _Recognised:
    """Files whose content the index has, found in the thread that reads files ahead and not committed yet."""

    touched: list[VideoRow] = field(default_factory=list)  # files with new times but the same content
    copies: list[tuple[VideoRow, VideoRow]] = field(default_factory=list)  # a complete video, a file with its content


class Indexer:
    """Encodes videos and commits their windows every minute or 64 MiB, even within a long video.

    Args:
        index: the index; the caller holds its lock.
        batch, read, on_video, on_clip: see `VideoIndex.add`.

    Raises:
        ValueError: the options decode other frames than the index's, or read files that are cut off.
    """

    def __init__(
        self,
        index: OpenIndex,
        *,
        batch: Batch = "auto",
        read: ReadOptions | None = None,
        on_video: OnVideo = lambda path, error: None,
        on_clip: OnClip = lambda path, end, duration: None,
    ) -> None:
        self._store, self._pipeline, self._on_video, self._on_clip = index.store, index.pipeline(), on_video, on_clip
        assert index.info is not None  # the index was created when its model was loaded
        self._info = index.info
        self._plan = ClipPlan(**{name: getattr(index.info, name) for name in PLAN})
        self._options = encoding_options(index.info)
        read = reading_options(index.info, read or self._pipeline.read)
        self._encoding: dict[str, Any] = {"batch": batch, "read": read}

        self._removed: list[VideoRow] = []  # left by a killed writer
        self._known: dict[State, dict[str, VideoRow]] = {"complete": {}, "failed": {}, "reading": {}, "removed": {}}
        self._states: dict[int, State] = {}  # of all rows in the table, by id
        for row in self._store.videos():
            self._known[row.state][row.path] = row
            self._states[row.id] = row.state
            if row.state == "removed":
                self._removed.append(row)
        self._complete_by_content = {row.content: row for row in self._known["complete"].values() if row.content}

        self._started: dict[str, VideoRow] = {}  # videos to decode, by path; filled in the thread that reads them
        self._current: VideoRow | None = None  # the video whose clips are arriving
        self._columns: dict[str, Any] = {}  # its metadata: what the version of the file has that is replaced
        self._announced: set[int] = set()  # ids of started videos that have a row in the table
        self._pending, self._recognised = _Pending(), _Recognised()
        self._recognising = threading.Lock()  # no video is removed between its choice as a source and the copying
        self._committed_at = time.monotonic()
        self._is_committing = False

        self._added: list[str] = []
        self._unchanged: list[str] = []
        self._moved: list[tuple[str, str]] = []
        self._errors: list[VideoError] = []

    @property
    def result(self) -> Added:
        """Result for the videos processed so far."""
        return Added(
            added=tuple(self._added),
            unchanged=tuple(self._unchanged),
            errors=tuple(self._errors),
            moved=tuple(self._moved),
        )

    def add_files(self, paths: list[str]) -> None:
        """Encode and commit files, interrupted ones first. If this call is interrupted, commit what is done."""
        self._remove(self._removed)
        try:
            for path in paths:
                if path in self._known["reading"]:
                    self._resume(path)
            self._encode(self._select_sources(path for path in paths if path not in self._started), first=0)
        except BaseException:
            if not self._is_committing:  # an interrupted commit may have taken effect: don't repeat it
                with suppress(VideoIndexError):
                    self._commit()
            raise
        self._commit()
        for path in self._unchanged:
            self._on_video(path, None)

    def add_frames(self, video: MemoryVideo, content: str) -> None:
        """Encode and commit frames from memory, whose SHA-256 is `content`."""
        self._remove(self._removed)
        row = new_video(video.name, content, FileStamp(0, 0, 0, 0), self._info, kind="frames")
        self._started[video.name] = row
        self._encode(iter([video]), first=0)
        self._commit()

    def _resume(self, path: str) -> None:
        """Encode the rest of an interrupted video, or remove its windows if the file or the options have changed."""
        old, new = self._known["reading"].pop(path), self._new_row(path)
        has_same_stamp = new.stamp == old.stamp and any(new.stamp)
        is_same = new.content == old.content and (new.content != "" or has_same_stamp)
        if not is_same or old.options != self._options or new.content in self._complete_by_content:
            self._remove([old])
            return
        self._store.delete_windows(old.id, first=old.windows)  # written, but not counted before the interruption
        self._announced.add(old.id)
        self._started[path] = replace(old, **new.stamp._asdict())
        self._encode(iter([path]), first=old.windows)

    def _select_sources(self, paths: Iterable[str]) -> Iterator[str]:
        """Hash files, and yield the files that must be decoded, because their content isn't in the index."""
        for path in paths:
            row = self._new_row(path)
            with self._recognising:
                known = self._known["complete"].get(path)
                copy = self._complete_by_content.get(row.content)
                if known is not None and row.content and row.content == known.content:
                    self._recognised.touched.append(replace(known, **row.stamp._asdict()))
                    self._unchanged.append(path)
                    continue
                if copy is not None:
                    self._recognised.copies.append((copy, row))
                    continue
            self._started[path] = row
            yield path

    def _new_row(self, path: str) -> VideoRow:
        return new_video(path, content_hash(path), file_stamp(path), self._info)

    def _encode(self, sources: Iterator[str | MemoryVideo], *, first: int) -> None:
        """Encode videos and commit regularly. The `first` clips of the first video are skipped, to resume it."""
        clips = self._pipeline.encode_clips(sources, self._plan, first=first, **self._encoding)
        try:
            for clip in clips:
                name = clip.source.name if isinstance(clip.source, MemoryVideo) else str(clip.source)
                if self._current is None:
                    self._current = self._started[name]
                    self._columns = metadata_of(self._store, self._known["complete"].get(name))
                if clip.features is None:
                    self._finish_video(self._current, clip.error)
                    self._current = None
                else:
                    self._current = self._add_clip(self._current, clip)
                    self._on_clip(name, clip.end, clip.duration)
                seconds = time.monotonic() - self._committed_at
                if seconds > _COMMIT_EVERY_S or self._pending.num_bytes > _COMMIT_EVERY_BYTES:
                    self._commit()
        finally:
            clips.close()

    def _add_clip(self, video: VideoRow, clip: EncodedClip) -> VideoRow:
        row = window_row(video, clip, patches=self._info.patches, columns=self._columns)
        self._pending.windows.append(row)
        self._pending.num_bytes += row["embedding"].nbytes + len(row["patches"] or b"")
        return with_window(video, clip)

    def _finish_video(self, video: VideoRow, error: VideoError | None) -> None:
        if error is None:
            self._pending.complete.append(replace(video, state="complete"))
            self._added.append(video.path)
        else:
            self._pending.windows = [row for row in self._pending.windows if row["video"] != video.id]
            self._pending.failed.append(replace(video, state="failed", windows=0, reason=error.reason))
            self._errors.append(error)
        self._on_video(video.path, error)

    def _commit(self) -> None:
        """Write the pending work, in the order that `VideoRow` describes."""
        self._is_committing = True
        pending, self._pending = self._pending, _Pending()
        replaced = [old for row in (*pending.complete, *pending.failed) for old in self._pop_known(row.path)]
        with self._recognising:
            recognised, self._recognised = self._recognised, _Recognised()
            for old in (*replaced, *(self._known["complete"].get(row.path) for _, row in recognised.copies)):
                if old is not None and self._complete_by_content.get(old.content) is old:
                    del self._complete_by_content[old.content]  # its windows are removed below
        partial = [self._current] if self._current is not None and self._current.windows else []
        self._announce([*pending.complete, *partial])
        self._store.add_windows(pending.windows)

        for row in pending.failed:
            if row.id in self._announced:
                self._store.delete_windows(row.id)
        # Missing files and folders aren't recorded as failed: a folder may have videos the next time.
        failed = [row for row in pending.failed if row.content or row.id in self._announced]
        written = {row.id for row in (*pending.complete, *failed)}  # a row that has the same id is written over
        removed = [replace(row, state="removed") if row.windows else row for row in replaced if row.id not in written]
        with_windows = [row for row in removed if row.windows]
        self._put([*pending.complete, *partial, *failed, *recognised.touched, *with_windows])
        # Remove videos after all copies are made, because a replaced video may be the source of a copy.
        removed += [old for copy in recognised.copies for old in self._take_windows(*copy)]
        self._remove(removed)

        for row in (*pending.complete, *recognised.touched):
            self._known["complete"][row.path] = row
            if row.content:
                self._complete_by_content[row.content] = row
        self._known["failed"].update((row.path, row) for row in failed)
        self._committed_at = time.monotonic()
        self._is_committing = False

    def _announce(self, videos: list[VideoRow]) -> None:
        """Add rows for new videos, which must precede their windows."""
        new = [replace(row, state="reading", windows=0) for row in videos if row.id not in self._announced]
        for row in new:
            if self._states.get(row.id, "failed") != "failed":  # an interrupted writer left windows of the same id
                self._store.delete_windows(row.id)
        self._put(new, new=not any(row.id in self._states for row in new))
        self._announced |= {row.id for row in new}

    def _put(self, videos: list[VideoRow], *, new: bool = False) -> None:
        self._store.put_videos(videos, new=new)
        self._states.update((row.id, row.state) for row in videos)

    def _remove(self, videos: list[VideoRow]) -> None:
        self._store.remove_videos(videos)
        for row in videos:
            self._states.pop(row.id, None)

    def _pop_known(self, path: str) -> list[VideoRow]:
        """Remove the finished rows of a path from the known rows, and return them, to be replaced."""
        rows = [self._known[state].pop(path, None) for state in ("complete", "failed")]
        return [row for row in rows if row is not None]

    def _take_windows(self, source: VideoRow, row: VideoRow) -> list[VideoRow]:
        """Give a file a copy of the windows of a video with the same content, and return the rows to remove.

        These are the rows that the file replaces and, if the video was moved, the video's own.
        """
        replaced = self._pop_known(row.path)
        removed = [replace(old, state="removed") for old in replaced if old.id != row.id]
        metadata: dict[str, Any] | None = metadata_of(self._store, replaced[0] if replaced else None)
        is_moved = source.kind == "file" and is_missing(source.path)
        if is_moved and self._known["complete"].get(source.path) is source:
            del self._known["complete"][source.path]
            removed.append(replace(source, state="removed"))
            self._moved.append((source.path, row.path))
            metadata = None  # it keeps its own
        else:
            self._added.append(row.path)
        video = replace(row, windows=source.windows, duration=source.duration, width=source.width, height=source.height)
        self._announce([video])
        self._store.copy_windows(source, video, metadata)
        video = replace(video, state="complete")
        self._put([video, *removed])
        self._known["complete"][video.path] = self._complete_by_content[video.content] = video
        self._on_video(row.path, None)
        return removed


def skip_known(
    paths: Iterable[str], known: Iterable[VideoRow], *, retry: bool, on_video: OnVideo
) -> tuple[list[str], Added]:
    """Skip files whose result is known without reading them, from their names and stamps.

    Args:
        paths: absolute paths.
        known: rows of the index.
        retry, on_video: see `VideoIndex.add`.

    Returns:
        The files to read, and the result for the skipped ones.

    Raises:
        ValueError: a path is the name of frames from memory.
    """
    rows = {(row.state, row.path): row for row in known}
    to_read: list[str] = []
    unchanged: list[str] = []
    errors: list[VideoError] = []
    for path in paths:
        complete, failed, stamp = rows.get(("complete", path)), rows.get(("failed", path)), file_stamp(path)
        if not is_utf8(path):
            errors.append(VideoError(path, NOT_UTF8))
            on_video(path, errors[-1])
        elif complete is not None and complete.kind == "frames":
            raise ValueError(f"{path}: the index has frames from memory under this name: remove them first.")
        elif complete is not None and (stamp == complete.stamp or is_in_store(path)):  # objects can't be examined here
            unchanged.append(path)
            on_video(path, None)
        elif failed is not None and stamp == failed.stamp and any(stamp) and not retry:
            errors.append(VideoError(path, failed.reason))
            on_video(path, errors[-1])
        else:
            to_read.append(path)
    return to_read, Added(unchanged=tuple(unchanged), errors=tuple(errors))
