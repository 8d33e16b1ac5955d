"""Annotation files of four forms, and the search for the files of their videos."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openxclip.errors import OpenXCLIPError
from openxclip.timelines.annotation_files import read_annotations
from openxclip.timelines.annotations import AnnotatedVideo, Moment, find_files

ACTIVITYNET: dict[str, Any] = {
    "version": "1.3",
    "database": {
        "abc": {
            "subset": "validation",
            "duration": 20.0,
            "annotations": [{"label": "Surfing", "segment": [4, 25]}, {"label": "Surfing", "segment": [30, 31]}],
        },
        "d.f": {"subset": "training", "annotations": [{"label": "Zumba", "segment": [1.5, 3]}]},
        "none": {"subset": "testing", "annotations": []},
    },
}
QVHIGHLIGHTS = [
    {
        "qid": 1, "query": "A dog runs.", "vid": "x_0.0_10.0", "duration": 10, "relevant_windows": [[4, 8]],
        "relevant_clip_ids": [2, 3], "saliency_scores": [[4, 3, 2], [1, 0, 4]],
    },
    {"qid": 2, "query": "A cat sleeps.", "vid": "x_0.0_10.0", "duration": 10, "relevant_windows": [[0, 2], [6, 8]]},
]  # fmt: skip
TASKS: list[dict[str, Any]] = [
    {
        "id": 7,
        "data": {"video": "/data/upload/1/3d3ad63e-a%20cat.mp4", "fps": 10},
        "annotations": [
            {"was_cancelled": True, "result": []},
            {
                "result": [
                    {"value": {"ranges": [{"start": 1, "end": 10}], "timelinelabels": ["jump"]}},
                    {"value": {"ranges": [{"start": 21, "end": 21}], "timelinelabels": ["sit", "jump"]}},
                    {"value": {"choices": ["good"]}},
                ]
            },
        ],
    },
    {"id": 8, "data": {"video": "b.mp4", "fps": 10}, "annotations": [{"result": []}]},
    {"id": 9, "data": {"video": "c.mp4", "fps": 10}, "annotations": []},
]

QUERY = {"query": "a", "vid": "b", "relevant_windows": [[0, 2]]}


def write(path: Path, content: Any, *, lines: bool = False) -> Path:
    path.write_text("\n".join(map(json.dumps, content)) if lines else json.dumps(content), encoding="utf-8")
    return path


def test_activitynet(tmp_path: Path) -> None:
    read = read_annotations([write(tmp_path / "a.json", ACTIVITYNET)])
    first, second = read.videos
    assert (read.form, first.name, first.duration, second.name) == ("ActivityNet", "abc", 20, "d.f")
    assert first.moments == (Moment("Surfing", 4, 20),), "cut to the video, and none beyond it"
    assert first.labels == second.labels == ("Surfing", "Zumba"), "all labels of the file"
    assert math.isnan(second.duration)
    assert second.spans_of("Zumba").tolist() == [[1.5, 3]]
    assert second.spans_of("Surfing").shape == (0, 2)
    told = " ".join(read.notes)
    assert "moments cut, because they extend beyond their video: 1, the first at" in told
    assert "no duration or lie outside their video: 1, the first at" in told
    assert "videos left out, because they have no annotations: 1" in told


def test_a_subset_of_activitynet(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", ACTIVITYNET)
    assert [video.name for video in read_annotations([path], subset="training").videos] == ["d.f"]
    with pytest.raises(OpenXCLIPError, match="no annotated moments: its subsets are validation, training, testing"):
        read_annotations([path], subset="val")
    with pytest.raises(OpenXCLIPError, match="has no subsets"):
        read_annotations([write(tmp_path / "q.jsonl", QVHIGHLIGHTS, lines=True)], subset="val")


@pytest.mark.parametrize("count", [1, 2])
def test_qvhighlights(tmp_path: Path, count: int) -> None:
    read = read_annotations([write(tmp_path / "q.jsonl", QVHIGHLIGHTS[:count], lines=True)])
    (video,) = read.videos
    assert read.form == "QVHighlights"
    assert video.labels == ("A dog runs.", "A cat sleeps.")[:count]
    assert video.spans_of("A dog runs.").tolist() == [[4, 8]]
    ratings = np.zeros((5, 3), np.uint8)
    ratings[2:4] = [[4, 3, 2], [1, 0, 4]]
    assert (video.ratings["A dog runs."] == ratings).all()
    assert "A cat sleeps." not in video.ratings


def test_label_studio(tmp_path: Path) -> None:
    read = read_annotations([write(tmp_path / "export.json", TASKS)])
    first, second = read.videos
    assert read.form == "Label Studio"
    assert first.moments == (Moment("jump", 0, 1), Moment("sit", 2, 2.1), Moment("jump", 2, 2.1)), "frames from 1"
    assert second.moments == ()
    assert first.labels == second.labels == ("jump", "sit")
    told = " ".join(read.notes)
    assert "no timelinelabels: 1" in told
    assert "nobody has annotated them: 1, the first at" in told
    assert "task 9" in told


def test_label_studios_short_form_and_its_rate(tmp_path: Path) -> None:
    task = {"id": 1, "video": "b.mp4", "tricks": [{"ranges": [{"start": 25, "end": 48}], "timelinelabels": ["jump"]}]}
    path = write(tmp_path / "min.json", [task])
    (video,) = read_annotations([path], frame_rate=24).videos
    assert video.moments == (Moment("jump", 1, 2),)
    with pytest.raises(OpenXCLIPError, match=r"task 1: doesn't say at which rate .* \(24 where the tag has none\)"):
        read_annotations([path])


def test_films_of_the_playground(tmp_path: Path) -> None:
    events = [{"start": 1.0, "end": 2.5, "caption": "a cat spins"}]
    paths = [write(tmp_path / f"{name}.json", {"fps": 12, "duration": 4, "events": events}) for name in ("f", "g")]
    events[0]["caption"] = "a dog spins"
    write(paths[1], {"fps": 12, "duration": 4, "events": events})
    first, second = read_annotations(paths).videos
    assert (first.name, first.labels, first.duration) == ("f", ("a cat spins",), 4)
    assert (second.name, second.labels) == ("g", ("a dog spins",)), "each film has its own labels"
    assert second.with_labels(["a cat spins"]).labels == ("a dog spins", "a cat spins")


def test_films_of_the_same_name(tmp_path: Path) -> None:
    film = {"duration": 4, "events": [{"start": 1.0, "end": 2.5, "caption": "a cat spins"}]}
    paths = [tmp_path / name / "film.json" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        write(path, film)
    with pytest.raises(OpenXCLIPError, match=r"b/film\.json: another film is called film too"):
        read_annotations(paths)


def damaged(change: dict[str, Any]) -> dict[str, Any]:
    return {"database": {"abc": {"annotations": [{"label": "a", "segment": [0, 1]} | change]}}}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "has none of the forms of annotations that are read: ActivityNet's JSON"),
        ({"a": 1}, "has none of the forms"),
        ({"database": []}, "database must be an object with an entry for each video"),
        (damaged({"segment": [0]}), "abc, annotation 1: must have a label, and a segment of two times"),
        (damaged({"segment": ["now", 1]}), "annotation 1: start 'now': must be a number"),
        (damaged({"segment": [0, float("nan")]}), "annotation 1: end nan: must be a number"),
        (damaged({"label": " "}), "annotation 1: label ' ': must be a text"),
        ({"database": {}}, "has no annotated moments"),
        ({"events": [{"start": 0}]}, "event 1: must have caption, start and end"),
        ({"query": "a", "vid": "b"}, "line 1: has no relevant_windows, which the test set doesn't have"),
        ({"query": "a", "vid": "b", "relevant_windows": [1]}, "line 1: relevant_windows must be pairs"),
        (
            QUERY | {"relevant_clip_ids": [0], "saliency_scores": [[5]]},
            "whole numbers from 0 to 4",
        ),
        (
            QUERY | {"relevant_clip_ids": [0, 1], "saliency_scores": [[4], [1, 2]]},
            "whole numbers from 0 to 4",
        ),
        ([{"data": {"fps": 10}, "annotations": []}], "task 1: doesn't name its video"),
        ([TASKS[0] | {"data": {"video": "a.mp4", "fps": 0}}], "fps=0: must be above 0"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_with_the_place(tmp_path: Path, content: Any, told: str) -> None:
    path = write(tmp_path / "a.json", content)
    with pytest.raises(OpenXCLIPError) as caught:
        read_annotations([path])
    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "is not text in UTF-8"),
        (b'{"database": ', "is not JSON: Expecting value"),
        (b'{"query": "a", "vid": "b", "relevant_windows": []}\n{"query": ', "line 2 is not JSON"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(OpenXCLIPError, match=told):
        read_annotations([tmp_path / "a.json"])


def test_a_missing_file_and_two_forms(tmp_path: Path) -> None:
    with pytest.raises(OpenXCLIPError, match="there is no such file"):
        read_annotations([tmp_path / "a.json"])
    both = [write(tmp_path / "a.json", ACTIVITYNET), write(tmp_path / "b.json", TASKS)]
    with pytest.raises(
        OpenXCLIPError, match=r"has the form of Label Studio, but .* that of ActivityNet: give one form"
    ):
        read_annotations(both)


def test_the_files_of_videos(tmp_path: Path, clip_folder: Path) -> None:
    for name in ("v_abc.mp4", "d.f.mp4", "a cat.mp4", "sub/x_0.0_10.0.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip_folder / "red2.mp4", tmp_path / name)
    names = ("abc", "d.f", "/data/upload/1/3d3ad63e-a%20cat.mp4", "x_0.0_10.0", "sub/x_0.0_10.0.mp4", "gone")
    videos = [AnnotatedVideo(name=name, labels=("a",), moments=()) for name in names]
    found, missing = find_files(videos, tmp_path)
    assert [video.name for video in missing] == ["gone"]
    assert [path.relative_to(tmp_path).as_posix() for path in found.values()] == [
        "v_abc.mp4", "d.f.mp4", "a cat.mp4", "sub/x_0.0_10.0.mp4", "sub/x_0.0_10.0.mp4",
    ]  # fmt: skip
    shutil.copy(clip_folder / "red2.mp4", tmp_path / "sub/v_abc.mp4")
    with pytest.raises(OpenXCLIPError, match="abc: several files have this name"):
        find_files(videos, tmp_path)
    with pytest.raises(OpenXCLIPError, match="there is no such folder"):
        find_files(videos, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OpenXCLIPError, match="no videos in this folder"):
        find_files(videos, tmp_path / "empty")
