"""An index of three small videos."""

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
def index(pipeline: VideoPipeline, videos: Path, tmp_path: Path) -> VideoIndex:
    made = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.4, stride=0.2)
    assert len(made) == 0
    assert made.files() == []
    added = made.add(videos)
    assert sorted(added.added) == sorted(str(path) for path in videos.rglob("*.mp4"))
    assert not added.errors
    return made
