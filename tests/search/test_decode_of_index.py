"""An index keeps which frames it decodes, and refuses to mix windows of two ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from index_tables import embeddings

from openxclip import VideoIndex, VideoPipeline
from openxclip.search.bulk.rows import encoding_options
from openxclip.search.opening import OpenIndex
from openxclip.search.schema import IndexInfo
from openxclip.timelines.indexed import IndexedTimelineFinder
from openxclip.video import ReadOptions

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def film(videos: Path) -> Path:
    return sorted(videos.rglob("*.mp4"))[0]


def test_an_index_of_key_frames_holds_what_reading_key_frames_gives(
    pipeline: VideoPipeline, film: Path, tmp_path: Path
) -> None:
    read = []
    encode = pipeline.encode_clips
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            pipeline, "encode_clips", lambda *args, **options: read.append(options["read"]) or encode(*args, **options)
        )
        index = VideoIndex.open(tmp_path / "key", model=pipeline, window=0.4, decode="key")
        assert index.add(film).added
        VideoIndex.open(tmp_path / "all", model=pipeline, window=0.4).add(film)
    assert [options.decode for options in read] == ["key", "all"]
    assert index.info is not None
    assert index.info.decode == "key"
    key, exact = (np.array(list(embeddings(tmp_path / name).values())) for name in ("key", "all"))
    assert key.shape == exact.shape
    assert np.abs(key - exact).max() > 1e-4  # the windows of key frames show the same frame several times


def test_another_way_of_decoding_is_refused(pipeline: VideoPipeline, film: Path, tmp_path: Path) -> None:
    index = VideoIndex.open(tmp_path / "key", model=pipeline, window=0.4, decode="key")
    index.add(film)
    with pytest.raises(ValueError, match=r"decode=all: the index .* was made with decode=key"):
        VideoIndex.open(tmp_path / "key", model=pipeline, decode="all")
    again = VideoIndex.open(tmp_path / "key", model=pipeline)
    film.touch()
    assert again.add(film, read=ReadOptions(fps=10)).unchanged  # "all" of other options is their default
    film.write_bytes(film.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="decode='nonref': the windows of the index are made with decode='key'"):
        again.add(film, read=ReadOptions(decode="nonref"))
    with pytest.raises(ValueError, match="allow_cut_off"):
        again.add(film, read=ReadOptions(allow_cut_off=True))
    with pytest.raises(ValueError, match="decode='some'"):
        VideoIndex.open(tmp_path / "new", model=pipeline, decode="some")  # type: ignore[arg-type]


def test_a_timeline_from_an_index_of_key_frames_says_that_it_is_not_exact(
    pipeline: VideoPipeline, film: Path, tmp_path: Path
) -> None:
    for decode, expected in (("key", True), (None, False)):
        place = tmp_path / str(decode)
        VideoIndex.open(place, model=pipeline, window=0.4, decode=decode).add(film)  # type: ignore[arg-type]
        finder = IndexedTimelineFinder(OpenIndex(place, pipeline, {}, {}), ["a cat"])
        assert any("--decode" in note for note in finder.notes) == expected


def test_an_older_index_decoded_all_frames(index: VideoIndex) -> None:
    assert index.info is not None
    older = index.info.to_json().replace(b'"decode": "all", ', b"")
    assert b"decode" not in older
    assert IndexInfo.from_json(older) == index.info
    # so that an interrupted run of an older version is resumed, and ids stay the same
    assert "decode" not in encoding_options(index.info)
    assert "key" in encoding_options(replace(index.info, decode="key"))
