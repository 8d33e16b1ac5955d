"""An index of made-up windows, and the model's process without the process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openxclip import VideoPipeline
from openxclip.search.opening import OpenIndex
from openxclip.search.schema import VideoRow
from openxclip.search.store import Store
from openxclip.serve.engine.context import ModelContext
from openxclip.serve.engine.settings import EngineSettings
from openxclip.serve.engine.work import Work, in_this_thread
from openxclip.serve.settings import ServeSettings


class Corrections:
    """Calls the functions of `serve/correct` as the model's process does.

    Args:
        pipeline: the model.
        settings: settings of the server.
    """

    def __init__(self, pipeline: VideoPipeline, settings: ServeSettings) -> None:
        self.context = ModelContext(pipeline, EngineSettings.of(settings))
        self.settings = settings

    def call(self, function: Any, *, task: Any = None, **arguments: Any) -> Any:
        with in_this_thread(Work(number=1, task=task, send=lambda message: None)):
            return function(self.context, **arguments)


def make_index(folder: Path, pipeline: VideoPipeline) -> Store:
    """Create an empty index of the model."""
    index = OpenIndex(folder, pipeline, {"window": 2.0}, {})
    index.pipeline()
    return index.store


def add_video(
    store: Store, path: str, embedding_NE: Any, *, stride: float = 2.0, featureless: Sequence[int] = ()
) -> None:
    """Add a video of windows of two seconds with these embeddings."""
    count = len(embedding_NE)
    row = VideoRow(path=path, state="complete", windows=count, duration=count * stride)
    columns = {
        "video": [row.id] * count,
        "path": [path] * count,
        "number": pa.array(range(count), pa.int32()),
        "start": [stride * i for i in range(count)],
        "end": [stride * i + 2.0 for i in range(count)],
        "duration": [row.duration] * count,
        "size": [1] * count,
        "featureless": [i in featureless for i in range(count)],
        "embedding": pa.FixedSizeListArray.from_arrays(
            pa.array(np.asarray(embedding_NE, np.float32).ravel()), store.width
        ),
        "patches": pa.nulls(count, pa.binary()),
    }
    store.put_videos([row], new=True)
    store.add_window_tables(iter([pa.table(columns)]))


def kinds(width: int, classes: Sequence[int], seed: int = 0) -> np.ndarray:
    """Embeddings, one for each class number, near the axis of the class."""
    draw = np.random.default_rng(seed)
    rows = np.eye(width)[list(classes)] + 0.1 * draw.normal(size=(len(classes), width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
