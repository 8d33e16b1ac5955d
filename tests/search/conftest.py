"""Fixtures: an index of three small videos."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from openxclip import VideoIndex, VideoPipeline


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)


@pytest.fixture
def videos(clip_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip_folder, tmp_path / "videos"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of `index`."""
    return tmp_path / "index"


@pytest.fixture
def index(pipeline: VideoPipeline, videos: Path, folder: Path) -> VideoIndex:
    index = VideoIndex.open(folder, model=pipeline, window=0.4, stride=0.2)
    assert len(index) == 0
    assert index.files() == []
    done = index.add(videos)
    assert sorted(done.added) == sorted(str(path) for path in videos.rglob("*.mp4"))
    assert not done.errors
    return index
