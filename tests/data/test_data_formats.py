"""Detection of formats, and arguments that don't fit a format."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from openxclip.datasets import DatasetError, dataset_splits, detect_format, open_dataset


def put(path: Path, content: bytes | str = b"video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("run", "walk"):
        put(tmp_path / "folders" / name / "a.mp4")
    return tmp_path / "folders"


def test_class_folders_are_detected_beside_other_files(folders: Path) -> None:
    assert detect_format(folders) == "folders"
    put(folders / "readme.txt")
    put(folders / "results.csv", "a,b\n1,2\n")
    put(folders / "everything.tar")
    assert detect_format(folders) == "folders"
    assert open_dataset(str(folders)).classes == ("run", "walk")
    put(folders / "train.txt", "run/a.mp4 run\n")
    put(folders / "test.txt", "walk/a.mp4 walk\n")
    assert detect_format(folders) == "list"
    assert open_dataset(folders, format="folders").classes == ("run", "walk")


def test_split_folders_take_precedence_over_lists(tmp_path: Path) -> None:
    for name in ("run", "walk"):
        for split in ("train", "val"):
            put(tmp_path / split / name / "a.mp4")
    put(tmp_path / "train.csv", "name,id\n")
    assert detect_format(tmp_path) == "folders"


def test_a_tilde_is_expanded(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folders.parent))
    monkeypatch.setenv("USERPROFILE", str(folders.parent))
    assert open_dataset("~/folders") == open_dataset(folders)
    assert dataset_splits("~/folders") == ()


def test_a_missing_path_or_other_file_is_refused(tmp_path: Path) -> None:
    for kind in ("auto", "folders", "list", "kinetics", "shards"):
        with pytest.raises(DatasetError, match="nothing: there is no such file or folder"):
            open_dataset(tmp_path / "nothing", format=kind)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"a\.mp4: isn't a dataset: give a folder of class folders, a list \(\.txt"):
        open_dataset(put(tmp_path / "a.mp4"))
    with pytest.raises(DatasetError, match="is a file, not a folder of class folders"):
        open_dataset(tmp_path / "a.mp4", format="folders")
    with pytest.raises(DatasetError, match=r"the suffix of a list must be one of \.txt"):
        open_dataset(tmp_path / "a.mp4", format="list")
    with pytest.raises(DatasetError, match=r"is not a complete, uncompressed tar file"):
        open_dataset(tmp_path / "a.mp4", format="shards")


def test_arguments_that_dont_fit_the_format_are_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"format='folder' must be one of auto, folders, list"):
        open_dataset(folders, format="folder")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"videos='x' is for lists and annotation files"):
        open_dataset(folders, videos="x")
    with pytest.raises(ValueError, match="fold=2 is for UCF-101 and HMDB-51"):
        open_dataset(folders, fold=2)
    table = put(tmp_path / "MSRVTT_JSFUSION_test.csv", "key,vid_key,video_id,sentence\nret0,msr1,video1,a fox\n")
    with pytest.raises(ValueError, match="MSR-VTT has captions"):
        open_dataset(table, names={"a": "b"})
    with tarfile.open(tmp_path / "s.tar", "w"):
        pass
    with pytest.raises(ValueError, match="the format shards has its videos in"):
        open_dataset(tmp_path / "s.tar", videos=tmp_path)
