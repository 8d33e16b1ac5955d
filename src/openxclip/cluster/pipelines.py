"""Pipelines of a worker: one that measures its model, and one whose videos are read by other processes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openxclip.cluster.readers import Order
from openxclip.errors import OpenXCLIPError, VideoError
from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.clip_reading import ClipReader, ReadClip
from openxclip.search.bulk.fetching import Fetched
from openxclip.search.bulk.items import SourceItem
from openxclip.video import ClipPlan, DecodeWorker, ReadOptions, VideoSource

_ATTEMPTS = 3  # of reading one video, if readers end meanwhile
_WAITS_S = 2.0  # before another attempt
_AHEAD = 2  # pieces, of up to 32 clips, that a reader makes before the worker has taken them


class ReadersLostError(OpenXCLIPError):
    """A video wasn't read, because the processes that read it ended; the video may be intact."""


class TimedPipeline(VideoPipeline):
    """A `VideoPipeline` that measures the time in the model, to say which stage limits a run.

    Attributes:
        model_seconds: seconds that the model has worked.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.model_seconds = 0.0

    def _encode(self, levels: list[Tensor]) -> VideoFeatures:
        began = time.monotonic()
        try:
            return super()._encode(levels)
        finally:
            self.model_seconds += time.monotonic() - began


@dataclass
class _Held:
    """A video that an actor has fetched.

    Attributes:
        reader: the actor.
        item: the video.
        path: its path on the actor's machine.
        content: SHA-256 of the file.
    """

    reader: Any
    item: SourceItem
    path: str
    content: str


class RemotePipeline(TimedPipeline):
    """A pipeline whose videos are fetched and read by actors; the process of the model decodes nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._readers: list[Any] = []
        self._changed = threading.Condition()  # guards all fields here
        self._load: Counter[Any] = Counter()  # videos that each actor holds
        self._held: dict[str, _Held] = {}

    def use_readers(self, readers: list[Any]) -> None:
        """Read by these actors from the next video on."""
        with self._changed:
            self._readers = list(readers)
            self._changed.notify_all()

    @property
    def num_readers(self) -> int:
        """Number of actors, at least 1."""
        return max(1, len(self._readers))

    def _num_readers(self) -> int:
        return self.num_readers

    @contextmanager
    def fetch(self, item: SourceItem, folder: Path) -> Iterator[Fetched]:
        """Let an actor fetch a video for the block; the path is one of the actor's machine. See `fetched`.

        Raises:
            VideoError, StoreError: see `fetched`.
            ReadersLostError: several actors ended while they fetched it.
        """
        held, found = self._hold(item)
        key = held.path
        with self._changed:
            self._held[key] = held
        try:
            yield Fetched(Path(key), held.content, found)
        finally:
            with self._changed:
                held = self._held.pop(key)
            self._release(held)

    def _hold(self, item: SourceItem) -> tuple[_Held, SourceItem]:
        import ray

        lost: Exception | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_WAITS_S)
            reader = self._take_reader()
            try:
                call = reader.fetch.options(concurrency_group="fetch").remote(item)
                path, content, found = ray.get(call)
            except ray.exceptions.RayTaskError as error:
                self._give_back(reader)
                raise error.cause from None
            except ray.exceptions.RayError as error:
                self._give_back(reader)
                lost = error
            else:
                return _Held(reader, item, path, content), found
        raise ReadersLostError(f"{item.path}: {_ATTEMPTS} processes ended while they fetched it: {lost}")

    def _take_reader(self) -> Any:
        """Return the actor that holds the fewest videos; wait if there is none."""
        with self._changed:
            while not self._readers:
                self._changed.wait()
            reader = min(self._readers, key=lambda reader: self._load[reader])
            self._load[reader] += 1
            return reader

    def _give_back(self, reader: Any) -> None:
        with self._changed:
            self._load[reader] -= 1

    def _release(self, held: _Held) -> None:
        self._give_back(held.reader)
        with suppress(Exception):  # the actor has ended
            held.reader.release.options(concurrency_group="fetch").remote(held.path)

    def _clip_reader(self, plan: ClipPlan, read: ReadOptions | None) -> ClipReader:
        reader = super()._clip_reader(plan, read)
        order = Order(reader.plan, read or self.read, self.processor.image_processor, reader.bytes_kept)
        return _RemoteReader(reader.plan, reader.read, reader.views, reader.bytes_kept, self, order)

    def read_remotely(self, source: str, order: Order, first: int) -> Generator[list[ReadClip], None, None]:
        """Yield the clips of a fetched video. If its reader is killed, another one resumes after the last clip.

        Raises:
            VideoError: the video can't be read.
            ReadersLostError: several actors ended while they read it.
        """
        import ray

        lost: Exception | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._hold_again(source)
            held = self._held[source]
            options = {"num_returns": "streaming", "_generator_backpressure_num_objects": _AHEAD}
            stream = held.reader.read.options(**options).remote(held.path, order, first)
            try:
                for reference in stream:
                    piece = ray.get(reference)
                    del reference  # frees the shared memory
                    if isinstance(piece, VideoError):
                        raise piece
                    if piece is None:
                        return
                    first += len(piece)
                    yield [ReadClip(torch.tensor(levels), info) for levels, info in piece]
                    del piece
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                lost = error
            finally:
                with suppress(Exception):
                    ray.cancel(stream)
        raise ReadersLostError(f"{source}: {_ATTEMPTS} processes ended while they read it: {lost}")

    def _hold_again(self, source: str) -> None:
        """Let another actor fetch a video, whose rest it will read.

        Raises:
            VideoError: it has changed meanwhile.
        """
        old = self._held[source]
        new, _ = self._hold(old.item)
        if new.content != old.content:
            self._release(new)
            raise VideoError(old.item.path, "it changed while it was read: try again when it is complete")
        with self._changed:
            self._held[source] = new
        self._release(old)


@dataclass(frozen=True)
class _RemoteReader(ClipReader):
    """Reads the clips of videos by the actors of a pipeline."""

    pipeline: RemotePipeline
    order: Order

    def read_clips(
        self, worker: DecodeWorker | None, source: VideoSource, *, first: int = 0
    ) -> Generator[list[ReadClip], None, None]:
        """Yield the clips of a video, some at a time."""
        return self.pipeline.read_remotely(str(source), self.order, first)
