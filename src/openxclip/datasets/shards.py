"""Read tar files in webdataset's layout: `KEY.mp4` beside `KEY.cls` (class), `KEY.txt` (caption) or `KEY.json`."""

from __future__ import annotations

import glob
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from openxclip.datasets.files import Scan, base_name, entries, is_folder, subfolders
from openxclip.datasets.lists import Row, label_rows, make_row
from openxclip.datasets.request import Request
from openxclip.datasets.samples import Dataset, build_dataset
from openxclip.datasets.splits import in_split_order, split_of_name
from openxclip.datasets.tars import TEXT_SUFFIXES, tar_index
from openxclip.datasets.text import DatasetError, parse_json
from openxclip.video import natural_key


def open_shards(request: Request) -> Dataset:
    """Open a tar file, the tar files in a folder or those that a glob matches; see `open_dataset`.

    All splits share their classes, so a label means the same in each of them.
    """
    path = request.path
    name = base_name(path) if is_folder(path) else path.stem
    splits = shard_splits(path, request.scan)
    if splits:
        chosen = request.choose_split(splits)
        name = f"{name}/{chosen}"
    else:
        request.refuse_split("tar files")
        splits, chosen = {"": find_shards(path, request.scan)}, ""
    rows: dict[str, list[Row]] = {split: [] for split in splits}
    problems: dict[str, list[str]] = {split: [] for split in splits}
    for split, archives in splits.items():
        for archive in archives:
            archive_rows, archive_problems = _read_archive(archive)
            rows[split] += archive_rows
            problems[split] += archive_problems
    classes, samples = label_rows(list(chain.from_iterable(rows.values())), rows[chosen], request.names)
    return build_dataset(name, request.folder(), samples, classes=classes, problems=problems[chosen])


def find_shards(path: Path, scan: Scan | None = None) -> list[Path]:
    """Return a tar file, the tar files in a folder or those that a glob matches, in natural order.

    Raises:
        DatasetError: there are none.
    """
    if is_folder(path):
        shards = _tars_in(path, scan)
    elif glob.has_magic(str(path)) and not path.exists():
        matches = sorted(glob.glob(str(path)), key=natural_key)  # noqa: PTH207 (patterns may be absolute)
        shards = [Path(match) for match in matches if Path(match).suffix.lower() == ".tar"]
    else:
        shards = [path]
    if not shards:
        raise DatasetError(f"{path}: there are no .tar files.")
    return shards


def shard_splits(path: Path, scan: Scan | None = None) -> dict[str, list[Path]]:
    """Return the tar files of a folder by split, or {} if it has no splits.

    A split has a folder of its own, or files with names such as `train-000.tar`.
    """
    if not is_folder(path):
        return {}
    splits: dict[str, list[Path]] = {}
    for folder in subfolders(path, scan):
        split = split_of_name(folder.name)
        if split is not None and (tars := _tars_in(folder, scan)):
            splits.setdefault(split, []).extend(tars)
    for tar in _tars_in(path, scan):
        split = split_of_name(re.split(r"[-_.\d]", tar.stem, maxsplit=1)[0])
        if split is None:
            return {}
        splits.setdefault(split, []).append(tar)
    return in_split_order(splits)


def _tars_in(folder: Path, scan: Scan | None) -> list[Path]:
    return [path for path in entries(folder, scan) if path.suffix.lower() == ".tar" and path.is_file()]


def _read_archive(archive: Path) -> tuple[list[Row], list[str]]:
    """Return the videos of an archive with their labels or captions, and messages about members that are left out."""
    index = tar_index(archive)
    rows, problems = list[Row](), [f"{archive}: {problem}" for problem in index.problems]
    texts: dict[str, dict[str, str]] = {}  # by key and suffix
    for name, text in index.texts.items():
        texts.setdefault(_key(name), {})[PurePosixPath(name).suffix.lower()] = text
    member_of: dict[str, str] = {}
    for member in sorted(index.videos, key=natural_key):
        source, key = f"{archive}::{member}", _key(member)
        if key in member_of:
            problems.append(f"{source}: left out, since {member_of[key]} has the same key")
            continue
        member_of[key] = member
        if index.videos[member][1] == 0:
            problems.append(f"{source}: is empty")
        elif key not in texts:
            problems.append(f"{source}: left out, since there is no {', '.join(TEXT_SUFFIXES)} beside it")
        else:
            rows.append(_parse_row(source, texts[key]))
    without_video = sorted(texts.keys() - member_of.keys(), key=natural_key)
    return rows, problems + [f"{archive}::{key}: there is no video for it" for key in without_video]


def _key(member: str) -> str:
    """Return the path without its suffix, which a video shares with the texts beside it."""
    return str(PurePosixPath(member).with_suffix(""))


def _parse_row(source: str, texts: dict[str, str]) -> Row:
    """Make a row from the texts beside a video, by suffix. If there are a label and a caption, the label is used."""
    fields = {}
    if ".json" in texts:
        fields = parse_json(texts[".json"], f"{source}, .json")
        if not isinstance(fields, dict):
            raise DatasetError(f"{source}, .json: must be an object with label or text.")
    if ".cls" in texts:
        fields["label"] = texts[".cls"]
    if ".txt" in texts:
        fields["text"] = texts[".txt"]
    row = make_row(source, source, fields)
    return row if row.label is None else replace(row, text=None)
