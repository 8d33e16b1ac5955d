"""Data for training and evaluation: from what lies on disk to a list of videos with their classes or captions.

`docs/datasets.md` shows what is read.
"""

from __future__ import annotations

import glob
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from openxclip.common.files import user_path
from openxclip.datasets import activities, public
from openxclip.datasets.files import Scan, entries, is_folder, is_video_file, subfolders
from openxclip.datasets.folders import folder_splits, open_folders
from openxclip.datasets.labels import Names
from openxclip.datasets.lists import LIST_SUFFIXES, list_splits, open_list
from openxclip.datasets.samples import Dataset, DatasetError
from openxclip.datasets.shards import open_shards, shard_splits, shards_of

Format = Literal[
    "auto", "folders", "list", "shards", "kinetics", "ucf101", "hmdb51", "msr-vtt", "ssv2", "charades", "activitynet"
]  # fmt: skip

_WITH_VIDEOS_APART = ("list", "kinetics", "ucf101", "hmdb51", "msr-vtt", "ssv2", "charades", "activitynet")
_WITH_FOLDS = ("ucf101", "hmdb51")


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
    """The videos of a dataset with their classes or captions; none of them is opened.

    Files that are named but missing or empty are left out, and each is among the dataset's `problems`.

    Args:
        path: a folder of class folders, a list, tar files, or the annotation files of a public dataset, or the folder
            that has these in it.
        format: what it is; "auto" looks.
        videos: of lists and annotation files, the folder in which the videos are; default is beside them.
        split: "train", "val" or "test", or what else the dataset has; None where it has no splits or only one.
        fold: 1, 2 or 3, of the official splits of UCF-101 and HMDB-51.
        names: other texts for classes, or the names of classes that are numbers (see `labels.read_names`).
        hidden: take hidden files and folders, too; without it, those that are left out are counted in `problems`.

    Raises:
        ValueError: the dataset has no such split or has several, or an argument isn't for this format.
        DatasetError: nothing is there, or what is there is not as it should be.
    """
    path = user_path(path)
    videos = None if videos is None else user_path(videos)
    kind = _checked_format(path, format)
    if videos is not None and kind not in _WITH_VIDEOS_APART:
        raise ValueError(
            f"videos={str(videos)!r} is for lists and annotation files: the videos of {kind} are in {path}."
        )
    if fold != 1 and kind not in _WITH_FOLDS:
        raise ValueError(f"fold={fold} is for UCF-101 and HMDB-51, and {path} is of the format {kind}.")
    if names is not None and kind == "msr-vtt":
        raise ValueError("names are of classes, and MSR-VTT has captions.")
    scan = Scan(hidden)
    if kind == "folders":
        found = open_folders(path, split=split, names=names, scan=scan)
    elif kind == "list":
        found = open_list(path, videos=videos, split=split, names=names)
    elif kind == "shards":
        found = open_shards(path, split=split, names=names, scan=scan)
    elif kind == "kinetics":
        found = public.open_kinetics(path, videos=videos, split=split, names=names, scan=scan)
    elif kind == "ucf101":
        found = public.open_ucf101(path, videos=videos, split=split, fold=fold, names=names, scan=scan)
    elif kind == "hmdb51":
        found = public.open_hmdb51(path, videos=videos, split=split, fold=fold, names=names, scan=scan)
    elif kind == "msr-vtt":
        found = public.open_msr_vtt(path, videos=videos, split=split, scan=scan)
    elif kind == "ssv2":
        found = activities.open_ssv2(path, videos=videos, split=split, names=names, scan=scan)
    elif kind == "charades":
        found = activities.open_charades(path, videos=videos, split=split, names=names, scan=scan)
    else:
        found = activities.open_activitynet(path, videos=videos, split=split, names=names, scan=scan)
    return replace(found, problems=found.problems + scan.problem(videos or path))


