"""Index some videos for a bulk run: fetch, hash, decode and encode them, and write fragments and a receipt."""

from __future__ import annotations

import socket
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from openxclip.errors import VideoError
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch, EncodedClip
from openxclip.pipeline.clip_reading import ReadFrames
from openxclip.search.bulk.failures import Failure
from openxclip.search.bulk.fetching import Fetched, fetched
from openxclip.search.bulk.items import SourceItem
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.patience import patiently
from openxclip.search.bulk.receipts import Receipt, new_id
from openxclip.search.bulk.rows import PLAN, encoding_options, new_video, reading_options, window_row, with_window
from openxclip.search.bulk.writing import FragmentWriter
from openxclip.search.columns import columns_to_text, metadata_columns
from openxclip.search.opening import OpenIndex
from openxclip.search.paths import file_stamp
from openxclip.search.schema import FileStamp, IndexInfo, VideoRow
from openxclip.video import ClipPlan, ReadOptions

FETCHED_AHEAD = 4  # videos that are fetched at once, and wait to be decoded
_CHANGED = "it changed while it was read: try again when it is complete"

# Brings a video to the machine that reads it, see `fetched`.
Fetch = Callable[[SourceItem, Path], AbstractContextManager[Fetched]]
_Entered = tuple[Fetched, AbstractContextManager[Fetched]]

# Called after each video with its path, its error, and the number of its windows and its length in seconds.
OnVideo = Callable[[str, VideoError | None, int, float], object]


class BulkWorker:
    """Indexes videos without committing them: any number of workers, on any machines, may work on one index.

    Args:
        uri: place of the index, which exists.
        model: the index's model.
        read: how videos are read; the default is the pipeline's. Which frames are decoded is the index's setting.
        batch: see `VideoPipeline.encode_clips`.
        on_video: see `OnVideo`.
        reading: reads videos in another way, see `openxclip.pipeline.clip_reading.ReadFrames`.
        fetch: brings videos to the machine that reads them.
        fetched_ahead: number of videos that are fetched at once, and wait to be decoded.

    Raises:
        MissingPackageError: LanceDB, pylance or obstore isn't installed.
        ValueError: the model isn't the index's, or `read` decodes other frames, or reads files that are cut off.
        VideoIndexError: there is no index, or pylance doesn't fit LanceDB.
        StoreError: the store can't be read.
    """

    def __init__(
        self,
        uri: str,
        model: VideoPipeline,
        *,
        read: ReadOptions | None = None,
        batch: Batch = "auto",
        on_video: OnVideo = lambda path, error, windows, seconds: None,
        reading: ReadFrames | None = None,
        fetch: Fetch = fetched,
        fetched_ahead: int = FETCHED_AHEAD,
    ) -> None:
        index = OpenIndex(uri, model, {}, {})
        if index.store.folder is not None:
            index.require()  # before the folder is made
        self._objects = Objects.open(index.store.uri)
        self._info = patiently(index.require, self._objects)
        self._pipeline = patiently(index.pipeline, self._objects)
        self._read = reading_options(self._info, read or model.read)
        self._batch, self._reading, self._on_video = batch, reading, on_video
        self._fetch, self._fetched_ahead = fetch, fetched_ahead
        self._options = encoding_options(self._info)
        self._plan = ClipPlan(**{name: getattr(self._info, name) for name in PLAN})
        self._node = socket.gethostname()

    def process(self, items: Sequence[SourceItem]) -> Receipt:
        """Index some videos, and return the receipt, which is in the index's store already.

        A video that can't be read is a failure in the receipt, and doesn't stop the others.

        Args:
            items: the videos, with different paths.

        Raises:
            ValueError: an item has a metadata column that the index lacks, or a value of another type.
            StoreError: the store doesn't answer, or refuses.
            VideoIndexError: the fragments can't be written.
        """
        writer = patiently(lambda: FragmentWriter(self._objects), self._objects)
        chunk = _Chunk(self._info, writer, self._node, self._on_video)
        chunk.check_columns(items)
        try:
            with (
                tempfile.TemporaryDirectory(prefix="openxclip-") as folder,
                closing(Fetching(items, Path(folder), self._fetch, self._fetched_ahead)) as sources,
            ):
                self._encode(sources, chunk)
            fragments = writer.finish()
        except BaseException:
            writer.discard()
            raise
        receipt = Receipt(
            id=new_id(),
            weights=self._info.weights,
            options=self._options,
            fragments=fragments,
            videos=chunk.videos,
            failures=chunk.failures,
            node=self._node,
            columns=metadata_columns(writer.schema),
            unchanged=chunk.unchanged,
        )
        receipt.put(self._objects)  # if this fails, the receipt may be there all the same, so its files must stay
        return receipt

    def _encode(self, sources: Fetching, chunk: _Chunk) -> None:
        clips = self._pipeline.encode_clips(
            sources.to_decode(), self._plan, read=self._read, batch=self._batch, reading=self._reading
        )
        source: Fetched | None = None
        with closing(clips):
            for clip in clips:
                if source is None:
                    source = sources.first_to_decode()
                    chunk.begin(source)
                if clip.features is not None:
                    chunk.add(clip)
                    continue
                error = clip.error
                if error is None and not source.is_unchanged():
                    error = VideoError(source.item.path, _CHANGED)
                chunk.end(error)
                sources.release_first()
                source = None
                self._take_others(sources, chunk)
        self._take_others(sources, chunk)

    def _take_others(self, sources: Fetching, chunk: _Chunk) -> None:
        """Note the videos that aren't decoded, found in the thread that reads ahead."""
        while sources.unchanged:
            chunk.keep(sources.unchanged.popleft())
        while sources.failed:
            chunk.fail(*sources.failed.popleft())


