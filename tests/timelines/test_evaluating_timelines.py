"""Timelines against annotations: the metrics of several videos together, and results in a file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openxclip.errors import OpenXCLIPError, VideoError
from openxclip.timelines.annotations import AnnotatedVideo, Annotations, Moment
from openxclip.timelines.evaluating import score_timelines
from openxclip.timelines.evaluation_run import match_timelines, read_timelines, results_of
from openxclip.timelines.results import Segment, TimelineData
from openxclip.timelines.timeline import Timeline

LABELS = ("run", "sit", "fly")


def timeline(path: str, *segments: tuple[str, float, float, float], duration: float = 20.0) -> Timeline:
    """A timeline with windows of 2 s, in which a label's score is that of its segment, or 0.1."""
    starts = np.arange(0, duration, 2.0)
    scores = np.full((len(starts), len(LABELS)), 0.1, np.float32)
    for label, start, end, score in segments:
        scores[(starts + 1 >= start) & (starts + 1 < end), LABELS.index(label)] = score
    return Timeline(
        path=path,
        labels=LABELS,
        starts=starts,
        ends=starts + 2,
        scores=scores,
        segments=tuple(
            Segment(label=label, start=start, end=end, score=score, peak=(start + end) / 2)
            for label, start, end, score in segments
        ),
        thresholds=dict.fromkeys(LABELS, 0.5),
        duration=duration,
        fps=10.0,
    )


FIRST = AnnotatedVideo(
    name="a", labels=LABELS, moments=(Moment("run", 0, 4), Moment("run", 10, 14), Moment("sit", 4, 8)), duration=20.0
)
SECOND = AnnotatedVideo(name="b", labels=LABELS, moments=(Moment("sit", 0, 10),), duration=20.0)
FOUND_FIRST = timeline("a.mp4", ("run", 0.5, 4.5, 0.9), ("run", 12, 18, 0.8), ("sit", 4, 7, 0.7), ("fly", 0, 2, 0.6))
FOUND_SECOND = timeline("b.mp4", ("sit", 0, 4, 0.6))
ANNOTATIONS = Annotations(form="ActivityNet", videos=(FIRST, SECOND), notes=("a note.",))


def test_metrics_of_two_videos() -> None:
    scores = score_timelines([(FIRST, FOUND_FIRST), (SECOND, FOUND_SECOND)])
    # run: tIoU 3.5/4.5 = 0.78 and 2/8 = 0.25 of two moments; sit: 0.75 and 0.4
    assert scores.map == pytest.approx({0.3: (0.5 + 1) / 2, 0.5: (0.5 + 0.5) / 2, 0.7: (0.5 + 0.5) / 2})
    assert scores.counts == (2, 5, 4), "matched, found, true"
    assert scores.counts.f1 == pytest.approx(4 / 9)
    # queries: run in a (its best segment has 0.78), sit in a (0.75), sit in b (0.4)
    assert (scores.num_videos, scores.num_queries) == (2, 3)
    assert scores.r1 == pytest.approx({0.5: 2 / 3, 0.7: 2 / 3})
    assert scores.query_map[0.75] == pytest.approx((0.5 + 1 + 0) / 3)
    assert scores.query_map[0.8] == 0
    assert scores.query_map_average == pytest.approx(6 * (0.5 + 1) / 3 / 10)
    assert (scores.start_error, scores.end_error) == pytest.approx((0.25, 0.75)), "medians of 0.5 and 0, 0.5 and 1"
    # run doesn't happen in b, fly in neither: 60 seconds, one segment
    assert scores.false_alarms == pytest.approx(60.0)
    assert scores.labels["fly"].false_alarms == 1
    assert scores.labels["fly"].absent_hours == pytest.approx(40 / 3600)
    assert math.isnan(scores.labels["fly"].average_precision[0])
    assert math.isnan(scores.hit1)


def test_precision_over_frames_of_perfect_scores() -> None:
    found = timeline("a.mp4", ("run", 0, 4, 0.9), ("run", 10, 14, 0.9), ("sit", 4, 8, 0.9))
    scores = score_timelines([(FIRST, found)])
    assert scores.frame_map > 0.95, "the score falls on straight lines between the windows"
    assert score_timelines([(FIRST, replace(found, scores=1 - found.scores))]).frame_map < 0.4
    without = replace(found, scores=np.zeros((0, 3), np.float32), starts=np.zeros(0), ends=np.zeros(0))
    assert math.isnan(score_timelines([(FIRST, without)]).frame_map)


