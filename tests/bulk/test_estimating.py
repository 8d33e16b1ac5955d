"""An estimate from a few videos is right where all are alike, and says what it doesn't know."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from s3_server import S3Server

from openxclip import VideoIndex, VideoPipeline
from openxclip.errors import VideoError
from openxclip.search.bulk import estimating
from openxclip.search.bulk.estimating import Estimate, describe, estimate
from openxclip.search.bulk.items import SourceItem
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.planning import plan
from openxclip.search.bulk.sources import open_source
from openxclip.search.maintenance import disk_bytes
from openxclip.search.schema import IndexInfo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)


@pytest.fixture(autouse=True)
def shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "_ENCODE_S", 0.0)


@pytest.fixture
def index(pipeline: VideoPipeline, clip_folder: Path, tmp_path: Path) -> VideoIndex:
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.4, stride=0.2)
    index.add(clip_folder)
    return index


def info_of(index: VideoIndex) -> IndexInfo:
    assert index.info is not None
    return index.info


def test_all_videos_probed_give_the_numbers_of_the_index(
    pipeline: VideoPipeline, clip_folder: Path, index: VideoIndex
) -> None:
    asked = []
    found = estimate(
        plan(open_source(clip_folder), None), pipeline, info_of(index), on_probe=lambda *count: asked.append(count)
    )
    assert (found.videos, found.probed, found.errors, found.error) == (3, 3, (), 0)
    assert found.windows == len(index) == 12
    assert found.hours * 3600 == pytest.approx(3, abs=0.1)
    assert found.source_bytes == sum(path.stat().st_size for path in clip_folder.rglob("*.mp4"))
    assert min(found.reading, found.model) > 0
    assert found.fetching == 0
    assert asked == [(1, 3), (2, 3), (3, 3)]
    assert describe(found)[0].startswith("3 videos, about 3")
    assert "seconds of footage in" in describe(found)[0]
    assert found.to_dict()["windows"] == 12


@pytest.mark.slow
def test_a_sample_stands_for_all_videos(pipeline: VideoPipeline, clip_folder: Path, index: VideoIndex) -> None:
    path = str(next(clip_folder.rglob("*.mp4")))
    items = [SourceItem(path, Path(path).stat().st_size)] * 500
    found = estimate([items[:300], items[300:]], pipeline, info_of(index), probes=2, seed=1)
    assert (found.videos, found.probed) == (500, 2)
    assert found.windows == 500 * 4
    assert found.source_bytes == 500 * Path(path).stat().st_size
    assert found.error == 0  # all are equally long
    one = estimate([items], pipeline, info_of(index), probes=1, seed=1)
    assert math.isnan(one.error)


def test_the_sample_is_random_and_of_the_asked_size() -> None:
    parts = [[SourceItem(str(i)) for i in range(first, first + 100)] for first in range(0, 1000, 100)]
    drawn: list[int] = []
    for seed in range(200):
        total, sample = estimating._draw(parts, 5, random.Random(seed))
        assert total == 1000
        assert len({item.path for item in sample}) == 5
        drawn += [int(item.path) for item in sample]
    assert 450 < sum(drawn) / len(drawn) < 550


def test_videos_that_cannot_be_read_are_counted(
    pipeline: VideoPipeline, clip_folder: Path, index: VideoIndex, tmp_path: Path
) -> None:
    path = str(next(clip_folder.rglob("*.mp4")))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    found = estimate([[SourceItem(path), SourceItem(str(broken))]], pipeline, info_of(index))
    assert (found.videos, found.windows) == (2, 4)
    assert [error.source for error in found.errors] == [str(broken)]
    assert "1 of 2 probed videos could not be read" in describe(found)[-1]
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        estimate([[SourceItem(str(broken))]], pipeline, info_of(index))
    with pytest.raises(ValueError, match="there are no videos to index"):
        estimate([], pipeline, info_of(index))


@pytest.mark.slow
def test_objects_are_probed_too(s3: S3Server, pipeline: VideoPipeline, clip_folder: Path, index: VideoIndex) -> None:
    bucket = s3.bucket("probing")
    Objects.open(bucket).put("a.mp4", next(clip_folder.rglob("*.mp4")).read_bytes())
    found = estimate(plan(open_source(bucket), None), pipeline, info_of(index))
    assert (found.videos, found.windows) == (1, 4)
    assert found.fetching > 0


@pytest.mark.slow
def test_the_bytes_of_a_window_without_patches(pipeline: VideoPipeline, tmp_path: Path, clip_folder: Path) -> None:
    index = VideoIndex.open(tmp_path / "plain", model=pipeline, window=0.4, stride=0.01, patches=False)
    index.add(clip_folder)
    index.compact()
    found = estimate(plan(open_source(clip_folder), None), pipeline, info_of(index))
    assert found.windows == len(index)
    assert found.index_bytes < 2 * disk_bytes(tmp_path / "plain")


def test_the_time_on_a_cluster_and_what_limits_it() -> None:
    found = Estimate(
        videos=10, probed=10, errors=(), error=0.1, hours=100, windows=36_000, source_bytes=1, index_bytes=1,
        reading=20, model=5, fetching=0, device="cpu",
    )  # fmt: skip
    assert found.hours_on(10) == (2.5, "reading")
    with pytest.raises(ValueError, match="measured on a CPU"):
        found.hours_on(10, 1)
    on_gpu = Estimate(**{**vars(found), "device": "cuda"})
    assert on_gpu.hours_on(16, 2) == (2.5, "the model")
    assert on_gpu.hours_on(4, 2) == (5, "reading")
    with pytest.raises(ValueError, match="measured on a GPU"):
        on_gpu.hours_on(4)
    assert "± 20 %" in describe(found)[0]
