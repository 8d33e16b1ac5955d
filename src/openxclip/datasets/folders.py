"""A folder of class folders, each with the videos of its class; or one such folder for each split."""

from __future__ import annotations

from pathlib import Path

from openxclip.datasets.files import (
    Scan,
    called,
    chosen_split,
    composed,
    entries,
    files_below,
    first_of,
    gathered,
    is_folder,
    is_video_file,
    refuse_split,
    split_called,
    subfolders,
)
from openxclip.datasets.labels import Names, number_labels
from openxclip.datasets.samples import Dataset, DatasetError, Sample


def open_folders(path: Path, *, split: str | None, names: Names | None, scan: Scan | None = None) -> Dataset:
    """The videos in the class folders of a folder; what is asked for and raised is as for `open_dataset`.

    The classes are those of all splits together, in natural order, so that a label means the same in each of them.
    """
    splits, title = folder_splits(path), called(path)
    if splits:
        entries(path, scan)  # what is left out beside the splits counts, too
        chosen = chosen_split(split, splits, path)
        title, base, bases = f"{title}/{chosen}", splits[chosen], list(splits.values())
    else:
        refuse_split(split, path, "a folder of class folders")
        base, bases = path, [path]
    folders = {composed(folder.name): folder for folder in subfolders(base, scan)}
    if not folders:
        raise DatasetError(
            f"{base}: has no folders in it: there must be one for each class, with its videos; "
            "for videos that lie together, write a list."
        )
    other = None if scan is None else Scan(scan.hidden)  # of other splits, nothing is counted
    everywhere = {composed(folder.name): folder for each in reversed(bases) for folder in subfolders(each, other)}
    if len(everywhere) == 1:
        raise DatasetError(
            f"{path}: has one class folder alone, {next(iter(everywhere))!r}: there must be two or more."
        )
    labels = [(str(folder), name) for name, folder in everywhere.items()]
    classes, numbers = number_labels(labels, names)
    label_of = dict(zip(everywhere, numbers, strict=True))

    found, others = [], [file for file in entries(base, scan) if not is_folder(file)]
    for name, folder in sorted(folders.items(), key=lambda item: label_of[item[0]]):
        files = files_below(folder, scan)
        videos = [file for file in files if is_video_file(file)]
        if not videos:
            raise DatasetError(f"{folder}: the class {name!r} has no videos: put some in, or take the folder away.")
        found += [("", Sample(str(video), label=label_of[name])) for video in videos]
        taken = set(videos)
        others += [file for file in files if file not in taken]
    return gathered(title, base, found, classes=classes, problems=_left_out(others, base))


def folder_splits(path: Path) -> dict[str, Path]:
    """The split folders of a folder ("train", "val", "test"), by split; {} where it has none.

    A folder has splits where it has a `train` and a `val` or `test` in it (or another name for these, in capitals or
    not), or nothing else.

    Raises:
        DatasetError: two folders are of the same split.
    """
    folders = subfolders(path)
    splits: dict[str, Path] = {}
    for folder in folders:
        split = split_called(folder.name)
        if split in splits:
            raise DatasetError(f"{path}: both {splits[split].name} and {folder.name} mean the split {split}: keep one.")
        if split is not None:
            splits[split] = folder
    are_splits = ("train" in splits and len(splits) > 1) or len(splits) == len(folders)
    return {split: splits[split] for split in ("train", "val", "test") if split in splits} if are_splits else {}


def _left_out(files: list[Path], base: Path) -> list[str]:
    """What to say of files that aren't taken for videos, or lie beside the class folders."""
    beside = {file for file in files if is_video_file(file) and file.parent == base}
    problems = [f"{file}: lies in no class folder" for file in files if file in beside]
    others = [str(file.relative_to(base)) for file in files if file not in beside]
    if others:
        what = "file that is not a video" if len(others) == 1 else "files that are not videos"
        problems.append(f"left out {len(others)} {what}: {first_of(others)}")
    return problems