def dataset_splits(path: str | Path, *, format: Format = "auto") -> tuple[str, ...]:
    """The splits that a dataset has, "train", "val" and "test" first; () where it has none.

    Arguments and errors are those of `open_dataset`.
    """
    path = user_path(path)
    kind = _checked_format(path, format)
    if kind == "folders":
        return tuple(folder_splits(path))
    if kind == "list":
        return tuple(list_splits(path)) if is_folder(path) else ()
    if kind == "shards":
        return tuple(shard_splits(path))
    if kind == "kinetics":
        return public.kinetics_splits(path)
    if kind == "ssv2":
        return activities.ssv2_splits(path)
    if kind == "charades":
        return tuple(activities.charades_files(path))
    if kind == "activitynet":
        return activities.activitynet_splits(path)
    return public.msr_vtt_splits(path) if kind == "msr-vtt" else ("train", "test")


def takes_videos(path: str | Path, *, format: Format = "auto") -> bool:
    """Whether the videos of a dataset may lie in another folder: of lists and annotation files.

    Arguments and errors are those of `open_dataset`.
    """
    return _checked_format(user_path(path), format) in _WITH_VIDEOS_APART


def has_folds(path: str | Path, *, format: Format = "auto") -> bool:
    """Whether a dataset has several official splits: UCF-101 and HMDB-51; arguments and errors as `open_dataset`."""
    return _checked_format(user_path(path), format) in _WITH_FOLDS


def detect_format(path: Path) -> Format:
    """What a path is, by the files in it.

    Raises:
        DatasetError: it isn't there, or is no dataset.
    """
    if is_folder(path):
        return _format_of_folder(path)
    if path.suffix.lower() == ".tar" and (path.exists() or (glob.has_magic(str(path)) and shards_of(path))):
        return "shards"
    if not path.exists():
        raise DatasetError(f"{path}: there is no such file or folder: check the path.")
    if (official := _activities_of(path)) is not None and activities.is_official(path):
        return official
    if public.msr_vtt_files(path):
        return "msr-vtt"
    if public.kinetics_tables(path):
        return "kinetics"
    if path.suffix.lower() in LIST_SUFFIXES:
        return "list"
    raise DatasetError(
        f"{path}: is no dataset: give a folder of class folders, a list ({', '.join(LIST_SUFFIXES)}), tar files, or "
        "the annotation files of Kinetics, UCF-101, HMDB-51, MSR-VTT, Something-Something V2, Charades or ActivityNet."
    )


def _activities_of(path: Path) -> Literal["ssv2", "charades", "activitynet"] | None:
    if activities.charades_files(path):
        return "charades"
    if activities.activitynet_file(path) is not None:
        return "activitynet"
    return "ssv2" if activities.ssv2_files(path) else None


def _format_of_folder(path: Path) -> Format:
    if public.ucf101_lists(path) is not None:
        return "ucf101"
    if public.hmdb51_lists(path) is not None:
        return "hmdb51"
    if public.msr_vtt_files(path):
        return "msr-vtt"
    if public.kinetics_tables(path):
        return "kinetics"
    if (official := _activities_of(path)) is not None:
        return official
    if list_splits(path) and not folder_splits(path):
        return "list"
    has_tars = bool(shard_splits(path)) or any(file.suffix.lower() == ".tar" for file in entries(path))
    has_videos = any(is_video_file(file) for folder in subfolders(path) for file in entries(folder))
    return "shards" if has_tars and not has_videos else "folders"


def _checked_format(path: Path, format: Format) -> Format:
    if format not in get_args(Format):
        raise ValueError(f"format={format!r} must be one of {', '.join(get_args(Format))}.")
    if format == "auto":
        return detect_format(path)
    if not path.exists() and not (format == "shards" and glob.has_magic(str(path))):
        raise DatasetError(f"{path}: there is no such file or folder: check the path.")
    if format == "folders" and not is_folder(path):
        raise DatasetError(f"{path}: is a file, not a folder of class folders.")
    return format
