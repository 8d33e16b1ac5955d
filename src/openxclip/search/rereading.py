"""Compute the patches of candidates again from their videos, for an index that doesn't store them."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from openxclip.common.files import stamp_of
from openxclip.errors import StoreError, VideoError
from openxclip.pipeline import VideoPipeline
from openxclip.search.bulk.fetching import fetched
from openxclip.search.bulk.items import SourceItem
from openxclip.search.patches import compress_patches
from openxclip.search.schema import IndexInfo, VideoRow
from openxclip.search.store import Store
from openxclip.video import ClipPlan
from openxclip.video.formats import ARRAY_SUFFIX

_PATIENCE_S = 20.0  # of a search, with an object store that doesn't answer


def add_patches(
    store: Store, pipeline: VideoPipeline, info: IndexInfo, rows: Sequence[dict[str, Any]]
) -> dict[str, VideoError]:
    """Add the compressed patches to windows, which are read again from their videos.

    Args:
        store: the index of the windows.
        pipeline: its model.
        info: its description.
        rows: rows of the store; those of videos that can't be read, or that have changed, keep None.

    Returns:
        The errors of these videos, by path.
    """
    of_videos: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        of_videos[row["video"]].append(row)
    known = {row.id: row for row in store.rows_of(sorted({row["path"] for row in rows}))}
    errors: dict[str, VideoError] = {}

    def levels(frames_NTCHW: Tensor) -> list[Tensor]:
        return [pipeline.processor.image_processor.levels(frames_NTCHW)]

    with tempfile.TemporaryDirectory(prefix="openxclip-candidates-") as folder:
        parts: list[_Part] = []
        for video, of_video in of_videos.items():
            opened = _Video(known.get(video, VideoRow(id=video, path=of_video[0]["path"])), Path(folder))
            of_video.sort(key=lambda row: int(row["number"]))
            parts += [_Part(opened, row, is_last=row is of_video[-1]) for row in of_video]
        plan = ClipPlan(num_frames=info.num_frames, sampling=info.sampling)
        encoded = pipeline.encode_parts(parts, levels, plan, read=replace(pipeline.read, decode=info.decode))
        for part, result in zip(parts, encoded, strict=True):
            if result.features is not None:
                part.row["patches"] = compress_patches(result.features.patches[0].float().cpu().numpy())
            elif result.error is not None:
                errors.setdefault(part.source, result.error)
            if part.is_last:
                part.video.close()
    return errors


@dataclass
class _Video:
    """A video of the index, which several threads may open; an object is copied once.

    Attributes:
        row: its row in the index.
        folder: folder for copies of objects.
    """

    row: VideoRow
    folder: Path
    _opened: str | None = None
    _error: VideoError | None = None
    _lock: Any = field(default_factory=threading.Lock)
    _stack: ExitStack = field(default_factory=ExitStack)

    def open(self) -> str:
        """Return the path of the file.

        Raises:
            VideoError: it can't be read, or isn't the one that was indexed.
        """
        with self._lock:
            if self._error is not None:
                raise VideoError(self.row.path, self._error.reason)
            if self._opened is None:
                try:
                    self._opened = self._stack.enter_context(self._checked())
                except StoreError as error:
                    self._error = VideoError(self.row.path, str(error).rstrip("."))
                    raise self._error from error
                except VideoError as error:
                    self._error = error
                    raise
            return self._opened

    @contextmanager
    def _checked(self) -> Iterator[str]:
        row = self.row
        path = Path(row.path)
        if row.kind == "frames":
            raise VideoError(row.path, "its frames were in memory when it was indexed")
        is_local = "://" not in row.path
        if is_local and (path.suffix.lower() == ARRAY_SUFFIX or os.path.isdir(path)):  # noqa: PTH112
            raise VideoError(row.path, "folders of images and arrays, which have no times, aren't read again")
        if is_local and stamp_of(path) == (row.size, row.modified):
            yield row.path
            return
        with fetched(SourceItem(row.path, size=row.size), self.folder, patience=_PATIENCE_S) as video:
            if row.content != video.content:
                raise VideoError(row.path, "it has changed since it was indexed")
            yield str(video.path)

    def close(self) -> None:
        """Delete the copy of an object."""
        self._stack.close()


@dataclass(frozen=True)
class _Part:
    """A window of a video, as `VideoPipeline.encode_parts` takes it."""

    video: _Video
    row: dict[str, Any]
    is_last: bool

    @property
    def source(self) -> str:
        """Path of the video."""
        return self.video.row.path

    @property
    def start(self) -> float:
        """Seconds."""
        return float(self.row["start"])

    @property
    def end(self) -> float:
        """Seconds."""
        return float(self.row["end"])

    def open(self) -> str:
        """Return the path of the file."""
        return self.video.open()
