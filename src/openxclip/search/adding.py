"""Reading files into an index: which are new, what is written of them, and when."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from openxclip.batching import Batch, EncodedClip
from openxclip.errors import VideoError, VideoIndexError
from openxclip.files import NO_STAMP, stamp_of
from openxclip.pipeline import VideoPipeline
from openxclip.search.packing import pack
from openxclip.search.parquet import SUFFIX
from openxclip.search.store import Failure, FileState, Store
from openxclip.video import Limits
from openxclip.video.clips import ClipPlan
from openxclip.video.streams import is_pipe

_WRITTEN_EVERY_S = 10.0  # what a run that is killed loses, at most, and the video that it was at
_WRITTEN_EVERY_ROWS = 2048

OnVideo = Callable[[str, VideoError | None], object]


class Adding:
    """Encoding files and writing what is done.

    Args:
        store: of the index.
        about: what the index is of.
        pipeline: its model.
        batch, limits, on_video: see `VideoIndex.add`.

    Attributes:
        added, unchanged, errors: what came of the files; see `Added`.
    """

    def __init__(
        self,
        store: Store,
        about: Mapping[str, Any],
        pipeline: VideoPipeline,
        *,
        batch: Batch,
        limits: Limits | None,
        on_video: OnVideo,
    ) -> None:
        self._store, self._pipeline, self._known, self._on_video = store, pipeline, store.files(), on_video
        self._plan = ClipPlan(num_frames=about["num_frames"], window=about["window"], stride=about["stride"])
        self._patches = about["patches"]
        self._options: dict[str, Any] = {"batch": batch, "limits": limits}
        self._states: dict[str, FileState] = {}  # written by the thread that takes the sources
        self._rows: list[dict[str, Any]] = []
        self._failed: dict[str, Failure] = {}
        self._touched: dict[str, FileState] = {}  # written anew with what they had
        self._written = time.monotonic()
        self.added: list[str] = []
        self.unchanged: list[str] = []
        self.errors: list[VideoError] = []

    def run(self, paths: list[str]) -> None:
        """Encode them all, and write; what is done is written even if it is interrupted."""
        rows: list[dict[str, Any]] = []
        encoded = self._pipeline.encode_clips(self._sources(paths), self._plan, **self._options)
        try:
            for one in encoded:
                path = str(one.source)
                if one.features is not None:
                    rows.append(self._row(path, len(rows), one))
                    continue
                self._end(path, rows, one.error)
                rows = []
                due = time.monotonic() > self._written + _WRITTEN_EVERY_S
                if due or len(self._rows) > _WRITTEN_EVERY_ROWS:
                    self._write()
        except BaseException:
            with suppress(VideoIndexError):
                self._write()
            raise
        finally:
            encoded.close()
        self._write()
        for path in self.unchanged:
            self._on_video(path, None)

    def _sources(self, paths: list[str]) -> Iterator[str]:
        """What is to be read; files are hashed on the way, and those with the content that is known passed over."""
        for path in paths:
            self._states[path] = state = _state(path)
            if path in self._known and state.content and state.content == self._known[path].content:
                self._touched[path] = state
                self.unchanged.append(path)
            else:
                yield path

    def _row(self, path: str, number: int, one: EncodedClip) -> dict[str, Any]:
        assert one.features is not None
        embedding = F.normalize(one.features.pooled[0].float(), dim=0).cpu().numpy()
        patches = pack(one.features.patches[0].float().cpu().numpy()) if self._patches else None
        return {
            "path": path, "number": number, "start": one.start, "end": one.end, "duration": one.duration,
            "embedding": embedding, "patches": patches,
        }  # fmt: skip

    def _end(self, path: str, rows: list[dict[str, Any]], error: VideoError | None) -> None:
        state = self._states[path]
        if error is None:
            self._rows += [row | state._asdict() for row in rows]
            self.added.append(path)
        else:
            if state[:2] != NO_STAMP or path in self._known:  # what isn't there is no news tomorrow
                self._failed[path] = Failure(state.size, state.modified, error.reason)
            self.errors.append(error)
        self._on_video(path, error)

    def _write(self) -> None:
        # Let go of before: after an interruption they may have been written all the same, and must not be once more.
        rows, failed, touched = self._rows, self._failed, self._touched
        self._rows, self._failed, self._touched = [], {}, {}
        if rows or failed:
            done = {row["path"] for row in rows} | failed.keys()
            self._store.write(rows, failed, known=[path for path in done if path in self._known])
        if touched:
            self._store.touch(dict(touched))
        self._written = time.monotonic()


def absolute(path: Any) -> str:
    """By which an index knows a video."""
    if not isinstance(path, str | Path):
        raise TypeError(f"videos of an index are named by their paths, which a {type(path).__name__} isn't.")
    if str(path).startswith(("/dev/", "/proc/")) or _is_pipe(Path(path)):
        raise ValueError(f"{path}: a pipe has no path to come back to: save the video to a file first.")
    return str(path) if "://" in str(path) else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def _is_pipe(path: Path) -> bool:
    with suppress(OSError, ValueError):  # reading it says what is wrong with it
        return is_pipe(path)
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


def _state(path: str) -> FileState:
    stamp = stamp_of(path)
    content = ""
    with suppress(OSError, ValueError):
        if os.path.isfile(path):  # noqa: PTH113
            hashed = hashlib.sha256()
            with Path(path).open("rb") as file:
                while block := file.read(1 << 20):
                    hashed.update(block)
            content = hashed.hexdigest()
    return FileState(*stamp, content)