def test_hits_of_rated_clips() -> None:
    ratings = np.zeros((10, 2), np.uint8)
    ratings[5, 1] = 4  # 10 to 12 s
    rated = replace(FIRST, ratings={"run": ratings})
    good = timeline("a.mp4", ("run", 10, 12, 0.9))
    assert score_timelines([(rated, good)]).hit1 == 1
    assert score_timelines([(rated, FOUND_FIRST)]).hit1 == 0
    assert score_timelines([(rated, good), (SECOND, FOUND_SECOND)]).num_rated == 1


def test_results_of_nothing_are_nan_and_null() -> None:
    empty = AnnotatedVideo(name="a", labels=LABELS, moments=())
    scores = score_timelines([(empty, timeline("a.mp4"))])
    values = scores.to_dict()
    assert values["false_alarms_per_hour"] == 0
    assert {value for name, value in values.items() if name != "false_alarms_per_hour"} == {None}


# -- from a file -------------------------------------------------------------------------------------------------------


def test_timelines_from_a_file_give_the_same_results(tmp_path: Path) -> None:
    path = tmp_path / "timelines.jsonl"
    path.write_text("\n".join(json.dumps(each.to_dict(scores=True)) for each in (FOUND_SECOND, FOUND_FIRST)) + "\n")
    pairs, missing = match_timelines(ANNOTATIONS, read_timelines(path), absent=["fly"])
    assert [video.name for video, _ in pairs] == ["a", "b"]
    assert missing == ()
    assert score_timelines(pairs).to_dict() == pytest.approx(
        score_timelines([(FIRST, FOUND_FIRST), (SECOND, FOUND_SECOND)]).to_dict()
    )
    lines = [each.to_dict() for each in (FOUND_SECOND, FOUND_FIRST)]
    path.write_text("\n".join(map(json.dumps, lines)))
    without = score_timelines(match_timelines(ANNOTATIONS, read_timelines(path))[0]).to_dict()
    assert without["frame_mAP"] is None
    assert without["F1@0.5"] == pytest.approx(4 / 9)


def test_what_does_not_fit_the_annotations() -> None:
    pairs, missing = match_timelines(ANNOTATIONS, [FOUND_SECOND])
    assert [video.name for video, _ in pairs] == ["b"]
    assert missing == ("a",)
    with pytest.raises(OpenXCLIPError, match=r"b\.mp4: its timeline lacks the label 'swim' of the annotations"):
        match_timelines(ANNOTATIONS, [FOUND_SECOND], absent=["swim"])
    with pytest.raises(OpenXCLIPError, match="there is no timeline of an annotated video, the first of which is a"):
        match_timelines(ANNOTATIONS, [replace(FOUND_SECOND, path="c.mp4")])


@pytest.mark.parametrize("line", ["{", "[]", '{"path": "a"}', '{"path": "a", "labels": [], "segments": [{}]}'])
def test_what_is_no_timeline(tmp_path: Path, line: str) -> None:
    path = tmp_path / "timelines.jsonl"
    path.write_text(json.dumps(FOUND_FIRST.to_dict()) + "\n" + line + "\n")
    with pytest.raises(OpenXCLIPError, match=r"timelines\.jsonl, line 2: is not a timeline"):
        read_timelines(path)


def test_missing_and_unreadable_videos_are_not_counted(tmp_path: Path) -> None:
    broken = TimelineData(path="b.mp4", labels=LABELS, error=VideoError("b.mp4", "it is empty"))
    pairs = [(FIRST, FOUND_FIRST), (SECOND, broken)]
    annotations = replace(ANNOTATIONS, videos=(FIRST, SECOND, *(replace(FIRST, name=name) for name in "cdef")))
    results = results_of(pairs, ["c", "d", "e", "f"], annotations, paths=["x.json"], model="mini", settings={})
    assert results.scores.num_videos == 1
    assert results.errors == {"b": "it is empty"}
    assert results.notes == ("a note.", "4 of 6 videos are missing and not counted: c, d, e, ….")
    saved = json.loads(results.save(tmp_path / "out").read_text(encoding="utf-8"))
    assert saved["format"] == "openxclip timeline results 1"
    assert saved["missing"] == ["c", "d", "e", "f"]
    assert saved["metrics"] == pytest.approx(results.scores.to_dict())
    assert saved["videos"][0]["segments"][0] == {"label": "run", "start": 0.5, "end": 4.5, "score": 0.9}
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["results.json"]
    with pytest.raises(OpenXCLIPError, match=r"no video could be read, the first: b\.mp4: it is empty"):
        results_of(pairs[1:], [], ANNOTATIONS, paths=[], model=None, settings={})


def test_a_video_that_is_cut_off_counts_as_far_as_it_goes() -> None:
    cut = replace(FOUND_FIRST, error=VideoError("a.mp4", "it is cut off"))
    results = results_of([(FIRST, cut)], [], ANNOTATIONS, paths=[], model=None, settings={})
    assert results.scores.num_videos == 1
    assert results.errors == {"a": "it is cut off"}
