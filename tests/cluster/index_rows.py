"""Compare indexes row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from openxclip.search.store import Store


def rows_of_index(uri: str, *, prefix: str = "") -> tuple[dict[str, Any], dict[tuple[str, int], Any]]:
    """The rows of videos by path, and of searchable windows by path and number; each is there once.

    Args:
        uri: place of the index.
        prefix: is cut off paths.
    """
    store = Store(uri)
    store.open()
    videos: dict[str, Any] = {}
    for row in store.videos():
        path = row.path.removeprefix(prefix)
        assert path not in videos, path
        videos[path] = row
    windows: dict[tuple[str, int], Any] = {}
    for table in store.read_windows():
        for row in table.to_pylist():
            key = row["path"].removeprefix(prefix), row["number"]
            assert key not in windows, key
            windows[key] = row
    return videos, windows


def assert_equal_indexes(uri: str, other: str, *, prefix: str = "", other_prefix: str = "") -> None:
    """Two indexes have the same rows; ids are compared if the paths are the same."""
    videos, windows = rows_of_index(uri, prefix=prefix)
    other_videos, other_windows = rows_of_index(other, prefix=other_prefix)
    assert videos.keys() == other_videos.keys()
    same = ("id", "size", "modified", "kind") if prefix == other_prefix else ("size", "kind")
    for path, row in videos.items():
        for name in ("state", "content", "duration", "width", "height", "windows", "reason", "options", *same):
            assert getattr(row, name) == getattr(other_videos[path], name), (path, name)
    assert windows.keys() == other_windows.keys()
    for key, row in windows.items():
        for name in (
            "start",
            "end",
            "duration",
            "size",
            "featureless",
            *(("video",) if prefix == other_prefix else ()),
        ):
            assert row[name] == other_windows[key][name], (key, name)
        np.testing.assert_allclose(row["embedding"], other_windows[key]["embedding"], atol=1e-5)
