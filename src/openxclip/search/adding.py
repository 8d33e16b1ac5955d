"""Reading files into an index: which are new, moved, copied or half done, what is written of them, and when."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from openxclip.common.files import NO_STAMP, stamp_of
from openxclip.errors import VideoError, VideoIndexError
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch, EncodedClip
from openxclip.search.packing import pack
from openxclip.search.parquet import SUFFIX
from openxclip.search.schema import VideoRow, new_id, sampling_of
from openxclip.search.store import Store
from openxclip.video import Limits
from openxclip.video.clips import ClipPlan
from openxclip.video.memory import MemoryVideo
from openxclip.video.streams import is_pipe

_WRITTEN_EVERY_S = 60.0
_WRITTEN_EVERY_BYTES = 64 << 20

OnVideo = Callable[[str, VideoError | None], object]
OnClip = Callable[[str, float, float], object]


class Adding:
    """Encoding files and writing what is done, every minute or 64 MiB, in the middle of a long video too.

    Args:
        store: of the index.
        about: what the index is of.
        pipeline: its model.
        batch, fps, limits, on_video, on_clip: see `VideoIndex.add`.

    Attributes:
        added, unchanged, moved, errors: what came of the files; see `Added`.
    """

    def __init__(
        self,
        store: Store,
        about: Mapping[str, Any],
        pipeline: VideoPipeline,
        *,
        batch: Batch = "auto",
        fps: float | None = None,
        limits: Limits | None = None,
        on_video: OnVideo = lambda path, error: None,
        on_clip: OnClip = lambda path, end, duration: None,
    ) -> None:
        self._store, self._pipeline, self._on_video, self._on_clip = store, pipeline, on_video, on_clip
        how = {name: about[name] for name in ("num_frames", "window", "stride")} | {"sampling": sampling_of(about)}
        self._plan = ClipPlan(**how)
        self._how = json.dumps({**how, "patches": about["patches"]})
        self._patches = about["patches"]
        self._options: dict[str, Any] = {"batch": batch, "fps": fps, "limits": limits}
        self._before: dict[str, dict[str, VideoRow]] = {"complete": {}, "failed": {}, "reading": {}, "removed": {}}
        for row in store.videos():
            self._before[row.state][row.path] = row
        self._of_content = {row.content: row for row in self._before["complete"].values() if row.content}

        # Not written yet
        self._rows: list[dict[str, Any]] = []  # windows
        self._bytes = 0
        self._current: VideoRow | None = None  # the video whose clips are coming
        self._announced: set[int] = set()  # ids that are in the table of videos
        self._done: list[VideoRow] = []
        self._failed: list[VideoRow] = []
        self._touched: list[VideoRow] = []  # files whose time changed but not their content
        self._twins: list[tuple[VideoRow, VideoRow]] = []  # a complete video, and where its content is found too
        self._written = time.monotonic()
        self._is_writing = False

        self._found: dict[str, VideoRow] = {}  # filled by the thread that takes the sources
        self.added: list[str] = []
        self.unchanged: list[str] = []
        self.moved: list[tuple[str, str]] = []
        self.errors: list[VideoError] = []

    def run(self, paths: list[str]) -> None:
        """Encode them all and write; what is done is written even if it is interrupted."""
        self._store.forget(self._before["removed"].values())  # by a writer that was killed
        try:
            for path in paths:
                if path in self._before["reading"]:
                    self._resume(path)
            self._encode(self._sources(path for path in paths if path not in self._found), first=0)
        except BaseException:
            if not self._is_writing:  # else what was not committed yet is lost, and must not be counted as written
                with suppress(VideoIndexError):
                    self._write()
            raise
        self._write()
        for path in self.unchanged:
            self._on_video(path, None)

    def add_frames(self, row: VideoRow, video: MemoryVideo, fps: float) -> None:
        """Encode frames that are in memory, under the name of a row."""
        self._options["fps"] = fps
        self._found[row.path] = replace(row, options=self._how)
        self._encode(iter([video]), first=0)
        self._write()

    def _resume(self, path: str) -> None:
        """Go on with a video that was interrupted, or start again if it has changed."""
        half, now = self._before["reading"].pop(path), self._row_of(path)
        is_same = now.content == half.content and (now.content or (now.stamp == half.stamp and any(now.stamp)))
        if not is_same or half.options != self._how or now.content in self._of_content:
            self._store.forget([half])
            return
        self._store.delete_windows(half.id, after=half.windows)  # written just before the interruption
        self._announced.add(half.id)
        self._found[path] = replace(half, **_stamps(now))
        self._encode(iter([path]), first=half.windows)

    def _sources(self, paths: Iterable[str]) -> Iterator[str]:
        """The files to decode. Each is hashed here; one whose content is known isn't decoded."""
        for path in paths:
            row = self._row_of(path)
            before = self._before["complete"].get(path)
            twin = self._of_content.get(row.content)
            if before is not None and row.content and row.content == before.content:
                self._touched.append(replace(before, **_stamps(row)))
                self.unchanged.append(path)
            elif twin is not None:
                self._twins.append((twin, row))
            else:
                self._found[path] = row
                yield path

    def _row_of(self, path: str) -> VideoRow:
        return VideoRow(id=new_id(), path=path, content=_content(path), options=self._how, **_status(path))

    def _encode(self, sources: Iterator[str | MemoryVideo], *, first: int) -> None:
        encoded = self._pipeline.encode_clips(sources, self._plan, first=first, **self._options)
        try:
            for one in encoded:
                name = one.source.name if isinstance(one.source, MemoryVideo) else str(one.source)
                if self._current is None:
                    self._current = self._found[name]
                if one.features is None:
                    self._end(self._current, one.error)
                    self._current = None
                else:
                    self._add(self._current, one)
                    self._on_clip(name, one.end, one.duration)
                due = time.monotonic() > self._written + _WRITTEN_EVERY_S
                if due or self._bytes > _WRITTEN_EVERY_BYTES:
                    self._write()
        finally:
            encoded.close()

    def _add(self, video: VideoRow, one: EncodedClip) -> None:
        assert one.features is not None
        embedding = F.normalize(one.features.pooled[0].float(), dim=0).cpu().numpy()
        patches = pack(one.features.patches[0].float().cpu().numpy()) if self._patches else None
        self._rows.append(
            {
                "video": video.id, "path": video.path, "number": video.windows, "start": one.start, "end": one.end,
                "duration": one.duration, "size": video.size, "featureless": one.is_featureless, "embedding": embedding,
                "patches": patches,
            }
        )  # fmt: skip
        self._bytes += embedding.nbytes + len(patches or b"")
        width, height = one.size
        self._current = replace(video, windows=video.windows + 1, duration=one.duration, width=width, height=height)

    def _end(self, video: VideoRow, error: VideoError | None) -> None:
        if error is None:
            self._done.append(replace(video, state="complete"))
            self.added.append(video.path)
        else:
            self._rows = [row for row in self._rows if row["video"] != video.id]
            self._failed.append(replace(video, state="failed", windows=0, reason=error.reason))
            self.errors.append(error)
        self._on_video(video.path, error)

    def _write(self) -> None:
        """Commit what is done, in the order that `schema.VideoRow` states."""
        self._is_writing = True
        rows, done, failed, touched, twins = self._rows, self._done, self._failed, self._touched, self._twins
        self._rows, self._done, self._failed, self._touched, self._twins, self._bytes = [], [], [], [], [], 0
        under_way = [self._current] if self._current is not None and self._current.windows else []
        new = [row for row in (*done, *under_way) if row.id not in self._announced]
        self._store.put((replace(row, state="reading", windows=0) for row in new), new=True)
        self._announced |= {row.id for row in new}
        self._store.add_windows(rows)
        replaced = [self._before[state].pop(row.path, None) for row in done for state in ("complete", "failed")]
        for row in failed:
            old = self._before["complete"].pop(row.path, None)
            replaced += [old, self._before["failed"].pop(row.path, None)]
            if row.id in self._announced:
                self._store.delete_windows(row.id, after=0)
        # A file that isn't there and wasn't is not remembered; nor is a folder, which may have videos the next time
        known_failed = [row for row in failed if row.content or row.id in self._announced]
        gone = [replace(row, state="removed" if row.windows else row.state) for row in replaced if row is not None]
        self._store.put([*done, *under_way, *known_failed, *touched, *(row for row in gone if row.windows)])
        self._store.forget(gone)
        taken = [old for twin, row in twins for old in self._take_over(twin, row)]
        self._store.forget(taken)  # not before, for one may be the twin of another
        for row in (*done, *touched):
            self._before["complete"][row.path] = row
            if row.content:
                self._of_content[row.content] = row
        self._before["failed"].update((row.path, row) for row in known_failed)
        self._written = time.monotonic()
        self._is_writing = False

    def _take_over(self, twin: VideoRow, row: VideoRow) -> list[VideoRow]:
        """Give a file the windows of another with the same content: that file was moved here, or this is a copy.

        Returns:
            The rows that this replaces.
        """
        before = [self._before[state].pop(row.path, None) for state in ("complete", "failed")]
        old = [replace(one, state="removed") for one in before if one is not None]
        if twin.kind == "file" and is_gone(twin.path) and self._before["complete"].get(twin.path) is twin:
            del self._before["complete"][twin.path]
            now = replace(twin, path=row.path, **_stamps(row))
            self._store.rename(twin.id, row.path)
            self._store.put([now, *old])
            self.moved.append((twin.path, row.path))
        else:
            now = replace(row, windows=twin.windows, duration=twin.duration, width=twin.width, height=twin.height)
            self._store.put([now], new=True)
            self._store.copy_windows(twin, now)
            now = replace(now, state="complete")
            self._store.put([now, *old])
            self.added.append(row.path)
        self._before["complete"][now.path] = self._of_content[now.content] = now
        self._on_video(row.path, None)
        return old


