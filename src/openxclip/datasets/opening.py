"""Detect the format of a dataset and open it.

`docs/datasets.md` shows every format.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from openxclip.common.files import user_path
from openxclip.datasets import activities, public
from openxclip.datasets.files import Scan, entries, is_folder, is_video_file, subfolders
from openxclip.datasets.folders import folder_splits, open_folders
from openxclip.datasets.labels import Names
from openxclip.datasets.lists import LIST_SUFFIXES, list_splits, open_list
from openxclip.datasets.request import Request
from openxclip.datasets.samples import Dataset
from openxclip.datasets.shards import find_shards, open_shards, shard_splits
from openxclip.datasets.text import DatasetError

Format = Literal[
    "auto", "folders", "list", "shards", "kinetics", "ucf101", "hmdb51", "msr-vtt", "ssv2", "charades", "activitynet"
]  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """How to read one format.

    Attributes:
        open: opens a dataset.
        splits: returns a dataset's splits.
        detect: returns a true value if a path has annotation files of this format.
        takes_videos: whether the videos may be in another folder.
        has_folds: whether the dataset has several official splits.
    """

    open: Callable[[Request], Dataset]
    splits: Callable[[Path], Iterable[str]]
    detect: Callable[[Path], object] = lambda path: False
    takes_videos: bool = True
    has_folds: bool = False


_TRAIN_AND_TEST = ("train", "test")
_READERS: dict[Format, Reader] = {  # in the order of detection
    "folders": Reader(open_folders, folder_splits, takes_videos=False),
    "list": Reader(open_list, list_splits),
    "shards": Reader(open_shards, shard_splits, takes_videos=False),
    "ucf101": Reader(public.open_ucf101, lambda path: _TRAIN_AND_TEST, public.ucf101_lists, has_folds=True),
    "hmdb51": Reader(public.open_hmdb51, lambda path: _TRAIN_AND_TEST, public.hmdb51_lists, has_folds=True),
    "msr-vtt": Reader(public.open_msr_vtt, public.msr_vtt_splits, public.msr_vtt_files),
    "kinetics": Reader(public.open_kinetics, public.kinetics_splits, public.kinetics_tables),
    "charades": Reader(activities.open_charades, activities.charades_files, activities.charades_files),
    "activitynet": Reader(activities.open_activitynet, activities.activitynet_splits, activities.activitynet_file),
    "ssv2": Reader(activities.open_ssv2, activities.ssv2_splits, activities.ssv2_files),
}


def open_dataset(
    path: str | Path,
    *,
    format: Format = "auto",
    videos: str | Path | None = None,
    split: str | None = None,
    fold: int = 1,
    names: Names | None = None,
    hidden: bool = False,
) -> Dataset:
    """Open a dataset: list its videos with their classes or captions, without reading them.

    Missing and empty files are left out, and recorded in the dataset's `problems`.

    Args:
        path: a folder of class folders, a list, tar files, the annotation files of a public dataset, or the folder that
            contains these.
        format: the dataset's format; "auto" detects it.
        videos: folder of the videos, for lists and annotation files; by default, the folder of the list.
        split: "train", "val", "test" or another split of the dataset; None if there is at most one split.
        fold: number of the official split of UCF-101 or HMDB-51: 1, 2 or 3.
        names: other texts for classes, or the names of numbered classes (see `labels.read_names`).
        hidden: whether to include hidden files and folders; otherwise they are counted in `problems`.

    Raises:
        ValueError: the split doesn't exist, `split` is None and there are several, or an argument doesn't suit the
            format.
        DatasetError: the dataset doesn't exist or is invalid.
    """
    path = user_path(path)
    videos = None if videos is None else user_path(videos)
    format = _resolve_format(path, format)
    reader = _READERS[format]
    if videos is not None and not reader.takes_videos:
        raise ValueError(
            f"videos={str(videos)!r} is for lists and annotation files: the format {format} has its videos in {path}."
        )
    if fold != 1 and not reader.has_folds:
        raise ValueError(f"fold={fold} is for UCF-101 and HMDB-51, but {path} has the format {format}.")
    if fold not in (1, 2, 3):
        raise ValueError(f"fold={fold} must be 1, 2 or 3: the datasets have three official splits.")
    if names is not None and format == "msr-vtt":
        raise ValueError("names are for classes, but MSR-VTT has captions.")
    request = Request(path, videos, split, fold, names, Scan(hidden))
    dataset = reader.open(request)
    return replace(dataset, problems=dataset.problems + request.scan.problems(videos or path))


def dataset_splits(path: str | Path, *, format: Format = "auto") -> tuple[str, ...]:
    """Return the splits of a dataset, "train", "val" and "test" first; () if it has none.

    See `open_dataset` for the arguments and errors.
    """
    return tuple(reader_of(path, format=format).splits(user_path(path)))


def reader_of(path: str | Path, *, format: Format = "auto") -> Reader:
    """Return how to read a dataset; see `open_dataset` for the arguments and errors."""
    return _READERS[_resolve_format(user_path(path), format)]


def detect_format(path: Path) -> Format:
    """Detect the format of a dataset from its files.

    Raises:
        DatasetError: the path doesn't exist or isn't a dataset.
    """
    is_tar = path.suffix.lower() == ".tar" and not is_folder(path)
    if is_tar and (path.exists() or (glob.has_magic(str(path)) and find_shards(path))):
        return "shards"
    _check_exists(path)
    for format, reader in _READERS.items():
        if reader.detect(path):
            return format
    if is_folder(path):
        return _detect_folder_format(path)
    if path.suffix.lower() in LIST_SUFFIXES:
        return "list"
    raise DatasetError(
        f"{path}: isn't a dataset: give a folder of class folders, a list ({', '.join(LIST_SUFFIXES)}), tar files, or "
        "the annotation files of Kinetics, UCF-101, HMDB-51, MSR-VTT, Something-Something V2, Charades or ActivityNet."
    )


def _detect_folder_format(path: Path) -> Format:
    """Detect the format of a folder without annotation files."""
    if list_splits(path) and not folder_splits(path):
        return "list"
    has_tars = bool(shard_splits(path)) or any(file.suffix.lower() == ".tar" for file in entries(path))
    has_videos = any(is_video_file(file) for folder in subfolders(path) for file in entries(folder))
    return "shards" if has_tars and not has_videos else "folders"


def _resolve_format(path: Path, format: Format) -> Format:
    if format not in get_args(Format):
        raise ValueError(f"format={format!r} must be one of {', '.join(get_args(Format))}.")
    if format == "auto":
        return detect_format(path)
    if not (format == "shards" and glob.has_magic(str(path))):
        _check_exists(path)
    if format == "folders" and not is_folder(path):
        raise DatasetError(f"{path}: is a file, not a folder of class folders.")
    return format


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise DatasetError(f"{path}: there is no such file or folder: check the path.")
