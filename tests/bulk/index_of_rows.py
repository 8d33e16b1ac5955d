"""Make an index that has rows of videos, without windows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from openxclip.search.schema import IndexInfo, VideoRow
from openxclip.search.store import Store

_INFO = IndexInfo(
    model=None, weights="", transforms={}, num_frames=4, window=10.0, stride=10.0, sampling="time", patches=False
)


def store_with(folder: Path, videos: Iterable[VideoRow]) -> Store:
    """Create an index with these videos, and open it."""
    store = Store(str(folder))
    store.create(_INFO, 4)
    store.open()
    store.put_videos(videos, new=True)
    store.refresh()
    return store