class Fetching:
    """The videos of a chunk, fetched some ahead by threads.

    Args:
        items: the videos.
        folder: folder for copies of objects.
        fetch, ahead: see `BulkWorker`.

    Attributes:
        unchanged: videos whose content the index has already.
        failed: videos that can't be fetched, and why.
    """

    def __init__(
        self, items: Sequence[SourceItem], folder: Path, fetch: Fetch = fetched, ahead: int = FETCHED_AHEAD
    ) -> None:
        self._items, self._folder, self._fetch_one, self._ahead = items, folder, fetch, ahead
        self.unchanged: deque[Fetched] = deque()
        self.failed: deque[tuple[SourceItem, VideoError]] = deque()
        self._open: deque[_Entered] = deque()  # they are decoded, or wait for it
        self._pool = ThreadPoolExecutor(ahead, thread_name_prefix="fetch")

    def to_decode(self) -> Generator[str, None, None]:
        """Yield the paths of videos on this machine, in order; called in the threads that read ahead."""
        waiting: deque[tuple[SourceItem, Future[_Entered]]] = deque()
        remaining = iter(self._items)
        try:
            while True:
                while len(waiting) < self._ahead and (item := next(remaining, None)) is not None:
                    waiting.append((item, self._pool.submit(self._fetch, item)))
                if not waiting:
                    return
                item, future = waiting.popleft()
                try:
                    entered = future.result()
                except VideoError as error:
                    self.failed.append((item, error))
                    continue
                if item.content and entered[0].content == item.content:
                    self.unchanged.append(entered[0])
                    entered[1].__exit__(None, None, None)
                    continue
                self._open.append(entered)
                yield str(entered[0].path)
        finally:
            for _, future in waiting:
                if not future.cancel():
                    with suppress(Exception):
                        future.result()[1].__exit__(None, None, None)

    def first_to_decode(self) -> Fetched:
        """Return the video whose clips come first."""
        return self._open[0][0]

    def release_first(self) -> None:
        """Delete the copy of the video whose clips came first."""
        self._open.popleft()[1].__exit__(None, None, None)

    def close(self) -> None:
        """End the threads, and delete all copies."""
        self._pool.shutdown(cancel_futures=True)
        while self._open:
            self.release_first()

    def _fetch(self, item: SourceItem) -> _Entered:
        context = self._fetch_one(item, self._folder)
        return context.__enter__(), context


class _Chunk:
    """What comes of a chunk of videos.

    Args:
        info: description of the index.
        writer: writes windows.
        node: name of this machine.
        on_video: see `OnVideo`.

    Attributes:
        videos, failures, unchanged: see `Receipt`.
    """

    def __init__(self, info: IndexInfo, writer: FragmentWriter, node: str, on_video: OnVideo) -> None:
        self._info, self._writer, self._node, self._on_video = info, writer, node, on_video
        self.videos: list[VideoRow] = []
        self.failures: list[Failure] = []
        self.unchanged: list[VideoRow] = []
        self._video = VideoRow(path="")
        self._columns: dict[str, Any] = {}

    def check_columns(self, items: Sequence[SourceItem]) -> None:
        """Check that the index has the metadata columns of the videos.

        Raises:
            ValueError: it lacks one.
        """
        known = metadata_columns(self._writer.schema)
        for item in items:
            for name in item.columns:
                if name not in known:
                    raise ValueError(f"{item.path}: the index has no column {name!r}: it is added before the run.")

    def begin(self, source: Fetched) -> None:
        """Begin a video."""
        self._video, self._columns = self._row(source.item, source.content), source.item.columns

    def add(self, clip: EncodedClip) -> None:
        """Add the next window of the video."""
        self._writer.add(window_row(self._video, clip, patches=self._info.patches, columns=self._columns))
        self._video = with_window(self._video, clip)

    def end(self, error: VideoError | None) -> None:
        """End the video."""
        self._writer.end_video(keep=error is None)
        if error is not None:
            self._fail(self._video, error, self._columns)
            return
        self.videos.append(replace(self._video, state="complete"))
        self._on_video(self._video.path, None, self._video.windows, self._video.duration)

    def fail(self, item: SourceItem, error: VideoError) -> None:
        """Note a video that can't be fetched."""
        self._fail(self._row(item, ""), error, item.columns)

    def keep(self, source: Fetched) -> None:
        """Note a video whose content the index has already."""
        self.unchanged.append(replace(self._row(source.item, source.content), state="complete"))
        self._on_video(source.item.path, None, 0, 0.0)

    def _fail(self, video: VideoRow, error: VideoError, columns: dict[str, Any]) -> None:
        error = VideoError(video.path, error.reason)  # of the source, not of its copy
        self.videos.append(replace(video, state="failed", windows=0, reason=error.reason))
        self.failures.append(
            Failure(path=video.path, reason=error.reason, node=self._node, columns=columns_to_text(columns))
        )
        self._on_video(video.path, error, 0, 0.0)

    def _row(self, item: SourceItem, content: str) -> VideoRow:
        stamp = FileStamp(item.size, item.modified, 0, 0)
        if content and "://" not in item.path:
            stamp = file_stamp(item.path)._replace(size=item.size, modified=item.modified)
        return new_video(item.path, content, stamp, self._info)
