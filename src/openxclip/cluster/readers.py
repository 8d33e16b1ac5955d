"""Actors that only read videos, for workers whose model is on a GPU."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openxclip.errors import VideoError

if TYPE_CHECKING:
    from openxclip.search.bulk.items import SourceItem


@dataclass(frozen=True)
class Order:
    """What a reader needs to know besides the video.

    Attributes:
        plan: which clips to read, a `ClipPlan`.
        read: how to read videos, `ReadOptions`.
        processor: the image processor, which makes the frames that the model takes.
        bytes_kept: about how many bytes a frame takes.
    """

    plan: Any
    read: Any
    processor: Any
    bytes_kept: int


class Reader:
    """An actor that reads videos: it fetches them, decodes them in a process of its own, and resizes frames.

    Args:
        environment: environment variables of object stores.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        self._worker: Any = None
        self._folder = tempfile.TemporaryDirectory(prefix="openxclip-")
        self._fetched: dict[str, AbstractContextManager[Any]] = {}  # by path on this machine

    def fetch(self, item: SourceItem) -> tuple[str, str, SourceItem]:
        """Bring a video to this machine, and return its path here, its SHA-256 and the item as it was found.

        Raises:
            VideoError: it can't be read.
            StoreError: the store doesn't answer, or there is no room.
        """
        from openxclip.search.bulk.fetching import fetched

        context = fetched(item, Path(self._folder.name))
        found = context.__enter__()
        self._fetched[str(found.path)] = context
        return str(found.path), found.content, found.item

    def release(self, path: str) -> None:
        """Delete the copy of a video."""
        context = self._fetched.pop(path, None)
        if context is not None:
            context.__exit__(None, None, None)

    def forget(self) -> None:
        """Delete the copies of all videos."""
        while self._fetched:
            self._fetched.popitem()[1].__exit__(None, None, None)

    def read(self, source: str, order: Order, first: int) -> Generator[Any, None, None]:
        """Yield the clips of a video, some at a time, and at the end the error that stopped the reading, or None.

        Args:
            source: path of the video on this machine.
            order: what to read.
            first: number of clips to skip.
        """
        import torch

        from openxclip.pipeline.clip_reading import ClipReader
        from openxclip.video import DecodeWorker

        torch.set_num_threads(1)
        if self._worker is None:
            self._worker = DecodeWorker()
        reader = ClipReader(
            plan=order.plan,
            read=order.read if order.read.threads else replace(order.read, threads=1),
            views=lambda frames_TCHW: [order.processor.levels(frames_TCHW)],
            bytes_kept=order.bytes_kept,
        )
        try:
            for clips in reader.read_clips(self._worker, source, first=first):
                yield [(levels_TCHW.numpy(), info) for levels_TCHW, info in clips]
        except VideoError as error:
            error.__context__ = error.__cause__ = None
            yield error.with_traceback(None)
            return
        yield None
