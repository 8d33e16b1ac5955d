"""An index without patches reranks by reading its candidates again, and a candidate that is gone keeps its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from openxclip import VideoIndex, VideoPipeline
from openxclip.search import Hit
from openxclip.search.moments import Window, keep_places, sort_best_first

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TEXT = "a red video"


@pytest.fixture
def plain(pipeline: VideoPipeline, index: VideoIndex, videos: Path, tmp_path: Path) -> VideoIndex:
    """Return an index of the same videos as `index`, without patches."""
    plain = VideoIndex.open(tmp_path / "plain", model=pipeline, window=0.4, stride=0.2, patches=False)
    plain.add(videos)
    return plain


def search(index: VideoIndex, **options: int) -> list[Hit]:
    return index.search(TEXT, k=100, merge=False, **options)


def test_candidates_that_are_read_again_score_as_those_with_stored_patches(
    index: VideoIndex, plain: VideoIndex
) -> None:
    assert not any(hit.reranked for hit in search(plain))
    for count in (5, 100):
        stored, again = search(index, rerank=count), search(plain, rerank=count)
        assert [(hit.path, hit.start, hit.reranked) for hit in again] == [
            (hit.path, hit.start, hit.reranked) for hit in stored
        ]
        assert any(hit.reranked for hit in again)
        assert [hit.similarity for hit in again] == pytest.approx([hit.similarity for hit in stored], abs=1e-3)
        assert [hit.score for hit in again] == pytest.approx([hit.score for hit in stored], abs=1e-3)
    assert not any(hit.reranked for hit in search(plain, rerank=0))


@pytest.mark.slow
def test_the_candidates_of_an_index_of_key_frames_are_read_in_the_same_way(
    pipeline: VideoPipeline, videos: Path, tmp_path: Path
) -> None:
    found = []
    for name, patches in (("stored", True), ("again", False)):
        index = VideoIndex.open(tmp_path / name, model=pipeline, window=0.4, decode="key", patches=patches)
        index.add(videos)
        found.append(sorted(search(index, rerank=100), key=lambda hit: (hit.path, hit.start)))
    stored, again = ([hit.similarity for hit in hits] for hits in found)
    assert again == pytest.approx(stored, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "reason"), [("delete", "there is no such file"), ("write", "has changed since it was indexed")]
)
def test_a_candidate_that_cannot_be_read_again_keeps_its_place(plain: VideoIndex, change: str, reason: str) -> None:
    before = search(plain, rerank=0)
    first = before[0].path
    if change == "delete":
        Path(first).unlink()
    else:
        Path(first).write_bytes(b"other")
    number = sum(hit.path == first for hit in before)
    with pytest.warns(RuntimeWarning, match=f"{number} of 12 candidates could not be read again.*{reason}"):
        after = search(plain, rerank=100)
    assert [hit.path == first for hit in after] == [hit.path == first for hit in before]
    assert [not hit.reranked for hit in after] == [hit.path == first for hit in after]
    lost = [(hit.start, hit.similarity) for hit in after if hit.path == first]
    assert lost == [(hit.start, hit.similarity) for hit in before if hit.path == first]


def test_a_file_with_other_times_and_the_same_content_is_read_again(plain: VideoIndex) -> None:
    Path(plain.files()[0]).touch()
    assert all(hit.reranked for hit in search(plain, rerank=100))


def test_places_among_reranked_windows() -> None:
    def windows(*similarities: float | None) -> list[Window]:
        return [
            Window({"similarity": 0.0}, 0.9 if similarity is None else similarity, similarity is not None)
            for similarity in similarities
        ]

    for similarities in ((None, 0.2, 0.4), (0.2, None, None, 0.4), (0.2, 0.4, None), (None, None), (0.1, None, 0.1)):
        candidates = windows(*similarities)
        keep_places(candidates)
        ordered = sort_best_first(candidates)
        assert [window.reranked for window in ordered] == [similarity is not None for similarity in similarities]
        ranked = [window.similarity for window in ordered if window.reranked]
        assert ranked == sorted(ranked, reverse=True)
        unranked = [window for window in candidates if not window.reranked]
        assert [window for window in ordered if not window.reranked] == unranked
