"""Make rows of videos in a worker: features or classifications, as a part of a table."""

from __future__ import annotations

import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openxclip.cluster.jobs import OnVideo, fetching_options
from openxclip.cluster.parts_of_table import Part, Table, name_of
from openxclip.errors import VideoError
from openxclip.search.bulk.failures import Failure
from openxclip.search.bulk.work import Fetching

if TYPE_CHECKING:
    from openxclip.pipeline import VideoPipeline
    from openxclip.search.bulk.items import SourceItem
    from openxclip.video import VideoSource

_CHANGED = "it changed while it was read: try again when it is complete"


class TableWork(ABC):
    """Makes the rows of chunks of videos.

    Args:
        out: place of the table.
        options: all that the rows depend on besides the videos.
        schema: pyarrow schema of the rows.
        pipeline: the model.
        on_video: see `OnVideo`.
    """

    def __init__(
        self, out: str, options: dict[str, Any], schema: Any, pipeline: VideoPipeline, on_video: OnVideo
    ) -> None:
        self.schema = schema
        self._table = Table(out)
        self._options = self._table.begin(options, schema)
        self._fetching = fetching_options(pipeline)
        self._on_video = on_video
        self._node = socket.gethostname()

    @abstractmethod
    def encode(
        self, sources: Generator[VideoSource, None, None]
    ) -> Generator[tuple[list[dict[str, Any]], VideoError | None, float], None, None]:
        """Yield, for each video, its rows without their path, its error, and its length in seconds."""

    @abstractmethod
    def to_table(self, rows: Sequence[dict[str, Any]]) -> Any:
        """Return rows as a pyarrow table with the schema."""

    def process(self, items: Sequence[SourceItem]) -> Part:
        """Write the rows of some videos, unless they are written already, and return what they are.

        The rows of one video are held in memory until its end, because one that can't be read has none.
        """
        name = name_of(items, self._options)
        known = self._table.find(name)
        if known is not None:
            return known
        writer = self._table.writer(name, self.schema)
        part = Part(name=name, files=[], paths=[], rows=0, footage=0.0, failures=[])
        with (
            tempfile.TemporaryDirectory(prefix="openxclip-") as folder,
            closing(Fetching(items, Path(folder), **self._fetching)) as sources,
        ):
            rows, footage = 0, 0.0
            with closing(self.encode(sources.to_decode())) as encoded:
                for made, error, duration in encoded:
                    source = sources.first_to_decode()
                    if error is None and not source.is_unchanged():
                        error = VideoError(source.item.path, _CHANGED)
                    if error is None:
                        writer.add(self.to_table([{**row, "path": source.item.path} for row in made]))
                        part.paths.append(source.item.path)
                        rows, footage = rows + len(made), footage + (duration if duration > 0 else 0.0)
                    self._end(part, source.item, error, len(made), duration)
                    sources.release_first()
                    self._take_failed(part, sources)
            self._take_failed(part, sources)
        files = writer.finish()
        part = Part(name=name, files=files, paths=part.paths, rows=rows, footage=footage, failures=part.failures)
        self._table.put(part)
        return part

    def _end(self, part: Part, item: SourceItem, error: VideoError | None, rows: int, duration: float) -> None:
        if error is None:
            self._on_video(item.path, None, rows, duration)
            return
        part.failures.append(Failure(path=item.path, reason=error.reason, node=self._node))
        self._on_video(item.path, VideoError(item.path, error.reason), 0, 0.0)

    def _take_failed(self, part: Part, sources: Fetching) -> None:
        """Note the videos that can't be fetched, found in the thread that reads ahead."""
        while sources.failed:
            item, error = sources.failed.popleft()
            self._end(part, item, error, 0, 0.0)
