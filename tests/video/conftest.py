"""The videos of `made_videos`, each made and decoded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest
from made_videos import ENCODINGS, MORE, Whole, encode


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Paths of the videos in ENCODINGS and MORE by name; each is made on first use."""
    folder = tmp_path_factory.mktemp("videos")

    def get(name: str) -> Path:
        path = folder / name
        if not path.exists():
            codec, options = (ENCODINGS | MORE)[name]
            encode(path, codec, **options)
        return path

    return get


@pytest.fixture(scope="session")
def whole(videos: Callable[[str], Path]) -> Callable[[str], Whole]:
    """The same videos, decoded from beginning to end with PyAV alone."""
    decoded: dict[str, Whole] = {}

    def get(name: str) -> Whole:
        if name not in decoded:
            path = videos(name)
            with av.open(str(path)) as container:
                frames = [(f.to_ndarray(format="rgb24"), f.time) for f in container.decode(video=0)]
            decoded[name] = Whole(path, [f for f, _ in frames], [t for _, t in frames])
        return decoded[name]

    return get
