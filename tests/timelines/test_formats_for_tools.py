"""Files for Label Studio, FiftyOne and QVHighlights' evaluation fit the schemas that their owners describe."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from handmade_timelines import CAT, ODD_LABELS, OWL, made_timeline, segment

from openxclip.timelines.formats import format_timelines

# labelstud.io/guide/predictions and labelstud.io/tags/timelinelabels
LABEL_STUDIO = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["data", "predictions"],
        "additionalProperties": False,
        "properties": {
            "data": {
                "type": "object",
                "required": ["video", "fps"],
                "properties": {
                    "video": {"type": "string", "minLength": 1},
                    "fps": {"type": "number", "exclusiveMinimum": 0},
                },
            },
            "predictions": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["model_version", "score", "result"],
                    "properties": {
                        "model_version": {"type": "string"},
                        "score": {"type": "number"},
                        "result": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["id", "type", "from_name", "to_name", "value"],
                                "properties": {
                                    "id": {"type": "string", "minLength": 1},
                                    "type": {"const": "timelinelabels"},
                                    "from_name": {"const": "timelineLabels"},
                                    "to_name": {"const": "video"},
                                    "score": {"type": "number", "minimum": 0, "maximum": 1},
                                    "value": {
                                        "type": "object",
                                        "required": ["ranges", "timelinelabels"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "ranges": {
                                                "type": "array",
                                                "minItems": 1,
                                                "maxItems": 1,  # "one range per region"
                                                "items": {
                                                    "type": "object",
                                                    "required": ["start", "end"],
                                                    "properties": {
                                                        "start": {"type": "integer", "minimum": 1},
                                                        "end": {"type": "integer", "minimum": 1},
                                                    },
                                                },
                                            },
                                            "timelinelabels": {
                                                "type": "array",
                                                "minItems": 1,
                                                "items": {"type": "string"},
                                            },
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
# docs.voxel51.com/user_guide/import_datasets: FiftyOneTemporalDetectionDataset without "classes"
FIFTYONE = {
    "type": "object",
    "required": ["labels"],
    "additionalProperties": False,
    "properties": {
        "labels": {
            "type": "object",
            "additionalProperties": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["label", "support"],
                    "additionalProperties": False,
                    "properties": {
                        "label": {"type": "string"},
                        "support": {
                            "type": "array",
                            "items": {"type": "integer", "minimum": 1},
                            "minItems": 2,
                            "maxItems": 2,
                        },
                        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                        "attributes": {"type": "object"},
                    },
                },
            },
        }
    },
}
# github.com/jayleicn/moment_detr: standalone_eval/README.md
QVHIGHLIGHTS = {
    "type": "object",
    "required": ["qid", "query", "vid", "pred_relevant_windows", "pred_saliency_scores"],
    "additionalProperties": False,
    "properties": {
        "qid": {"type": "integer"},
        "query": {"type": "string"},
        "vid": {"type": "string"},
        "pred_relevant_windows": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 3, "maxItems": 3},
        },
        "pred_saliency_scores": {"type": "array", "items": {"type": "number"}, "minItems": 1},
    },
}
ODD = made_timeline(*(segment(label, i / 4, i / 4 + 0.2) for i, label in enumerate(ODD_LABELS)))
NTSC = Fraction(30000, 1001)


def loaded(text: str, schema: dict[str, Any]) -> Any:
    text.encode()  # raises an error if it can't be stored
    value = json.loads(text)
    jsonschema.validate(value, schema)
    return value


def rows_of(text: str) -> list[dict[str, Any]]:
    return [loaded(line, QVHIGHLIGHTS) for line in text.splitlines()]


def test_label_studio_counts_frames_from_1() -> None:
    parts = segment(CAT, 0, 1, 0.75), segment(OWL, 1, 1.001, 0.5), segment(CAT, 9.9, 10.4)
    text, notes = format_timelines([made_timeline(*parts)], "label-studio")
    (task,) = loaded(text, LABEL_STUDIO)
    assert notes == []
    assert task["data"] == {"video": "footage/clip one.mp4", "fps": 25.0}
    (prediction,) = task["predictions"]
    assert prediction["score"] == 0.9
    found = [
        (region["value"]["timelinelabels"], region["value"]["ranges"], region["score"])
        for region in prediction["result"]
    ]
    assert found == [
        ([CAT], [{"start": 1, "end": 25}], 0.75),  # the first second: frames 1 to 25, both included
        ([OWL], [{"start": 26, "end": 26}], 0.5),
        ([CAT], [{"start": 249, "end": 250}], 0.9),  # the video has 250 frames
    ]
    assert len({region["id"] for region in prediction["result"]}) == 3


def test_label_studio_at_the_rate_of_the_video_after_hours() -> None:
    hour = float(107_892 / NTSC)
    timeline = made_timeline(segment(CAT, 3 * hour, 3 * hour + 1), fps=29.97, duration=90_000.0)
    (task,) = loaded(format_timelines([timeline], "label-studio")[0], LABEL_STUDIO)
    assert task["data"]["fps"] == pytest.approx(float(NTSC), abs=1e-9)
    (region,) = task["predictions"][0]["result"]
    assert region["value"]["ranges"] == [{"start": 323_677, "end": 323_706}]


def test_fiftyone_counts_frames_from_1() -> None:
    parts = segment(CAT, 0, 1, 0.75), segment(CAT, 9.99, 10.4, float("nan"))
    text, notes = format_timelines([made_timeline(*parts), made_timeline(path="/b/owl.mp4")], "fiftyone")
    labels = loaded(text, FIFTYONE)["labels"]
    assert notes == []
    assert labels == {
        str(Path("footage/clip one.mp4").absolute()): [
            {"label": CAT, "support": [1, 25], "confidence": 0.75},
            {"label": CAT, "support": [250, 250]},
        ],
        "/b/owl.mp4": [],
    }


def test_qvhighlights_has_a_line_for_each_video_and_label() -> None:
    first = made_timeline(
        segment(OWL, 1, 2.5, 0.4), segment(CAT, 3, 4, 0.6), segment(OWL, 6, 7, 0.9), labels=(CAT, OWL)
    )
    text, notes = format_timelines([first, made_timeline(path="b/owl.mp4")], "qvhighlights")
    rows = rows_of(text)
    assert [(row["qid"], row["query"], row["vid"]) for row in rows] == [
        (1, CAT, "clip one"), (2, OWL, "clip one"), (3, CAT, "owl"),
    ]  # fmt: skip
    assert rows[1]["pred_relevant_windows"] == [[6.0, 7.0, 0.9], [1.0, 2.5, 0.4]]  # the best first
    assert notes == [
        "1 of 3 lines with no window, which QVHighlights' evaluation script doesn't accept: lower the threshold to "
        "have one."
    ]


def test_videos_of_the_same_name_stay_apart_in_qvhighlights() -> None:
    two = [made_timeline(segment(CAT, 1, 2), path=path) for path in ("a/cat.mp4", "b/cat.mov")]
    text, notes = format_timelines(two, "qvhighlights")
    assert [row["vid"] for row in rows_of(text)] == ["a/cat.mp4", "b/cat.mov"]
    assert notes == ["2 videos share a name with another, so vid is the whole path."]


def test_saliency_is_the_mean_score_of_each_clip_of_two_seconds() -> None:
    """Against a mean over points in time, of the windows that cover each."""
    random = np.random.default_rng(3)
    starts = np.arange(0, 8.6, 0.5)
    scores = random.random((len(starts), 2)).astype(np.float32)
    scores[5, 0] = np.nan
    labels = (CAT, OWL)
    timeline = made_timeline(starts=starts, ends=starts + 1.5, scores=scores, labels=labels, duration=12.5)
    rows = rows_of(format_timelines([timeline], "qvhighlights")[0])
    for row, scores_W in zip(rows, scores.T.astype(float), strict=True):
        assert len(row["pred_saliency_scores"]) == 7
        for clip, score in enumerate(row["pred_saliency_scores"]):
            times = 2 * clip + (np.arange(2000) + 0.5) / 1000
            covers = (starts[:, None] <= times) & (times < starts[:, None] + 1.5) & np.isfinite(scores_W)[:, None]
            weights = covers.sum(1)
            expected = np.nansum(weights * scores_W) / weights.sum() if weights.sum() else 0
            assert score == pytest.approx(expected, abs=2e-6)
    assert rows[0]["pred_saliency_scores"][5:] == [0, 0]  # no window is there


@pytest.mark.parametrize(("duration", "clips"), [(150.0, 75), (126.0004, 63), (127.0, 64), (0.5, 1)])
def test_number_of_clips(duration: float, clips: int) -> None:
    (row,) = rows_of(format_timelines([made_timeline(duration=duration)], "qvhighlights")[0])
    assert len(row["pred_saliency_scores"]) == clips


@pytest.mark.parametrize("name", ["label-studio", "fiftyone", "qvhighlights"])
def test_odd_labels_are_stored_as_they_are(name: str) -> None:
    text, notes = format_timelines([ODD], name)
    if name == "label-studio":
        regions = loaded(text, LABEL_STUDIO)[0]["predictions"][0]["result"]
        labels = [region["value"]["timelinelabels"][0] for region in regions]
    elif name == "fiftyone":
        (detections,) = loaded(text, FIFTYONE)["labels"].values()
        labels = [detection["label"] for detection in detections]
    else:
        labels = [json.loads(line)["query"] for line in text.strip("\n").split("\n")]
    assert labels == [label.replace("\ud83d", "?") for label in ODD_LABELS]
    assert len(notes) == 1
    assert notes[0].startswith("1 label was changed, because halves of characters can't be stored as UTF-8:")


@pytest.mark.parametrize("name", ["label-studio", "fiftyone", "qvhighlights", "otio", "fcpxml"])
def test_a_name_that_is_not_utf8(name: str) -> None:
    odd = [made_timeline(segment(CAT, 1, 2), path=path) for path in ("a/c\udce9.mp4", "b/c\udce9.mp4")]
    text, notes = format_timelines(odd, name)
    text.encode()
    if name in ("otio", "fcpxml"):
        assert "/a/c%E9.mp4" in text  # the bytes of the name, in a URL
    else:
        note = "a/c?.mp4: its name is not valid UTF-8, so it is stored with ? in it: rename the video."
        assert note in notes
