"""What `openxclip index --decode` and `openxclip search --rerank` do with an index without patches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip import VideoIndex

Run = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.filterwarnings("always::RuntimeWarning")
def test_search_says_that_the_order_is_plain_and_reads_candidates_again(
    run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    videos, place = Path(shutil.copytree(clip_folder, tmp_path / "videos")), tmp_path / "index"
    ran = run(
        *("index", videos, "--to", place, "--model", tiny_folder, "--device", "cpu", "--window", 0.5),
        *("--no-patches", "--decode", "key"),
    )
    assert ran.returncode == 0, ran.stderr
    info = VideoIndex.open(place).info
    assert info is not None
    assert (info.decode, info.patches) == ("key", False)

    search = ("search", "a red video", "--in", place, "--device", "cpu", "--raw", "--json")
    ran = run(*search)
    assert "without video-specific prompts" in ran.stderr
    assert not any(json.loads(line)["reranked"] for line in ran.stdout.splitlines())
    assert run(*search, "--rerank", 0).stderr == ""
    shutil.rmtree(next(path for path in videos.rglob("*") if path.is_dir()))
    ran = run(*search, "--rerank", 100)
    hits = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0
    assert "reading the videos of 100 candidates again" in ran.stderr
    assert "could not be read again" in ran.stderr
    assert {hit["reranked"] for hit in hits} == {True, False}
    assert all(hit["reranked"] == Path(hit["path"]).exists() for hit in hits)

    ran = run("index", videos, "--to", place, "--device", "cpu", "--decode", "all")
    assert ran.returncode == 2
    assert "was made with --decode key; leave it out" in ran.stderr
