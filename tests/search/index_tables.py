"""Look into the tables of an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lancedb
import numpy as np

from openxclip.search.schema import IndexInfo
from openxclip.search.store import Store

INFO = IndexInfo(
    model=None, weights="", transforms={}, num_frames=4, window=10.0, stride=10.0, sampling="time", patches=False
)


def window_row(video: int, path: str, embedding: np.ndarray, **columns: Any) -> dict[str, Any]:
    """Return a row of the table of windows; by default, the only window of a video of 1 s."""
    row = {
        "video": video, "path": path, "number": 0, "start": 0.0, "end": 1.0, "duration": 1.0, "size": 1,
        "featureless": False, "embedding": embedding.astype(np.float32), "patches": None,
    }  # fmt: skip
    return {**row, **columns}


def create_store(folder: Path, width: int) -> Store:
    """Create an empty index without patches and open it."""
    store = Store(str(folder))
    store.create(INFO, width)
    store.open()
    return store


def open_store(folder: Path) -> Store:
    """Open the tables of an existing index."""
    store = Store(str(folder))
    assert store.open() is not None
    return store


def lance_table(folder: Path, name: str = "windows") -> Any:
    """Open a table with LanceDB itself."""
    return lancedb.connect(folder).open_table(name)


def window_times(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Return the start and end of each searchable window, by path."""
    times: dict[str, list[tuple[float, float]]] = {}
    for table in open_store(folder).read_windows(["path", "start", "end"]):
        for row in table.to_pylist():
            times.setdefault(row["path"], []).append((row["start"], row["end"]))
    return {path: sorted(windows) for path, windows in times.items()}


def embeddings(folder: Path) -> dict[tuple[str, int, int], float]:
    """Return each value of each embedding, by path, number of the window and dimension."""
    return {
        (row["path"], row["number"], i): value
        for table in open_store(folder).read_windows(["path", "number", "embedding"])
        for row in table.to_pylist()
        for i, value in enumerate(row["embedding"])
    }
