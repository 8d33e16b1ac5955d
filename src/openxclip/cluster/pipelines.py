"""Pipelines of a worker: one that measures its model, and one whose videos are read by other processes."""

from __future__ import annotations

import queue
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from openxclip.cluster.readers import Order
from openxclip.errors import OpenXCLIPError, VideoError
from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.clip_reading import ClipReader, ReadClip
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


class RemotePipeline(TimedPipeline):
    """A pipeline whose videos are read by actors; the model's process decodes nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._number = 1

    def use_readers(self, readers: list[Any]) -> None:
        """Read by these actors from the next video on."""
        free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for reader in readers:
            free.put(reader)
        self._free, self._number = free, max(1, len(readers))

    def _num_readers(self) -> int:
        return self._number

    def _take_reader(self) -> tuple[queue.SimpleQueue[Any], Any]:
        """Wait for a free actor; return it with the queue that it belongs to."""
        while True:
            free = self._free  # another one when readers join or leave
            with suppress(queue.Empty):
                return free, free.get(timeout=1.0)

    def _clip_reader(self, plan: ClipPlan, read: ReadOptions | None) -> ClipReader:
        reader = super()._clip_reader(plan, read)
        order = Order(reader.plan, read or self.read, self.processor.image_processor, reader.bytes_kept)
        return _RemoteReader(reader.plan, reader.read, reader.views, reader.bytes_kept, self, order)

    def read_remotely(self, source: str, order: Order, first: int) -> Generator[list[ReadClip], None, None]:
        """Yield the clips of a video, read by the next free actor; if that ends, by another, which skips these clips.

        Raises:
            VideoError: the video can't be read.
            ReadersLostError: several actors ended while they read it.
        """
        import ray

        lost: Exception | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_WAITS_S)
            free, reader = self._take_reader()
            options = {"num_returns": "streaming", "_generator_backpressure_num_objects": _AHEAD}
            stream = reader.read.options(**options).remote(source, order, first)
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
            except ray.exceptions.RayError as error:
                lost = error
                continue
            finally:
                with suppress(Exception):
                    ray.cancel(stream)
                free.put(reader)
        raise ReadersLostError(f"{source}: {_ATTEMPTS} processes ended while they read it: {lost}")


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
