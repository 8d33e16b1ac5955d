"""A new index takes its windows from the model's contract of time, and a search its neutral texts and threshold."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_contracts import with_contract

from openxclip import CheckpointError, ReadOptions, VideoIndex, VideoPipeline

# the contracts name another number of frames than the model's
pytestmark = pytest.mark.filterwarnings("ignore:the model's temporal positions")


@pytest.fixture
def contracted(tiny_folder: Path, tmp_path: Path) -> Path:
    contract = {"window": 0.4, "stride": 0.1, "frames": 3, "neutral_texts": ["a red wall"], "threshold": 0.9}
    return with_contract(tiny_folder, tmp_path / "model", contract)


def load(folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(folder, device="cpu", isolate=False)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (0.4, 0.1, 3)),
        ({"stride": 0.2}, (0.4, 0.2, 3)),
        ({"window": 0.5}, (0.5, 0.5, 3)),  # the contract's stride is for the contract's window
        ({"window": 0.5, "stride": 0.25, "num_frames": 4}, (0.5, 0.25, 4)),
    ],
)
def test_a_new_index_takes_what_no_option_says(
    settings: dict[str, float], expected: tuple[float, float, int], contracted: Path, videos: Path, folder: Path
) -> None:
    index = VideoIndex.open(folder, model=load(contracted), **settings)  # type: ignore[arg-type]
    index.add(videos / "red2.mp4")
    assert index.info is not None
    assert (index.info.window, index.info.stride, index.info.num_frames) == expected
    window, stride, _ = expected
    assert len(index) == round((1.0 - window) / stride) + 1


def test_without_a_contract_windows_are_of_ten_seconds(pipeline: VideoPipeline, videos: Path, folder: Path) -> None:
    index = VideoIndex.open(folder, model=pipeline)
    index.add(videos / "red2.mp4")
    assert index.info is not None
    assert (index.info.window, index.info.stride, index.info.num_frames) == (10.0, 10.0, 4)


def test_an_existing_index_keeps_its_windows(contracted: Path, index: VideoIndex, videos: Path, folder: Path) -> None:
    before = len(index)
    again = VideoIndex.open(folder, model=load(contracted))  # the same weights
    again.remove(videos / "red2.mp4")
    again.add(videos)
    assert len(again) == before
    assert again.info == index.info


def test_an_existing_index_takes_videos_though_the_contract_is_invalid(
    tiny_folder: Path, index: VideoIndex, videos: Path, folder: Path, tmp_path: Path
) -> None:
    wrong = load(with_contract(tiny_folder, tmp_path / "wrong", {"window": "long"}))
    again = VideoIndex.open(folder, model=wrong)
    again.remove(videos / "red2.mp4")
    assert len(again.add(videos).added) == 1
    said = "wrong: config.json: openxclip: window='long': must be a number of seconds"
    with pytest.raises(CheckpointError, match=said):
        again.search("a red wall")
    with pytest.raises(CheckpointError, match=said):
        VideoIndex.open(tmp_path / "new", model=wrong).add(videos)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("rerank", [200, 0])
def test_a_search_scores_against_the_neutral_texts_of_the_contract(
    contracted: Path, index: VideoIndex, folder: Path, rerank: int
) -> None:
    again = VideoIndex.open(folder, model=load(contracted))
    hits = again.search("a red wall", rerank=rerank)
    assert [hit.score for hit in hits] == pytest.approx([0.5] * len(hits), abs=1e-5)
    against_others = index.search("a red wall", rerank=rerank)
    assert any(abs((hit.score or 0) - 0.5) > 0.05 for hit in against_others)


def test_the_lowest_score_may_be_the_threshold_of_the_contract(
    tiny_folder: Path, index: VideoIndex, folder: Path, tmp_path: Path
) -> None:
    scores = sorted(hit.score or 0 for hit in index.search("a red wall", merge=False, k=100))
    between = (scores[2] + scores[3]) / 2
    own = {"a red wall": {"threshold": between, "false_alarms_per_hour": 1}}
    again = VideoIndex.open(folder, model=load(with_contract(tiny_folder, tmp_path / "m", {"labels": own})))
    found = again.search(" a red wall ", merge=False, k=100, min_score="auto")
    assert len(found) == sum(score >= between for score in scores)
    assert 0 < len(found) < len(scores)
    others = again.search("another wall", merge=False, k=100, min_score="auto")  # its threshold is 0.5
    assert len(others) == sum((hit.score or 0) >= 0.5 for hit in again.search("another wall", merge=False, k=100))
    with pytest.raises(ValueError, match="min_score='high': must be a number from 0 to 1, or 'auto'"):
        again.search("a red wall", min_score="high")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_score=auto: a search by video has no score"):
        again.search(video=index.files()[0], min_score="auto")


@pytest.mark.parametrize("read", [ReadOptions(decode="key"), ReadOptions(allow_cut_off=True)], ids=["key", "cut off"])
def test_an_index_holds_windows_of_whole_files_decoded_in_one_way(
    read: ReadOptions, contracted: Path, videos: Path, folder: Path
) -> None:
    index = VideoIndex.open(folder, model=load(contracted))
    with pytest.raises(ValueError, match=r"made with decode='all'|an index holds windows of whole files"):
        index.add(videos / "red2.mp4", read=read)
