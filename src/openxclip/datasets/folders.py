"""Open a folder with a folder of videos for each class, or a folder of such folders for each split."""

from __future__ import annotations

from pathlib import Path

from openxclip.datasets.files import (
    Scan,
    base_name,
    entries,
    files_below,
    is_folder,
    is_video_file,
    shorten_list,
    subfolders,
    to_nfc,
)
from openxclip.datasets.labels import number_labels
from openxclip.datasets.request import Request
from openxclip.datasets.samples import Dataset, Sample, build_dataset, class_without_videos
from openxclip.datasets.splits import splits_by_name
from openxclip.datasets.text import DatasetError


def open_folders(request: Request) -> Dataset:
    """Open a folder of class folders; see `open_dataset`.

    All splits share their classes, in natural order, so a label means the same in each of them.
    """
    path, scan = request.path, request.scan
    splits = folder_splits(path)
    if splits:
        entries(path, scan)  # records hidden files beside the split folders
        split = request.choose_split(splits)
        name, base, bases = f"{base_name(path)}/{split}", splits[split], list(splits.values())
    else:
        request.refuse_split("a folder of class folders")
        name, base, bases = base_name(path), path, [path]
    folders = {to_nfc(folder.name): folder for folder in subfolders(base, scan)}
    if not folders:
        raise DatasetError(
            f"{base}: contains no folders: put the videos of each class in a folder of their own; "
            "for videos without class folders, write a list."
        )
    scan_of_all = Scan(scan.hidden)  # hidden files in other splits aren't this split's problems
    all_folders = [folder for parent in bases for folder in subfolders(parent, scan_of_all)]
    names = [to_nfc(folder.name) for folder in all_folders]
    if len(set(names)) == 1:
        raise DatasetError(f"{path}: has only one class folder, {names[0]!r}: it needs two or more.")
    classes, numbers = number_labels(list(zip(map(str, all_folders), names, strict=True)), request.names)
    label_of = dict(zip(names, numbers, strict=True))

    samples, others = [], [file for file in entries(base, scan) if not is_folder(file)]
    for class_name, folder in sorted(folders.items(), key=lambda item: label_of[item[0]]):
        is_video = {file: is_video_file(file) for file in files_below(folder, scan)}
        if not any(is_video.values()):
            raise DatasetError(f"{folder}: {class_without_videos(class_name)}: add some, or remove the folder.")
        samples += [("", Sample(str(file), label=label_of[class_name])) for file in is_video if is_video[file]]
        others += [file for file in is_video if not is_video[file]]
    return build_dataset(name, base, samples, classes=classes, problems=_describe_left_out(others, base))


def folder_splits(path: Path) -> dict[str, Path]:
    """Return the split folders of a folder by split ("train", "val", "test"); {} if it has no splits.

    A folder has splits if it contains a `train` and a `val` or `test` folder (or synonyms, in any case), or only split
    folders.

    Raises:
        DatasetError: two folders stand for the same split.
    """
    folders = subfolders(path)
    splits = splits_by_name(path, folders)
    has_splits = ("train" in splits and len(splits) > 1) or len(splits) == len(folders)
    return splits if has_splits else {}


def _describe_left_out(files: list[Path], base: Path) -> list[str]:
    """Return messages about files that aren't in a class folder or aren't videos."""
    outside = dict.fromkeys(file for file in files if file.parent == base and is_video_file(file))
    problems = [f"{file}: isn't in a class folder" for file in outside]
    others = [str(file.relative_to(base)) for file in files if file not in outside]
    if others:
        what = "file that is not a video" if len(others) == 1 else "files that are not videos"
        problems.append(f"left out {len(others)} {what}: {shorten_list(others)}")
    return problems
