"""How windows are merged into hits, how hits are scored, and that no hit is missed."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from index_tables import INFO, create_store, window_row

from openxclip import VideoIndex, VideoPipeline, classify
from openxclip.search import Hit, searching
from openxclip.search.moments import SearchOptions, Window, merge_neighbours
from openxclip.search.schema import VideoRow
from openxclip.search.searching import Searcher

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WINDOW_S = 10.0


def make_searcher(
    folder: Path, pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch, videos: dict[str, list[float]]
) -> Searcher:
    """Make an index whose windows have these cosines with any text, and 0 with neutral texts."""
    width = pipeline.model.config.projection_dim
    rows = []
    for i, (path, cosines) in enumerate(videos.items()):
        for number, cosine in enumerate(cosines):
            embedding = np.eye(1, width)[0] * cosine + np.eye(1, width, 1)[0] * math.sqrt(1 - cosine**2)
            span = {"start": WINDOW_S * number, "end": WINDOW_S * (number + 1), "duration": WINDOW_S * len(cosines)}
            rows.append(window_row(7 * i, path, embedding, number=number, **span))
    store = create_store(folder / "index", width)
    store.put_videos(VideoRow(id=7 * i, path=path, state="complete") for i, path in enumerate(videos))
    store.add_windows(rows)
    store.refresh()
    texts_KE = torch.eye(width)[[0, 2, 3, 4, 5, 6]]
    monkeypatch.setattr(pipeline, "encode_texts", lambda texts: texts_KE[: len(texts)], raising=False)
    return Searcher(store, pipeline, INFO)


def hits(searcher: Searcher, **options: Any) -> list[Hit]:
    return searcher.by_text("a cat", SearchOptions(**options))


def spans(found: list[Hit]) -> list[tuple[str, float, float, float, int]]:
    return [(hit.path, hit.start, hit.end, hit.best_start, hit.windows) for hit in found]


OTHERS = {f"other{i}": [0.1] for i in range(60)}


def test_neighbouring_windows_are_one_hit(tmp_path: Path, pipeline: VideoPipeline, monkeypatch) -> None:
    videos = {"film": [0.1, 0.5, 0.6, 0.55, 0.1, 0.1, 0.5, 0.2], "clip": [0.4], **OTHERS}
    searcher = make_searcher(tmp_path, pipeline, monkeypatch, videos)
    found = hits(searcher, k=3)
    assert spans(found) == [("film", 10, 40, 20, 3), ("film", 60, 70, 60, 1), ("clip", 0, 10, 0, 1)]
    assert [hit.similarity for hit in found] == pytest.approx([0.6, 0.5, 0.4], abs=1e-5)
    assert [(hit.best_end, hit.duration) for hit in found[:2]] == [(30, 80), (70, 80)]
    raw = hits(searcher, k=5, merge=False)
    assert [(hit.start, hit.windows) for hit in raw] == [(20, 1), (30, 1), (10, 1), (60, 1), (0, 1)]
    assert spans(hits(searcher, k=2, where="path = 'film' or path like 'other%'", per_video=1))[0] == spans(found)[0]


def test_an_hour_that_matches_does_not_hide_other_hits(tmp_path: Path, pipeline: VideoPipeline, monkeypatch) -> None:
    random = np.random.default_rng(0)
    hour = (0.6 + random.uniform(-0.01, 0.01, 360)).tolist()
    videos = {"hour": hour, "it's": [0.4, 0.4], "b": [0.3], **{f"other{i}": [0.1] for i in range(700)}}
    monkeypatch.setattr(searching, "_CANDIDATES", 20)
    found = hits(make_searcher(tmp_path, pipeline, monkeypatch, videos), k=3)
    best = int(np.argmax(hour))
    assert spans(found) == [("hour", 0, 3600, 10 * best, 360), ("it's", 0, 20, found[1].best_start, 2),
                             ("b", 0, 10, 0, 1)]  # fmt: skip


def test_a_uniform_hour_is_not_merged_into_one_hit(tmp_path: Path, pipeline: VideoPipeline, monkeypatch) -> None:
    hour = 0.6 + 0.02 * np.random.default_rng(0).standard_normal(360)
    found = hits(make_searcher(tmp_path, pipeline, monkeypatch, {"hour": hour.tolist()}))
    assert len(found) == 10
    assert max(hit.end - hit.start for hit in found) <= 100
    assert found[0].best_start == 10 * int(np.argmax(hour))


def test_the_number_of_hits_per_video_is_limited(tmp_path: Path, pipeline: VideoPipeline, monkeypatch) -> None:
    monkeypatch.setattr(searching, "_CANDIDATES", 20)
    peaks = [0.6, 0.1, 0.1] * 50
    searcher = make_searcher(tmp_path, pipeline, monkeypatch, {"it's": peaks, "a": [0.5], "b": [0.4], **OTHERS})
    assert [hit.path for hit in hits(searcher, k=4, per_video=1)][:3] == ["it's", "a", "b"]
    assert [hit.path for hit in hits(searcher, k=5, per_video=2)][:4] == ["it's", "it's", "a", "b"]
    assert [hit.path for hit in hits(searcher, k=3, per_video=1, merge=False)] == ["it's", "a", "b"]
    assert {hit.path for hit in hits(searcher, k=5)} == {"it's"}
    only = hits(searcher, k=9, per_video=1, where="path = 'it''s' or path = 'b'")
    assert [hit.path for hit in only] == ["it's", "b"]


def test_minimum_score_and_similarity(tmp_path: Path, pipeline: VideoPipeline, monkeypatch) -> None:
    scale = pipeline.model.logit_scale.exp().item()
    middle = math.log(5) / scale  # has half the share against five neutral texts with cosine 0
    cosines = {"a": [0.9], "b": [middle + 2 / scale], "c": [middle - 1 / scale], "d": [-0.5]}
    monkeypatch.setattr(searching, "_CANDIDATES", 1)
    searcher = make_searcher(tmp_path, pipeline, monkeypatch, cosines)
    found = hits(searcher)
    shares = [1 / (1 + 5 * math.exp(-scale * cosine)) for (cosine,) in cosines.values()]
    assert [hit.score for hit in found] == pytest.approx(shares, abs=1e-4)
    assert [hit.path for hit in hits(searcher, min_score=0.5)] == ["a", "b"]
    assert [hit.path for hit in hits(searcher, min_score=shares[2] - 0.01)] == ["a", "b", "c"]
    assert [hit.path for hit in hits(searcher, min_similarity=0.89)] == ["a"]
    assert [hit.path for hit in hits(searcher, min_similarity=-0.49)] == ["a", "b", "c"]
    assert hits(searcher, min_score=1.0, where="path = 'd'") == []


def windows(cosines: list[float], *, stride: float, length: float = 10.0) -> list[Window]:
    rows = [
        {"video": 1, "number": i, "start": stride * i, "end": stride * i + length, "similarity": cosine}
        for i, cosine in enumerate(cosines)
    ]
    return [Window(row, row["similarity"], False) for row in rows]


def test_overlapping_windows() -> None:
    def found(cosines: list[float], stride: float = 5.0) -> list[tuple[float, float, int]]:
        moments = merge_neighbours(windows(cosines, stride=stride), 0.0)
        return [(moment.start, moment.end, moment.windows) for moment in moments]

    # Half of each other window lies in the first moment
    assert found([0.1, 0.5, 0.6, 0.5, 0.1, 0.1]) == [(5, 25, 3), (25, 35, 1)]
    assert found([0.6, 0.1, 0.6]) == [(0, 20, 3)]  # the window between is covered
    assert found([0.6, 0.1, 0.5], stride=10.0) == [(0, 10, 1), (20, 30, 1), (10, 20, 1)]
    assert found([0.6, 0.5, 0.5], stride=12.0) == [(0, 10, 1), (12, 22, 1), (24, 34, 1)]  # with gaps between them
    apart = found([0.1, 0.6, 0.2, 0.6, 0.1], stride=8.0)
    assert apart == [(8, 18, 1), (24, 34, 1), (16, 26, 1), (0, 10, 1), (32, 42, 1)]


def test_merging_keeps_every_window_once_and_no_two_hits_overlap_by_half() -> None:
    random = np.random.default_rng(1)
    for stride in (2.0, 5.0, 7.0, 10.0, 13.0):
        every = windows(random.uniform(0, 1, 60).tolist(), stride=stride)
        candidates = [window for window in every if random.random() < 0.8]
        found = merge_neighbours(candidates, 0.5)
        similarities = [moment.best.plain_similarity for moment in found]
        assert similarities == sorted(similarities, reverse=True)
        for moment in found:
            assert moment.start <= moment.best.start < moment.best.end <= moment.end
        for left, right in pairwise(sorted(found, key=lambda moment: moment.start)):
            assert left.end - right.start < 0.5 * max(left.end - left.start, right.end - right.start) + 1e-9
        covered = sum(moment.windows for moment in found)
        assert covered <= len(candidates)
        if stride >= 10:
            assert covered == len(candidates)


def test_reranked_candidates_come_first() -> None:
    separate = windows([0.5, 0.9, 0.4], stride=30.0)
    separate[0].reranked = separate[2].reranked = True
    separate[0].similarity = 0.1
    assert [moment.best.plain_similarity for moment in merge_neighbours(separate, 0.0)] == [0.4, 0.5, 0.9]


@pytest.mark.parametrize("rerank", [0, 200])
def test_scores_are_those_of_classify(pipeline: VideoPipeline, videos: Path, tmp_path: Path, rerank: int) -> None:
    whole = VideoIndex.open(tmp_path / "whole", model=pipeline)
    whole.add(videos)
    found = whole.search("a red video", rerank=rerank)
    assert [hit.reranked for hit in found] == [rerank > 0] * 3
    if rerank:
        scores = {done.path: done.labels[0].score for done in classify(videos, ["a red video"], model=pipeline)}
        found_scores = {hit.path: hit.score for hit in found}
        assert found_scores == pytest.approx(scores, abs=2e-3)  # patches are in half precision
    else:
        assert all(hit.score is not None and 0 < hit.score < 1 for hit in found)


def test_prompts_decide_the_order_and_the_score(index: VideoIndex, pipeline: VideoPipeline) -> None:
    with_prompts = {(hit.path, hit.start): hit for hit in index.search("a red video", k=12, merge=False)}
    plain = {(hit.path, hit.start): hit for hit in index.search("a red video", k=12, merge=False, rerank=0)}
    assert with_prompts.keys() == plain.keys()
    assert any(abs(with_prompts[key].similarity - plain[key].similarity) > 1e-4 for key in plain)
    assert any(abs((with_prompts[key].score or 0) - (plain[key].score or 0)) > 1e-5 for key in plain)


def test_under_another_default_device(index: VideoIndex) -> None:
    with torch.device("meta"):
        hits_under_meta = index.search("a red video", k=12)
    assert hits_under_meta == index.search("a red video", k=12)


def test_search_for_a_part_of_a_video(index: VideoIndex, videos: Path) -> None:
    path = str(videos / "red2.mp4")
    found = index.search(video=path, start=0.2, end=0.6, k=1, merge=False)[0]
    assert (found.path, round(found.start, 3), found.score, found.reranked) == (path, 0.2, None, False)
    assert found.similarity == pytest.approx(1, abs=1e-5)
    whole = index.search(video=path, k=1, merge=False)[0]
    assert whole.similarity < 1 - 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of them"), ({"text": "a", "video": "b"}, "one of them"), ({"text": " "}, "empty"),
        ({"text": "a", "k": 0}, "k=0"), ({"text": "a", "rerank": -1}, "rerank=-1"),
        ({"text": "a", "per_video": 0}, "per_video=0: must be 1 or more"),
        ({"text": "a", "min_score": 1.5}, "min_score=1.5: must be from 0 to 1"),
        ({"text": "a", "min_score": math.nan}, "min_score=nan"),
        ({"text": "a", "min_similarity": 2}, "min_similarity=2: must be from -1 to 1"),
        ({"text": "a", "start": 1.0}, "give video="), ({"text": "a", "end": 1.0}, "give video="),
        ({"video": "b", "min_score": 0.5}, "use min_similarity"),
        ({"video": "b", "start": 3.0, "end": 2.0}, "end=2.0: must be after start=3"),
    ],
)  # fmt: skip
def test_invalid_arguments(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoIndex.open(tmp_path / "none").search(**options)


@pytest.mark.slow
def test_scenes_that_no_video_shows_score_low(tmp_path: Path) -> None:
    samples = Path(__file__).parents[2] / "samples"
    index = VideoIndex.open(tmp_path / "index", model="mini", window=2, device="cpu")
    index.add(samples)
    shown = {
        "a cat moves left": "cat_moves_left", "a fox chases a chick": "fox_chases_a_chick",
        "an owl vanishes": "owl_vanishes", "a rocket leaves": "rocket_leaves",
    }  # fmt: skip
    for rerank in (200, 0):
        for text, name in shown.items():
            best = index.search(text, k=1, rerank=rerank)[0]
            assert (Path(best.path).stem, (best.score or 0) > 0.8) == (name, True)
            assert len(index.search(text, min_score=0.5, rerank=rerank)) == 1
        for text in ("a dog bounces", "a car moves up", "a tree grows", "a clock shakes"):
            assert all((hit.score or 0) < 0.1 for hit in index.search(text, rerank=rerank))
            assert index.search(text, min_score=0.5, rerank=rerank) == []
