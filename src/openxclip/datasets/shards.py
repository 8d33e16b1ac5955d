"""Tar files of videos as webdataset has them: `KEY.mp4` beside `KEY.cls` (class), `KEY.txt` (caption) or `KEY.json`."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from openxclip.datasets.files import (
    Scan,
    called,
    chosen_split,
    entries,
    gathered,
    is_folder,
    refuse_split,
    split_called,
    subfolders,
)
from openxclip.datasets.labels import Names, number_labels
from openxclip.datasets.lists import Row, checked_fields
from openxclip.datasets.samples import Dataset, DatasetError, Sample
from openxclip.datasets.tars import TEXT_SUFFIXES, TarIndex, tar_index
from openxclip.video import natural_key

_Found = list[tuple[Path, Row]]


def open_shards(path: Path, *, split: str | None, names: Names | None, scan: Scan | None = None) -> Dataset:
    """The videos of a tar file, or of those in a folder or that a glob finds; arguments and errors: `open_dataset`.

    The classes are those of all splits together, so that a label means the same in each of them.
    """
    splits, title = shard_splits(path, scan), called(path) if is_folder(path) else path.stem
    if splits:
        chosen = chosen_split(split, splits, path)
        title = f"{title}/{chosen}"
    else:
        refuse_split(split, path, "tar files")
        splits, chosen = {"": shards_of(path, scan)}, ""
    rows: dict[str, _Found] = {each: [] for each in splits}
    problems: dict[str, list[str]] = {each: [] for each in splits}
    for each, archives in splits.items():
        for archive in archives:
            index = tar_index(archive)
            problems[each] += [f"{archive}: {problem}" for problem in index.problems]
            for row in _rows(archive, index, problems[each]):
                rows[each].append((archive, row))
    labelled = [row for found in rows.values() for _, row in found if row.label is not None]
    captioned = next((row for found in rows.values() for _, row in found if row.label is None), None)
    if labelled and captioned is not None:
        raise DatasetError(f"{captioned.where}: has a caption, but {labelled[0].where} has a label: use one kind.")
    labels = [(row.where, str(row.label)) for row in labelled]
    classes, numbers = number_labels(labels, names) if labels else ((), [])
    label_of = {row.where: number for row, number in zip(labelled, numbers, strict=True)}
    samples = [
        ("", Sample(f"{archive}::{row.path}", label_of.get(row.where), row.text, row.start, row.end))
        for archive, row in rows[chosen]
    ]
    root = path if is_folder(path) else path.parent
    return gathered(title, root, samples, classes=classes, problems=problems[chosen])


def shards_of(path: Path, scan: Scan | None = None) -> list[Path]:
    """The tar files that a path means: itself, those in a folder, or what a glob finds; in natural order.

    Raises:
        DatasetError: there is none.
    """
    if is_folder(path):
        found = _tars_in(path, scan)
    elif glob.has_magic(str(path)) and not path.exists():
        matches = sorted(glob.glob(str(path)), key=natural_key)  # noqa: PTH207 (patterns may be absolute)
        found = [Path(match) for match in matches if Path(match).suffix.lower() == ".tar"]
    else:
        found = [path]
    if not found:
        raise DatasetError(f"{path}: there are no .tar files.")
    return found


def shard_splits(path: Path, scan: Scan | None = None) -> dict[str, list[Path]]:
    """The tar files of a folder by split, where it has folders for them, or names such as `train-000.tar`; else {}."""
    if not is_folder(path):
        return {}
    splits: dict[str, list[Path]] = {}
    for folder in subfolders(path, scan):
        split = split_called(folder.name)
        if split is not None and (tars := _tars_in(folder, scan)):
            splits.setdefault(split, []).extend(tars)
    tars = _tars_in(path, scan)
    by_name = [(split_called(re.split(r"[-_.\d]", tar.stem, maxsplit=1)[0]), tar) for tar in tars]
    if any(split is None for split, _ in by_name):
        return {}
    for split, tar in by_name:
        splits.setdefault(str(split), []).append(tar)
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _rows(archive: Path, index: TarIndex, problems: list[str]) -> Iterator[Row]:
    """The videos of an archive with what is said of each; a video of which nothing is said is a problem."""
    told: dict[str, dict[str, str]] = {}
    for name, text in index.texts.items():
        told.setdefault(_key(name), {})[PurePosixPath(name).suffix.lower()] = text
    seen: dict[str, str] = {}
    for member in sorted(index.videos, key=natural_key):
        where, key = f"{archive}::{member}", _key(member)
        if key in seen:
            problems.append(f"{where}: left out, since {seen[key]} has the same key")
            continue
        seen[key] = member
        if index.videos[member][1] == 0:
            problems.append(f"{where}: is empty")
        elif key not in told:
            problems.append(f"{where}: left out, since there is no {', '.join(TEXT_SUFFIXES)} beside it")
        else:
            yield _row(where, member, told[key])
    problems += [
        f"{archive}::{key}: there is no video for it" for key in sorted(told.keys() - seen.keys(), key=natural_key)
    ]


def _key(member: str) -> str:
    """What a video and the texts beside it have in common: the path without its suffix."""
    return str(PurePosixPath(member).with_suffix(""))


def _row(where: str, member: str, said: dict[str, str]) -> Row:
    """What is said of a video, by suffix. A label goes before a caption: the other text may be there for people."""
    fields = {}
    if ".json" in said:
        try:
            fields = json.loads(said[".json"])
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{where}: its .json is not JSON ({error}).") from error
        if not isinstance(fields, dict):
            raise DatasetError(f"{where}: its .json must be an object with label or text.")
    if ".cls" in said:
        fields["label"] = said[".cls"]
    if ".txt" in said:
        fields["text"] = said[".txt"]
    label, text, start, end = checked_fields(where, fields)
    if label is None and text is None:
        raise DatasetError(f"{where}: its .json has neither a label nor a text.")
    return Row(where, member, label, text if label is None else None, start, end)


def _tars_in(folder: Path, scan: Scan | None) -> list[Path]:
    return [path for path in entries(folder, scan) if path.suffix.lower() == ".tar" and path.is_file()]
