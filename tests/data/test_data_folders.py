"""Folders of class folders."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from openxclip.datasets import DatasetError, dataset_splits, open_dataset


def put(path: Path, content: bytes = b"video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(dataset: object) -> list[tuple[str, int]]:
    return [(dataset.name_of(sample), sample.label) for sample in dataset.samples]  # type: ignore[attr-defined]


def test_classes_and_videos_are_in_natural_order(tmp_path: Path) -> None:
    for name in ("clip10", "clip2", "BrushHair"):
        for number in (10, 9, 1):
            put(tmp_path / name / f"v{number}.mp4")
    dataset = open_dataset(tmp_path)
    assert dataset.name == tmp_path.name
    assert dataset.classes == ("brush hair", "clip2", "clip10")
    assert names(dataset)[:4] == [
        ("BrushHair/v1.mp4", 0),
        ("BrushHair/v9.mp4", 0),
        ("BrushHair/v10.mp4", 0),
        ("clip2/v1.mp4", 1),
    ]
    assert dataset.problems == ()
    assert dataset_splits(tmp_path) == ()


def test_hidden_and_system_files_are_left_out_and_counted(tmp_path: Path) -> None:
    put(tmp_path / "run fast" / "Über die Brücke.MP4")
    put(tmp_path / "run fast" / "below" / "b.MoV")
    put(tmp_path / "walk" / "歩く 1.webm")
    for junk in (
        ".DS_Store",
        "run fast/.DS_Store",
        "run fast/._Über die Brücke.MP4",
        "run fast/.hidden/c.mp4",
        ".git/x.mp4",
        "__MACOSX/run fast/a.mp4",
        "walk/@eaDir/a.mp4",
        "$RECYCLE.BIN/a.mp4",
    ):
        put(tmp_path / junk)
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("run fast", "walk")
    assert sorted(names(dataset)) == [
        ("run fast/below/b.MoV", 0),
        (unicodedata.normalize("NFC", "run fast/Über die Brücke.MP4"), 0),
        ("walk/歩く 1.webm", 1),
    ]
    assert len(dataset.problems) == 1
    assert dataset.problems[0].startswith(
        "left out 8 hidden files and folders (--hidden or hidden=true includes them): "
    )


def test_missing_files_and_other_files_are_problems(tmp_path: Path) -> None:
    for name in ("run", "walk"):
        put(tmp_path / name / "a.mp4")
    put(tmp_path / "run" / "empty.mp4", b"")
    (tmp_path / "run" / "gone.mp4").symlink_to(tmp_path / "nothing")
    put(tmp_path / "run" / "notes.txt")
    put(tmp_path / "walk" / "b.mp4.part")
    put(tmp_path / "beside.mp4")
    dataset = open_dataset(tmp_path)
    assert names(dataset) == [("run/a.mp4", 0), ("walk/a.mp4", 1)]
    run = tmp_path / "run"
    assert set(dataset.problems) == {
        f"{run / 'empty.mp4'}: is empty",
        f"{run / 'gone.mp4'}: is a broken link",
        f"{tmp_path / 'beside.mp4'}: isn't in a class folder",
        f"left out 2 files that are not videos: {Path('run/notes.txt')}, {Path('walk/b.mp4.part')}",
    }


def test_a_class_whose_videos_are_all_empty_is_a_problem(tmp_path: Path) -> None:
    put(tmp_path / "run" / "a.mp4")
    put(tmp_path / "walk" / "a.mp4", b"")
    assert open_dataset(tmp_path).problems == (
        f"{tmp_path / 'walk' / 'a.mp4'}: is empty",
        "the class 'walk' has no videos",
    )


def test_an_empty_class_folder_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "run" / "a.mp4")
    put(tmp_path / "walk" / ".DS_Store")
    with pytest.raises(DatasetError, match=r"walk: the class 'walk' has no videos"):
        open_dataset(tmp_path)


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="contains no folders"):
        open_dataset(tmp_path)
    put(tmp_path / "a.mp4")
    with pytest.raises(DatasetError, match=r"contains no folders.*write a list"):
        open_dataset(tmp_path)
    put(tmp_path / "videos" / "run" / "a.mp4")
    with pytest.raises(DatasetError, match="only one class folder, 'videos'"):
        open_dataset(tmp_path)


def test_splits(tmp_path: Path) -> None:
    for name in ("run", "walk", "swim"):
        put(tmp_path / "Train" / name / f"{name}.mp4")
    for name in ("walk", "jump"):
        put(tmp_path / "validation" / name / "b.mp4")
    assert dataset_splits(tmp_path) == ("train", "val")
    train, val = (open_dataset(tmp_path, split=split) for split in ("train", "val"))
    assert train.name.endswith("/train")
    assert train.classes == val.classes == ("jump", "run", "swim", "walk")
    assert names(train) == [("run/run.mp4", 1), ("swim/swim.mp4", 2), ("walk/walk.mp4", 3)]
    assert names(val) == [("jump/b.mp4", 0), ("walk/b.mp4", 3)]
    assert val.problems == ("the class 'run' has no videos", "the class 'swim' has no videos")
    assert open_dataset(tmp_path, split="validation") == val
    with pytest.raises(ValueError, match=r"has no split 'test': its splits are train, val\."):
        open_dataset(tmp_path, split="test")
    with pytest.raises(ValueError, match="has the splits train, val: choose one with split="):
        open_dataset(tmp_path)


def test_folders_named_like_splits_that_are_classes(tmp_path: Path) -> None:
    for name in ("train", "plane"):  # one is a class
        put(tmp_path / "vehicles" / name / "a.mp4")
    assert open_dataset(tmp_path / "vehicles").classes == ("plane", "train")
    with pytest.raises(ValueError, match="has no split 'val': it is a folder of class folders, without splits"):
        open_dataset(tmp_path / "vehicles", split="val")
    put(tmp_path / "alone" / "train" / "run" / "a.mp4")
    put(tmp_path / "alone" / "train" / "walk" / "a.mp4")
    assert open_dataset(tmp_path / "alone").classes == ("run", "walk")
    put(tmp_path / "both" / "train" / "run" / "a.mp4")
    for name in ("val", "valid"):
        put(tmp_path / "both" / name / "run" / "a.mp4")
    with pytest.raises(DatasetError, match="both val and valid are the split val"):
        open_dataset(tmp_path / "both", split="val")


def test_a_split_without_class_folders(tmp_path: Path) -> None:
    for name in ("run", "walk"):
        put(tmp_path / "train" / name / "a.mp4")
    put(tmp_path / "test" / "a.mp4")  # as in a challenge whose labels are secret
    assert len(open_dataset(tmp_path, split="train").samples) == 2
    with pytest.raises(DatasetError, match="test: contains no folders"):
        open_dataset(tmp_path, split="test")


def test_circular_links_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "store" / "a.mp4")
    put(tmp_path / "data" / "walk" / "b.mp4")
    (tmp_path / "data" / "run").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "round").symlink_to(tmp_path / "store")
    assert names(open_dataset(tmp_path / "data")) == [("run/a.mp4", 0), ("walk/b.mp4", 1)]


def test_names_of_classes(tmp_path: Path) -> None:
    for name in ("0", "1", "2"):
        put(tmp_path / "numbered" / name / "a.mp4")
    with pytest.raises(DatasetError, match="the labels are numbers"):
        open_dataset(tmp_path / "numbered")
    (tmp_path / "names.txt").write_text("run\nwalk\nJumpHigh\n")
    assert open_dataset(tmp_path / "numbered", names=tmp_path / "names.txt").classes == ("run", "walk", "jump high")
    for name in ("JumpHigh", "run"):
        put(tmp_path / "named" / name / "a.mp4")
    dataset = open_dataset(tmp_path / "named", names={"JumpHigh": "a high jump"})
    assert dataset.classes == ("a high jump", "run")
    with pytest.raises(DatasetError, match="there is no class 'jump'"):
        open_dataset(tmp_path / "named", names={"jump": "a high jump"})


def test_an_unreadable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "run" / "a.mp4")
    put(tmp_path / "walk" / "a.mp4")
    original = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self.name == "walk":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return original(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DatasetError, match="walk: reading it is not permitted"):
        open_dataset(tmp_path)
