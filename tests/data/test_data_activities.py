"""Something-Something V2, Charades and ActivityNet: small copies of their official layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openxclip.datasets import Dataset, DatasetError, dataset_splits, detect_format, open_dataset


def put(path: Path, content: object = b"video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, bytes | str) else json.dumps(content)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def facts(dataset: Dataset) -> list[tuple[Any, ...]]:
    return [(Path(sample.source).name, sample.label, sample.start, sample.end) for sample in dataset.samples]


# -- Something-Something V2

TEMPLATES = {"Holding something next to something": "1", "Approaching something with your camera": "0", "Hitting": "2"}
NEXT_TO = {"id": "78687", "label": "holding potato next to bottle", "placeholders": ["potato", "bottle"],
           "template": "Holding [something] next to [something]"}  # fmt: skip


@pytest.fixture(params=["something-something-v2-", ""])
def ssv2(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The layout of the first release, and today's, with `labels/`."""
    folder, prefix = tmp_path / "ssv2", request.param
    labels = folder if prefix else folder / "labels"
    put(labels / f"{prefix}labels.json", TEMPLATES)
    missing = {"id": 5, "label": "approaching a", "template": "Approaching [something] with your camera"}
    put(labels / f"{prefix}train.json", [NEXT_TO, missing])
    put(labels / f"{prefix}validation.json", [{**NEXT_TO, "id": 7, "template": "Hitting"}])
    put(labels / f"{prefix}test.json", [{"id": "9"}])
    for name in (78687, 7, 9):
        put(folder / "20bn-something-something-v2" / f"{name}.webm")
    return folder


def test_ssv2(ssv2: Path) -> None:
    assert detect_format(ssv2) == "ssv2"
    assert dataset_splits(ssv2) == ("train", "val")
    train, val = (open_dataset(ssv2, split=split) for split in ("train", "validation"))
    assert train.classes == ("Approaching something with your camera", "Holding something next to something", "hitting")
    assert val.classes == train.classes
    assert facts(train) == [("78687.webm", 1, None, None)]
    assert facts(val) == [("7.webm", 2, None, None)]
    assert (train.num_missing(), train.num_expected) == (1, 2)
    with pytest.raises(ValueError, match="has no split 'test'"):
        open_dataset(ssv2, split="test")
    labels = ssv2 / "labels" if (ssv2 / "labels").exists() else ssv2
    put(labels / "test-answers.csv", "9;Hitting\n")
    assert facts(open_dataset(ssv2, split="test")) == [("9.webm", 2, None, None)]


def test_ssv2_with_invalid_files(ssv2: Path) -> None:
    labels = next(ssv2.rglob("*labels.json"))
    put(labels, {"Hitting": "0"})
    with pytest.raises(DatasetError, match="the template 'Holding something next to something' is not one of the 1"):
        open_dataset(ssv2, split="train")
    put(labels, ["Hitting"])
    with pytest.raises(DatasetError, match="must map templates to numbers"):
        open_dataset(ssv2, split="train")
    put(labels, TEMPLATES)
    put(next(ssv2.rglob("*train.json")), [{"id": 3}])
    with pytest.raises(DatasetError, match=r"train\.json, entry 1: must be an object with id and template"):
        open_dataset(ssv2, split="train")


def test_ssv2_labels_name_the_numbers_of_a_list(tmp_path: Path) -> None:
    names = put(tmp_path / "something-something-v2-labels.json", TEMPLATES)
    for name in ("a.webm", "b.webm"):
        put(tmp_path / "videos" / name)
    listed = put(tmp_path / "val.txt", "a.webm 2\nb.webm 0\n")
    dataset = open_dataset(listed, videos=tmp_path / "videos", names=names)
    assert [dataset.classes[sample.label or 0] for sample in dataset.samples] == [
        "hitting", "Approaching something with your camera"]  # fmt: skip


# -- Charades

CHARADES = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"


