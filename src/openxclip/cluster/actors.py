"""The processes of a cluster: workers, which read and encode videos, and readers, which only read them.

Ray starts them as actors. They import PyTorch when they load the model, so that the number of threads is set before.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openxclip.cluster.jobs import Job, Work
    from openxclip.errors import VideoError
    from openxclip.search.bulk.sources import SourceItem


@dataclass(frozen=True)
class State:
    """How far a worker has come with the chunk that it has in hand.

    Attributes:
        videos, failed: number of its videos that are done, and of those that can't be read.
        windows: number of windows, or rows.
        footage: length of its videos that are done, in seconds.
        busy, model: seconds in which the worker had work since it was started, and seconds of them in the model.
        handled: number of videos since it was started.
        chunk: number of the chunk in hand, from 1; 0 if the worker has none.
    """

    videos: int = 0
    failed: int = 0
    windows: int = 0
    footage: float = 0.0
    busy: float = 0.0
    model: float = 0.0
    handled: int = 0
    chunk: int = 0


class Worker:
    """An actor that handles chunks of videos.

    Args:
        job: what to do.
        threads: threads of PyTorch, and threads that decode.
        has_gpu: whether the model runs on a GPU.
        is_split: whether other actors read the videos.
    """

    def __init__(self, job: Job, threads: int, has_gpu: bool, is_split: bool) -> None:
        os.environ.update(job.environment)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait take no core from the decoder
        self._job, self._threads, self._has_gpu, self._is_split = job, threads, has_gpu, is_split
        self._work: Work | None = None
        self._pipeline: Any = None
        self._readers: list[Any] = []
        self._state = State()
        self._busy, self._handled = 0.0, 0  # seconds of the chunks that are done, and their videos
        self._began: float | None = None
        self._chunks = 0

    def use_readers(self, readers: list[Any]) -> None:
        """Read by these actors from the next chunk on."""
        self._readers = readers
        if self._pipeline is not None:
            self._pipeline.use_readers(readers)

    def prepare(self) -> str:
        """Load the model, and return the name of the machine.

        Raises:
            CheckpointError: the model can't be found or loaded on this machine.
            ValueError: the model isn't the index's.
        """
        if self._work is None:
            import torch

            from openxclip.cluster.pipelines import RemotePipeline, TimedPipeline

            torch.set_num_threads(self._threads)
            pipeline = (RemotePipeline if self._is_split else TimedPipeline).from_pretrained(
                self._job.model,
                device="cuda" if self._has_gpu else "cpu",
                precision=self._job.precision,
                isolate=not self._is_split,
            )
            if isinstance(pipeline, RemotePipeline):
                while not self._readers:  # set by a call that comes at the same time
                    time.sleep(0.05)
                pipeline.use_readers(self._readers)
            read = replace(self._job.read, threads=self._job.read.threads or self._threads)
            self._pipeline = pipeline
            self._work = self._job.begin(pipeline, read, self._count)
        return socket.gethostname()

    def process(self, items: Sequence[SourceItem]) -> Any:
        """Handle some videos; see `Work`."""
        self.prepare()
        assert self._work is not None
        self._chunks += 1
        self._state, self._began = State(chunk=self._chunks), time.monotonic()
        try:
            return self._work.process(items)
        finally:
            self._busy += time.monotonic() - self._began
            self._handled += self._state.videos
            self._state, self._began = State(), None

    def state(self) -> State:
        """Return how far the chunk in hand has come; called while `process` runs in another thread."""
        began = self._began
        busy = self._busy + (0.0 if began is None else time.monotonic() - began)
        model = 0.0 if self._pipeline is None else self._pipeline.model_seconds
        state = self._state
        return replace(state, busy=busy, model=model, handled=self._handled + state.videos)

    def _count(self, path: str, error: VideoError | None, windows: int, footage: float) -> None:
        state = self._state
        self._state = replace(
            state,
            videos=state.videos + 1,
            failed=state.failed + (error is not None),
            windows=state.windows + windows,
            footage=state.footage + (footage if footage > 0 else 0.0),  # false for NaN
        )
