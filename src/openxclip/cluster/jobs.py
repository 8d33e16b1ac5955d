"""What the workers of a cluster are told to do, in a form that is sent to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from openxclip.errors import VideoError

if TYPE_CHECKING:
    from openxclip.engine import Precision
    from openxclip.pipeline import VideoPipeline
    from openxclip.pipeline.batching import Batch
    from openxclip.search.bulk.sources import SourceItem
    from openxclip.video import ReadOptions

# Called after each video with its path, its error, and the number of its windows and its length in seconds.
OnVideo = Callable[[str, VideoError | None, int, float], object]


class Work(Protocol):
    """Handles chunks of videos in one process."""

    def process(self, items: Sequence[SourceItem]) -> Any:
        """Handle some videos, and return what the driver needs to know; it must be small."""


def fetching_options(pipeline: VideoPipeline) -> dict[str, Any]:
    """Return `fetch` and `fetched_ahead` of a `Fetching` for this pipeline."""
    from openxclip.cluster.pipelines import RemotePipeline

    if isinstance(pipeline, RemotePipeline):
        return {"fetch": pipeline.fetch, "fetched_ahead": 2 * pipeline.num_readers}
    return {}


def name_for_workers(model: str | Path) -> str:
    """Return the name of a model for processes with other current folders: a path becomes absolute."""
    return str(Path(model).resolve()) if Path(model).exists() else str(model)


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """What every worker of a run does.

    Attributes:
        model: name of the model, which each machine must be able to load.
        precision: see `VideoPipeline.from_pretrained`.
        batch, read: see `VideoPipeline.encode_clips`.
        environment: environment variables of object stores, which the driver's process has.
    """

    model: str
    precision: Precision | None
    batch: Batch
    read: ReadOptions
    environment: dict[str, str] = field(default_factory=dict, repr=False)

    @abstractmethod
    def begin(self, pipeline: VideoPipeline, read: ReadOptions, on_video: OnVideo) -> Work:
        """Begin to work in a worker's process.

        Args:
            pipeline: the loaded model.
            read: how to read videos, with the threads of this worker.
            on_video: see `OnVideo`.
        """
