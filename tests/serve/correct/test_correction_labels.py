"""The list of corrections: what is written, what is refused, undo, and that datasets read it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from openxclip.datasets import DatasetError, open_dataset
from openxclip.serve.correct.labels import LabelStore, WindowLabel


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path / "data")


def label(name: str = "waves", path: str = "/videos/a.mp4", start: float = 0.0, end: float = 2.0) -> WindowLabel:
    return WindowLabel(path, name, start, end)


def test_labels_are_a_list_with_the_columns_of_datasets(store: LabelStore) -> None:
    store.put(label("waves", '/videos/a, "b".mp4', 1 / 3, 2.5))
    store.put(label("sits down", "/videos/ü.mp4"))
    assert store.path.read_text(encoding="utf-8") == (
        "path,label,start,end\n"
        '"/videos/a, ""b"".mp4",waves,0.333333,2.5\n'
        "/videos/ü.mp4,sits down,0,2\n"
    )  # fmt: skip
    assert [(entry.path, entry.label) for entry in store.all()] == [
        ('/videos/a, "b".mp4', "waves"),
        ("/videos/ü.mp4", "sits down"),
    ]


def test_a_dataset_reads_the_list_with_its_times(store: LabelStore, clip_folder: Path) -> None:
    for i, path in enumerate(sorted(clip_folder.glob("*.mp4"))):
        store.put(label(("waves", "sits down")[i], str(path), 0.2, 0.6))
    dataset = open_dataset(store.path)
    assert dataset.classes == ("sits down", "waves")
    assert {(sample.start, sample.end) for sample in dataset.samples} == {(0.2, 0.6)}
    assert not dataset.problems


def test_a_window_has_one_label_and_keeps_its_place(store: LabelStore) -> None:
    store.put(label("waves"))
    store.put(label("jumps", start=2, end=4))
    before, after = store.put(label("sits", end=2.0000001))  # the same to the millisecond
    assert (before, after.label) == (label("waves"), "sits")
    assert [entry.label for entry in store.all()] == ["sits", "jumps"]


def test_another_spelling_of_a_label_becomes_the_label(store: LabelStore) -> None:
    store.put(label("Sits Down"))
    _, after = store.put(label(" sits_down ", start=2, end=4))
    assert after.label == "Sits Down"


def test_removing_a_label_that_is_not_there_changes_nothing(store: LabelStore) -> None:
    assert store.remove("/videos/a.mp4", 0, 2) is None
    assert not store.path.exists()


def test_undo_takes_back_one_change_after_the_other(store: LabelStore) -> None:
    store.put(label("waves"))
    store.put(label("sits"))
    store.remove("/videos/a.mp4", 0, 2)
    again = LabelStore(store.path.parent)  # changes survive a restart
    assert again.undo() == (None, label("sits"))
    assert again.undo() == (label("sits"), label("waves"))
    assert again.undo() == (label("waves"), None)
    assert again.all() == []
    assert again.undo() is None


def test_a_label_that_is_put_again_is_no_change(store: LabelStore) -> None:
    store.put(label("waves"))
    store.put(label("waves"))
    store.undo()
    assert store.all() == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (label("  "), "must have a letter"),
        (label("12"), "is a number"),
        (label("a\nb"), "can't be printed"),
        (label("a" * 201), "201 characters"),
        (label(path=""), "must be the path"),
        (label(path="/videos/a\nb.mp4"), "line breaks"),
        (label(start=2, end=2), "end after start"),
        (label(start=0, end=float("inf")), "end after start"),
        (label(start=float("nan")), "end after start"),
        (label(start=1, end=1.0001), "a millisecond"),
    ],
)
def test_what_a_list_can_not_hold_is_refused(store: LabelStore, wrong: WindowLabel, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store.put(wrong)
    assert not store.path.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,start,end,who\n/a.mp4,x,0,1,me\n", "no others"),
        ("path,label\n/a.mp4,x\n", "no others"),
        ("path,label,start,end\n/a.mp4,x,,\n", "needs a path, a label, a start and an end"),
        ("path,label,start,end\n/a.mp4,x,0,1\n/a.mp4,y,0,1\n", "has a label already, 'x'"),
        ("path,label,start,end\n/a.mp4,x y,0,1\n/a.mp4,X_Y,1,2\n", "have the same text"),
    ],
)
def test_a_list_that_an_editor_spoilt_is_refused_and_kept(store: LabelStore, text: str, message: str) -> None:
    store.path.parent.mkdir()
    store.path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        store.put(label())
    assert store.path.read_text(encoding="utf-8") == text


def test_changes_by_an_editor_count(store: LabelStore) -> None:
    store.put(label("waves"))
    store.path.write_text("path;label;start;end\n/b.mp4;jumps;0;1\n", encoding="utf-8")
    store.put(label("sits"))
    assert [entry.label for entry in store.all()] == ["jumps", "sits"]


def test_threads_lose_no_label(store: LabelStore) -> None:
    def put(number: int) -> None:
        for i in range(5):
            store.put(label(start=10 * number + i, end=10 * number + i + 1))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.all()) == 20


def test_a_full_disk_leaves_the_old_list(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(label("waves"))

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            store.put(label("sits"))
    assert [entry.label for entry in store.all()] == ["waves"]
    assert not list(store.path.parent.glob("*.tmp"))
