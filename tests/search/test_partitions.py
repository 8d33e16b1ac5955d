"""Several indexes are searched as one index of all their videos."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_tables import create_store

from openxclip import VideoIndex, VideoIndexError, VideoPipeline
from openxclip.search import Hit

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WINDOWS = {"window": 0.4, "stride": 0.2}


@pytest.fixture(scope="module")
def made(clip_folder: Path, pipeline: VideoPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two indexes, `first` and `second`, one of all videos, `whole`, and the videos."""
    folder = tmp_path_factory.mktemp("partitions")
    videos = Path(shutil.copytree(clip_folder, folder / "videos"))
    parts = {"first": [videos / "red2.mp4"], "second": [videos / "red10.mp4", videos / "more"], "whole": [videos]}
    for name, paths in parts.items():
        VideoIndex.open(folder / name, model=pipeline, **WINDOWS).add(paths)
    return folder


@pytest.fixture
def parts(made: Path, pipeline: VideoPipeline) -> VideoIndex:
    return VideoIndex.open([made / "first", str(made / "second")], model=pipeline)


@pytest.fixture
def whole(made: Path, pipeline: VideoPipeline) -> VideoIndex:
    return VideoIndex.open(made / "whole", model=pipeline)


def assert_same(found: list[Hit], expected: list[Hit]) -> None:
    names = ("path", "start", "end", "best_start", "best_end", "windows", "duration", "reranked")
    assert [[getattr(hit, name) for name in names] for hit in found] == [
        [getattr(hit, name) for name in names] for hit in expected
    ]
    for name in ("score", "similarity"):
        values = [[getattr(hit, name) for hit in hits] for hits in (found, expected)]
        assert values[0] == pytest.approx(values[1], abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"rerank": 0}, {"rerank": 3, "merge": False}, {"merge": False, "k": 4}, {"per_video": 1, "k": 2},
     {"where": "path like '%red%' and start > 0.1"}, {"min_similarity": -0.5, "min_score": 0.0}],
)  # fmt: skip
def test_hits_are_those_of_one_index(parts: VideoIndex, whole: VideoIndex, options: dict[str, Any]) -> None:
    found = parts.search("something blue that moves", **options)
    assert found
    assert_same(found, whole.search("something blue that moves", **options))


def test_hits_of_a_search_by_video_are_those_of_one_index(parts: VideoIndex, whole: VideoIndex, made: Path) -> None:
    by = {"video": made / "videos" / "more" / "blue.mp4", "start": 0.2, "end": 0.6, "k": 3}
    assert_same(parts.search(**by), whole.search(**by))


def test_files_windows_and_description_are_those_of_one_index(parts: VideoIndex, whole: VideoIndex) -> None:
    assert parts.files() == whole.files()
    assert len(parts) == len(whole) > 0
    assert parts.info == whole.info
    assert parts.unfinished() == {}


def test_what_is_in_two_indexes_is_found_once(made: Path, pipeline: VideoPipeline, whole: VideoIndex) -> None:
    twice = VideoIndex.open([made / "whole", made / "first"], model=pipeline)
    for options in ({}, {"merge": False, "k": 3}):
        assert_same(twice.search("a red video", **options), whole.search("a red video", **options))
    assert twice.files() == whole.files()


def test_windows_added_later_are_found(made: Path, pipeline: VideoPipeline, tmp_path: Path) -> None:
    new = VideoIndex.open(tmp_path / "new", model=pipeline, **WINDOWS)
    new.add(made / "videos" / "more")
    both = VideoIndex.open([made / "first", tmp_path / "new"], model=pipeline)
    assert len(both.search("a video", merge=False, k=100)) == len(both)
    new.add(made / "videos" / "red10.mp4")
    assert len(both.search("a video", merge=False, k=100)) == len(both)
    assert len(both.files()) == 3


def test_several_indexes_can_not_be_changed(parts: VideoIndex, made: Path, tmp_path: Path) -> None:
    video = made / "videos" / "red2.mp4"
    for change in (
        lambda: parts.add(video), parts.update, lambda: parts.remove(video), parts.compact, parts.duplicates,
        lambda: parts.add_frames("name", np.zeros((4, 32, 32, 3), np.uint8), 4.0),
        lambda: parts.export(tmp_path / "all.parquet"),
    ):  # fmt: skip
        with pytest.raises(VideoIndexError, match="opened together can only be searched: open the one to change"):
            change()
    assert not (tmp_path / "all.parquet").exists()


def test_other_windows_are_refused_and_named(made: Path, pipeline: VideoPipeline, tmp_path: Path) -> None:
    VideoIndex.open(tmp_path / "other", model=pipeline, window=0.5, stride=0.2).add(made / "videos" / "red2.mp4")
    with pytest.raises(
        ValueError, match=r"other: was made with window=0\.5, and .*first with window=0\.4: only indexes"
    ):
        VideoIndex.open([made / "first", tmp_path / "other"])


def test_another_model_is_refused(made: Path, tmp_path: Path) -> None:
    create_store(tmp_path / "other", 16)
    with pytest.raises(ValueError, match=r"other: was made with the model None, and .*first with .*other weights"):
        VideoIndex.open([made / "first", tmp_path / "other"])


def test_a_place_without_an_index_is_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoIndexError, match="nowhere: there is no index"):
        VideoIndex.open([made / "first", tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="first: is named 2 times"):
        VideoIndex.open([made / "first", made / "first"])
    with pytest.raises(ValueError, match="there is no index to open"):
        VideoIndex.open([])


def test_parts_with_and_without_patches(made: Path, pipeline: VideoPipeline, tmp_path: Path) -> None:
    plain = VideoIndex.open(tmp_path / "plain", model=pipeline, patches=False, **WINDOWS)
    plain.add(made / "videos" / "more")
    with pytest.warns(RuntimeWarning, match="plain: has no patch features, and others of these indexes have") as caught:
        both = VideoIndex.open([made / "first", tmp_path / "plain"], model=pipeline)
    assert caught[0].filename == __file__
    assert not any(hit.reranked for hit in both.search("a video"))
    assert all(hit.reranked for hit in both.search("a video", rerank=100))