def sort_out(
    paths: Iterable[str], before: Iterable[VideoRow], *, retry: bool, on_video: OnVideo
) -> tuple[list[str], list[str], list[VideoError]]:
    """What to do with files, from their names, sizes and times alone.

    Args:
        paths: absolute.
        before: the rows of the index.
        retry, on_video: see `VideoIndex.add`.

    Returns:
        The files to look into, the unchanged ones, and errors that are known already.
    """
    rows = {(row.state, row.path): row for row in before}
    todo: list[str] = []
    unchanged: list[str] = []
    errors: list[VideoError] = []
    for path in paths:
        complete, failed, now = rows.get(("complete", path)), rows.get(("failed", path)), stamp(path)
        if not is_text(path):
            errors.append(VideoError(path, "its name is not valid UTF-8, as an index needs it: rename it"))
            on_video(path, errors[-1])
        elif complete is not None and complete.kind == "frames":
            raise ValueError(f"{path}: the index has frames from memory under this name: remove them first.")
        elif complete is not None and now == complete.stamp:
            unchanged.append(path)
            on_video(path, None)
        elif failed is not None and now == failed.stamp and any(now) and not retry:
            errors.append(VideoError(path, failed.reason))
            on_video(path, errors[-1])
        else:
            todo.append(path)
    return todo, unchanged, errors


