"""Proposals and heads from an index, as the model's process makes them."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from correction_index import Corrections, add_video, kinds, make_index

from openxclip import VideoPipeline
from openxclip.serve.correct import windows
from openxclip.serve.correct.head import Head
from openxclip.serve.correct.labels import WindowLabel
from openxclip.serve.correct.windows import classify, propose_windows, retrain
from openxclip.serve.engine.errors import NoIndexError
from openxclip.serve.settings import ServeSettings

pytestmark = pytest.mark.slow

CLASSES = ("waves", "sits", "jumps")
VIDEOS = [f"/videos/{i}'s.mp4" for i in range(6)]  # a quotation mark, for SQL


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)


def filled(data: Path, pipeline: VideoPipeline) -> Corrections:
    """An index of six videos; each shows the three classes in turn."""
    settings = ServeSettings(data=data)
    store = make_index(settings.index_folder, pipeline)
    for i, path in enumerate(VIDEOS):
        add_video(store, path, kinds(store.width, [0, 1, 2, 0, 1, 2], seed=i))
    return Corrections(pipeline, settings)


@pytest.fixture(scope="module")
def corrections(pipeline: VideoPipeline, tmp_path_factory: pytest.TempPathFactory) -> Corrections:
    return filled(tmp_path_factory.mktemp("corrections"), pipeline)


@pytest.fixture
def growing(pipeline: VideoPipeline, tmp_path: Path) -> Corrections:
    """As `corrections`, for tests that change the index."""
    return filled(tmp_path, pipeline)


def labels(*numbers: int, videos: int = 6) -> list[WindowLabel]:
    """The right labels of some windows of the first videos."""
    return [WindowLabel(path, CLASSES[i % 3], 2.0 * i, 2.0 * i + 2) for path in VIDEOS[:videos] for i in numbers]


def propose(corrections: Corrections, given: list[WindowLabel], count: int = 6, order: str = "typical") -> dict:
    return corrections.call(propose_windows, labels=given, classes=CLASSES, count=count, order=order, seed=0)


def test_proposals_are_windows_of_the_index_with_a_guess(corrections: Corrections) -> None:
    found = propose(corrections, [])
    assert (found["order"], found["windows"], found["notes"]) == ("typical", 36, [])
    assert len(found["proposals"]) == 6
    for each in found["proposals"]:
        assert each["path"] in VIDEOS
        assert each["end"] - each["start"] == 2
        assert each["label"] in CLASSES
        assert 1 / 3 <= each["probability"] <= 1


def test_typical_windows_show_every_class(corrections: Corrections) -> None:
    found = propose(corrections, [], count=3)
    assert {round(each["start"] / 2) % 3 for each in found["proposals"]} == {0, 1, 2}


@pytest.mark.parametrize("order", ["typical", "margin", "random"])
def test_labelled_windows_are_not_proposed_again(corrections: Corrections, order: str) -> None:
    given = labels(0, 1, 2, 3, 4)
    found = propose(corrections, given, count=50, order=order)
    assert sorted(each["start"] for each in found["proposals"]) == [10.0] * 6


def test_labels_improve_the_guesses(corrections: Corrections) -> None:
    found = propose(corrections, labels(0, 1, 2, videos=3), count=20)
    right = [each["label"] == CLASSES[round(each["start"] / 2) % 3] for each in found["proposals"]]
    assert np.mean(right) > 0.9


def test_every_window_has_a_label(corrections: Corrections) -> None:
    assert propose(corrections, labels(0, 1, 2, 3, 4, 5))["proposals"] == []


def test_the_order_changes_once_each_class_has_a_label(corrections: Corrections) -> None:
    given = (labels(0, 1), labels(0, 1, 2, videos=1))
    orders = [propose(corrections, each, order="typical, then margin")["order"] for each in given]
    assert orders == ["typical", "margin"]


def test_windows_that_overlap_are_not_proposed_together(growing: Corrections) -> None:
    store = growing.context.open_index().store
    add_video(store, "/videos/long.mp4", kinds(store.width, [0] * 9, seed=9), stride=0.5)
    found = propose(growing, [*labels(0, 1, 2, 3, 4, 5), WindowLabel("/videos/long.mp4", "waves", 0, 2)], count=9)
    starts = sorted(each["start"] for each in found["proposals"])
    assert starts
    assert starts[0] >= 2
    assert all(b - a >= 2 for a, b in pairwise(starts))


def test_featureless_windows_are_left_out_and_counted(growing: Corrections) -> None:
    store = growing.context.open_index().store
    add_video(store, "/videos/black.mp4", kinds(store.width, [0, 1]), featureless=[0, 1])
    found = propose(growing, [], count=100, order="random")
    assert all(each["path"] != "/videos/black.mp4" for each in found["proposals"])
    assert found["notes"] == ["2 windows of one colour, or frozen, are left out."]


def test_labels_that_the_index_lacks_are_counted(corrections: Corrections) -> None:
    lost = [WindowLabel("/videos/gone.mp4", "waves", 0, 2), WindowLabel(VIDEOS[0], "waves", 0.5, 2.5)]
    (note,) = propose(corrections, lost)["notes"]
    assert note.startswith("2 of 2 labels are of windows that the index doesn't have")


def test_a_sample_of_a_large_index_is_said(corrections: Corrections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_SAMPLE", 12)
    (note,) = propose(corrections, labels(0), count=50, order="random")["notes"]
    assert "drawn at random from the 36 of the index" in note


def test_without_classes_windows_are_proposed_without_a_guess(corrections: Corrections) -> None:
    found = corrections.call(propose_windows, labels=[], classes=[], count=2, order="margin", seed=0)
    assert [each["label"] for each in found["proposals"]] == [None, None]
    assert found["order"] == "typical"


def test_without_an_index_nothing_is_proposed(pipeline: VideoPipeline, tmp_path: Path) -> None:
    with pytest.raises(NoIndexError):
        propose(Corrections(pipeline, ServeSettings(data=tmp_path)), [])


# -- heads -------------------------------------------------------------------------------------------------------------


def train(corrections: Corrections, given: list[WindowLabel]) -> dict:
    path = corrections.settings.data / "heads" / "default.safetensors"
    return corrections.call(retrain, labels=given, classes=(), path=path, name="default")


def test_a_head_is_trained_written_and_compared(corrections: Corrections) -> None:
    found = train(corrections, labels(0, 1, 2))
    assert (found["head"], found["labels"], found["held_out"], found["groups"]) == ("default", 18, 18, "video")
    assert found["after"] == 1
    assert found["before"] < found["after"]
    assert found["outcome"] == "better"
    assert found["classes"] == list(CLASSES)
    head = Head.load(corrections.settings.data / "heads" / "default.safetensors")
    new_NE = kinds(16, [2, 1, 0], seed=99).astype(np.float32)
    assert head.logits(new_NE).argmax(axis=1).tolist() == [2, 1, 0]


def test_the_same_labels_give_the_same_numbers(corrections: Corrections) -> None:
    first, second = (train(corrections, labels(0, 1)) for _ in range(2))
    assert first | {"seconds": 0} == second | {"seconds": 0}


@pytest.mark.parametrize("given", [[], labels(0)])
def test_one_class_is_too_few_for_a_head(corrections: Corrections, given: list[WindowLabel]) -> None:
    head = corrections.settings.data / "heads" / "default.safetensors"
    head.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"with (0 labels|1 label): two or more are needed"):
        train(corrections, given)
    assert not head.exists()


def test_a_video_is_classified_by_a_head(corrections: Corrections, clip_folder: Path) -> None:
    train(corrections, labels(0, 1, 2))
    task = SimpleNamespace(path=clip_folder / "red2.mp4", name="mine.mp4")
    head = corrections.settings.data / "heads" / "default.safetensors"
    result = corrections.call(classify, task=task, head=head, name="default", top=2)["result"]
    assert result["path"] == "mine.mp4"
    assert result["outcome"] == result["labels"][0]["label"]
    assert len(result["labels"]) == 2
    assert result["labels"][0]["score"] is None
    assert len(result["times"][0]) == 4


def test_a_head_of_another_model_is_refused(corrections: Corrections, clip_folder: Path, tmp_path: Path) -> None:
    head = tmp_path / "other.safetensors"
    Head(("a", "b"), np.zeros((2, 16), np.float32), np.zeros(2, np.float32), "another", 4).save(head)
    task = SimpleNamespace(path=clip_folder / "red2.mp4", name="mine.mp4")
    with pytest.raises(ValueError, match="'other' was trained on another model's features"):
        corrections.call(classify, task=task, head=head, name="other", top=2)
    head.write_bytes(os.urandom(99))
    with pytest.raises(ValueError, match=r"^the head 'other': is not a head"):
        corrections.call(classify, task=task, head=head, name="other", top=2)