@pytest.fixture
def charades(tmp_path: Path) -> Path:
    folder = tmp_path / "Charades"
    put(folder / "Charades_v1_classes.txt", "c000 Holding some clothes\nc001 Putting clothes somewhere\n")
    put(folder / "Charades_v1_train.csv", CHARADES
        + '46GP8,HR43,Kitchen,6,7,Yes,"A person, cooking.",food,d,c001 11.90 21.20;c000 0.00 99.00,24.83\n'
        + "N11GT,A,Den,7,7,No,s,o,d,c000 30.0 40.0,24.0\n" + "0KZ7F,A,Den,7,7,No,s,o,d,,24.0\n")  # fmt: skip
    put(folder / "Charades_v1_test.csv", CHARADES + "YSKX3,A,Den,7,7,No,s,o,d,c000 2.0 4.0,9.0\n")
    for name in ("46GP8", "N11GT", "YSKX3"):
        put(folder / "Charades_v1_480" / f"{name}.mp4")
    return folder


def test_charades(charades: Path) -> None:
    assert detect_format(charades) == "charades" == detect_format(charades / "Charades_v1_test.csv")
    assert dataset_splits(charades) == ("train", "test")
    train = open_dataset(charades, split="train")
    assert train.classes == ("Holding some clothes", "Putting clothes somewhere")
    assert facts(train) == [("46GP8.mp4", 1, 11.9, 21.2), ("46GP8.mp4", 0, 0.0, 24.83)]
    assert [problem.split(": ", 1)[1] for problem in train.problems] == [
        "the segment from 30.0 to 40.0 s is not in the video, which has 24.0 s"]  # fmt: skip
    assert facts(open_dataset(charades, split="test")) == [("YSKX3.mp4", 0, 2.0, 4.0)]
    put(charades / "Charades_v1_test.csv", CHARADES + "YSKX3,A,Den,7,7,No,s,o,d,c157 2.0 4.0,9.0\n")
    with pytest.raises(
        DatasetError, match=r"line 2: the action 'c157 2\.0 4\.0' must be a code of Charades_v1_classes"
    ):
        open_dataset(charades, split="test")


# -- ActivityNet


@pytest.fixture
def activitynet(tmp_path: Path) -> Path:
    def about(subset: str, *segments: tuple[float, float, str]) -> dict[str, Any]:
        listed = [{"segment": [start, end], "label": label} for start, end, label in segments]
        return {"duration": 82.73, "subset": subset, "resolution": "1x1", "url": "u", "annotations": listed}

    folder = tmp_path / "activitynet"
    put(folder / "activity_net.v1-3.min.json", {"version": "VERSION 1.3", "taxonomy": [], "database": {
        "sJFgo9H6zNo": about("training", (0.01, 82.8, "Fun sliding down"), (5.0, 9.5, "Cricket")),
        "V1zhqaGFY2A": about("validation", (1.0, 2.0, "Cricket")),
        "JDg--pjY5gg": about("testing"),
    }})  # fmt: skip
    for name in ("v_sJFgo9H6zNo.mp4", "V1zhqaGFY2A.mkv"):
        put(folder / "videos" / name)
    return folder


def test_activitynet(activitynet: Path) -> None:
    assert detect_format(activitynet) == "activitynet"
    assert dataset_splits(activitynet) == ("train", "val", "test")
    train, val = (open_dataset(activitynet, split=split) for split in ("train", "val"))
    assert train.classes == ("cricket", "Fun sliding down") == val.classes
    assert facts(train) == [("v_sJFgo9H6zNo.mp4", 1, 0.01, 82.73), ("v_sJFgo9H6zNo.mp4", 0, 5.0, 9.5)]
    assert facts(val) == [("V1zhqaGFY2A.mkv", 0, 1.0, 2.0)]
    with pytest.raises(DatasetError, match="the split test has no annotations: choose another"):
        open_dataset(activitynet, split="test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"database": []}, "must be an object with a database of videos"),
        ({"database": {"a": {"subset": "all"}}}, "subset='all' must be training, validation or testing"),
        ({"database": {"a": {"subset": "training", "annotations": [{"label": "x"}]}}}, "a label and a segment"),
        ({"database": {"a": {"subset": "training", "annotations": [{"label": "x", "segment": ["b", 2]}]}}},
         "the times 'b' and 2"),
        ("{", "is not JSON"),
    ],
)  # fmt: skip
def test_activitynet_with_an_invalid_file(tmp_path: Path, content: object, message: str) -> None:
    path = put(tmp_path / "activity_net.v1-3.min.json", content)
    with pytest.raises(DatasetError, match=message):
        open_dataset(path, split="train")