def absolute(path: Any) -> str:
    """The name by which an index knows a video."""
    if not isinstance(path, str | Path):
        raise TypeError(f"videos of an index are named by their paths, which a {type(path).__name__} isn't.")
    if str(path).startswith(("/dev/", "/proc/")) or _is_pipe(Path(path)):
        raise ValueError(f"{path}: a pipe has no path to come back to: save the video to a file first.")
    return str(path) if "://" in str(path) else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def _is_pipe(path: Path) -> bool:
    with suppress(OSError, ValueError):  # reading it says what is wrong with it
        return is_pipe(path)
    return False


def is_gone(path: str) -> bool:
    """Whether the system says that there is no such file; not where it can't be asked (no permission, a network)."""
    if "://" in path:
        return False
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def is_parquet(path: str) -> bool:
    """Whether it is named as a file of windows, not as a video."""
    return path.lower().endswith(SUFFIX)


def is_text(path: str) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def stamp(path: str) -> tuple[int, int, int, int]:
    """The four numbers of `VideoRow.stamp` of a file as it is now; all 0 if there is none."""
    return VideoRow(id=0, path=path, **_status(path)).stamp


def _status(path: str) -> dict[str, Any]:
    size, modified = stamp_of(path)
    changed = inode = 0
    if (size, modified) != NO_STAMP:
        with suppress(OSError, ValueError):
            status = os.stat(path)  # noqa: PTH116
            changed, inode = status.st_ctime_ns, status.st_ino & (2**63 - 1)
    return {"size": size, "modified": modified, "changed": changed, "inode": inode}


def _stamps(row: VideoRow) -> dict[str, Any]:
    return {"size": row.size, "modified": row.modified, "changed": row.changed, "inode": row.inode}


def _content(path: str) -> str:
    with suppress(OSError, ValueError):
        if os.path.isfile(path):  # noqa: PTH113
            with Path(path).open("rb") as file:
                return _sha256(file)
    return ""


def _sha256(file: Any) -> str:
    hashed = hashlib.sha256()
    while block := file.read(1 << 20):
        hashed.update(block)
    return hashed.hexdigest()
