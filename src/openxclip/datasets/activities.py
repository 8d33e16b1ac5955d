"""Something-Something V2, Charades and ActivityNet, by their annotation files as they are distributed.

Charades and ActivityNet say which stretches of a video show an action: each stretch is a sample.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openxclip.datasets.files import (
    Scan,
    VideoIndex,
    called,
    chosen_split,
    entries,
    gathered,
    is_folder,
    numbered_lines,
    read_text,
    split_called,
    subfolders,
)
from openxclip.datasets.labels import Names, class_names, numbers_as_names
from openxclip.datasets.lists import csv_rows
from openxclip.datasets.samples import Dataset, DatasetError, Sample
from openxclip.video import natural_key

_SSV2 = r"(?i)(?:something-something-v2-)?(train|validation|test|labels)\.json"
_SSV2_LONG = r"(?i)something-something-v2-(train|validation|test)\.json"
_CHARADES = r"(?i)charades_v1_(train|test)\.csv"
_ACTIVITYNET = r"(?i)activity_?net.*\.json"
_Row = tuple[str, Sample]


# ----------------------------------------------------------------------------------------------- Something-Something V2


def open_ssv2(
    path: Path, *, videos: Path | None, split: str | None, names: Names | None, scan: Scan | None = None
) -> Dataset:
    """Something-Something V2: `something-something-v2-train.json`, … or `train.json`, … beside `labels.json`.

    Arguments and errors are as for `open_dataset`. The classes are the templates, such as "Holding something". They
    are in the order of `labels.json`, if that file exists. The test split needs `test-answers.csv`.
    """
    tables = ssv2_files(path)
    chosen = chosen_split(split, ssv2_splits(path), path)
    folder = next(iter(tables.values())).parent
    rows: dict[str, list[tuple[str, str, str]]] = {}  # of each split: where, the video, the template
    for each, table in tables.items():
        if each == "test":
            rows[each] = list(_ssv2_answers(folder / "test-answers.csv"))
        elif each != "labels":
            rows[each] = list(_ssv2_rows(table))
    if "labels" in tables:
        raw = list(_ssv2_labels(tables["labels"]))
    else:
        raw = sorted({template for found in rows.values() for _, _, template in found}, key=natural_key)
    number = {name: i for i, name in enumerate(raw)}
    root = videos or (path if is_folder(path) else path.parent)
    index, found = VideoIndex(root, scan), list[_Row]()
    for where, video, template in rows[chosen]:
        if template not in number:
            raise DatasetError(f"{where}: the template {template!r} is not one of the {len(number)} labels.")
        found.append((where, Sample(str(index.find(f"{video}.webm")), number[template])))
    return gathered(f"ssv2/{chosen}", root, found, classes=class_names(raw, names))


def ssv2_splits(path: Path) -> tuple[str, ...]:
    """The splits that the files have; "test" where the answers are there."""
    tables = ssv2_files(path)
    return tuple(
        split for split, table in tables.items()
        if split in ("train", "val") or (split == "test" and (table.parent / "test-answers.csv").exists())
    )  # fmt: skip


def ssv2_files(path: Path) -> dict[str, Path]:
    """The files of Something-Something V2 by split, and "labels", which a path means; {} if there are none."""
    for folder in _folders(path):
        files = [file for file in entries(folder) if re.fullmatch(_SSV2, file.name)]
        names = {file.name.lower() for file in files}
        if any(re.fullmatch(_SSV2_LONG, file.name) for file in files) or names >= {"train.json", "labels.json"}:
            by_name = {re.fullmatch(_SSV2, file.name)[1].lower(): file for file in files}  # type: ignore[index]  # fits
            order = {"train": "train", "validation": "val", "test": "test", "labels": "labels"}
            return {split: by_name[name] for name, split in order.items() if name in by_name}
    return {}


def _ssv2_labels(table: Path) -> Iterator[str]:
    """The templates, in the order of their numbers."""
    content = _json_of(table)
    found = numbers_as_names(content) if isinstance(content, dict) else None
    if found is None:
        raise DatasetError(f'{table}: must be an object of numbers by template: {{"Holding something": "0"}}.')
    yield from (found[number] for number in sorted(found, key=int))


def _ssv2_rows(table: Path) -> Iterator[tuple[str, str, str]]:
    content = _json_of(table)
    for i, one in enumerate(content if isinstance(content, list) else [content]):
        where = f"{table}, entry {i + 1}"
        if not isinstance(one, dict) or not isinstance(one.get("template"), str) or "id" not in one:
            raise DatasetError(f"{where}: must be an object with id and template.")
        yield where, str(one["id"]), re.sub(r"[\[\]]", "", one["template"])


def _ssv2_answers(table: Path) -> Iterator[tuple[str, str, str]]:
    if table.exists():
        for line, text in numbered_lines(table):
            video, mark, template = text.partition(";")
            if not mark:
                raise DatasetError(f"{table}, line {line}: must be a video, a semicolon and a label, and is {text!r}.")
            yield f"{table}, line {line}", video, re.sub(r"[\[\]]", "", template.strip().strip('"'))


# ------------------------------------------------------------------------------------------------------------- Charades


def open_charades(
    path: Path, *, videos: Path | None, split: str | None, names: Names | None, scan: Scan | None = None
) -> Dataset:
    """Charades: `Charades_v1_train.csv`, `Charades_v1_test.csv` and `Charades_v1_classes.txt`.

    Arguments and errors are as for `open_dataset`. A sample for each action of each video, from its start to its end.
    """
    tables = charades_files(path)
    chosen = chosen_split(split, tuple(tables), path)
    listed = tables[chosen].parent / "Charades_v1_classes.txt"
    classes: dict[str, str] = {}
    for line, text in numbered_lines(listed):
        code, _, name = text.partition(" ")
        if not re.fullmatch(r"c\d{3}", code) or not name:
            raise DatasetError(f"{listed}, line {line}: must be a code such as c000 and a name, and is {text!r}.")
        classes[code] = name.strip()
    number = {code: i for i, code in enumerate(classes)}
    root = videos or (path if is_folder(path) else path.parent)
    index, found, problems = VideoIndex(root, scan), list[_Row](), list[str]()
    for where, fields in csv_rows(tables[chosen], {"id", "actions", "length"}):
        video = str(index.find(f"{fields['id']}.mp4"))
        for action in filter(None, fields["actions"].split(";")):
            parts = action.split()
            if len(parts) != 3 or parts[0] not in number:
                raise DatasetError(
                    f"{where}: the action {action!r} must be a code of {listed.name}, a start and an end."
                )
            stretch = _stretch(where, parts[1], parts[2], fields["length"], problems)
            if stretch is not None:
                found.append((where, Sample(video, number[parts[0]], None, *stretch)))
    return gathered(
        f"charades/{chosen}", root, found, classes=class_names(list(classes.values()), names), problems=problems
    )


def charades_files(path: Path) -> dict[str, Path]:
    """The tables of Charades by split that a path means; {} if there are none."""
    found: dict[str, Path] = {}
    for folder in _folders(path):
        for file in entries(folder):
            if fits := re.fullmatch(_CHARADES, file.name):
                found.setdefault(fits[1].lower(), file)
    return {split: found[split] for split in ("train", "test") if split in found}


# ---------------------------------------------------------------------------------------------------------- ActivityNet


def open_activitynet(
    path: Path, *, videos: Path | None, split: str | None, names: Names | None, scan: Scan | None = None
) -> Dataset:
    """ActivityNet: `activity_net.v1-3.min.json`; arguments and errors as for `open_dataset`.

    A sample for each segment of each video; videos are called `v_ID.mp4` or `ID.mp4`.
    """
    table, database = _activitynet(path)
    subsets = {video: _subset(table, video, about) for video, about in database.items()}
    splits = tuple(one for one in ("train", "val", "test") if one in subsets.values())
    chosen = chosen_split(split, splits, path)
    root = videos or (path if is_folder(path) else path.parent)
    index, problems = VideoIndex(root, scan), list[str]()
    segments = []
    for video, about in database.items():
        where, length = f"{table}, {video}", str(about.get("duration", ""))
        for segment in about.get("annotations") or ():
            try:
                label, (start, end) = str(segment["label"]), segment["segment"]
            except (KeyError, TypeError, ValueError) as error:
                raise DatasetError(f"{where}: an annotation must have a label and a segment of two times.") from error
            segments.append((where, video, label, start, end, length))
    raw = sorted({label for _, _, label, *_ in segments}, key=natural_key)
    number, found = {name: i for i, name in enumerate(raw)}, list[_Row]()
    for where, video, label, start, end, length in segments:
        if subsets[video] == chosen:
            stretch = _stretch(where, start, end, length, problems)
            if stretch is not None:
                source = str(index.find(f"v_{video}.mp4", f"{video}.mp4"))
                found.append((where, Sample(source, number[label], None, *stretch)))
    if not found and not problems:
        raise DatasetError(f"{table}: the split {chosen} has no annotations: choose another.")
    return gathered(f"activitynet/{chosen}", root, found, classes=class_names(raw, names), problems=problems)


def activitynet_splits(path: Path) -> tuple[str, ...]:
    """The splits that the file has."""
    table, database = _activitynet(path)
    there = {_subset(table, video, about) for video, about in database.items()}
    return tuple(split for split in ("train", "val", "test") if split in there)


def activitynet_file(path: Path) -> Path | None:
    """The annotation file of ActivityNet that a path means; None if there is none."""
    files = [path] if not is_folder(path) else [file for folder in _folders(path) for file in entries(folder)]
    return next((file for file in files if re.fullmatch(_ACTIVITYNET, file.name) and file.is_file()), None)


def _activitynet(path: Path) -> tuple[Path, dict[str, dict[str, Any]]]:
    table = activitynet_file(path)
    if table is None:
        raise DatasetError(f"{path}: has no activity_net.v1-3.min.json in it, nor in a folder in it.")
    content = _json_of(table)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not all(isinstance(about, dict) for about in database.values()):
        raise DatasetError(f"{table}: must be an object with a database of videos, as ActivityNet's files are.")
    return table, database


def _subset(table: Path, video: str, about: dict[str, Any]) -> str:
    split = split_called(str(about.get("subset", "")))
    if split is None:
        raise DatasetError(f"{table}, {video}: subset={about.get('subset')!r} must be training, validation or testing.")
    return split


# --------------------------------------------------------------------------------------------------------------- shared


def _stretch(where: str, start: object, end: object, length: object, problems: list[str]) -> tuple[float, float] | None:
    """Start and end in seconds, cut to the video's length; None, and a problem, where nothing is left."""
    try:
        first, last = float(start), float(end)  # type: ignore[arg-type]  # caught below
        whole = float(length) if length not in ("", None) else last  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{where}: the times {start!r} and {end!r} (of {length!r}) must be seconds.") from error
    first, last = max(first, 0.0), min(last, whole)
    if not first < last:
        problems.append(f"{where}: nothing is left of the stretch from {start} to {end} s in a video of {length} s")
        return None
    return first, last


def _folders(path: Path) -> list[Path]:
    """The folder that a path means, or that a file lies in, and those in it."""
    folder = path if is_folder(path) else path.parent
    return [folder, *subfolders(folder)] if is_folder(path) else [folder]


def _json_of(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: is not JSON ({error}).") from error


def is_official(path: Path) -> bool:
    """Whether a file's own name is that of an annotation file which this module reads."""
    patterns = (_SSV2_LONG, _CHARADES, _ACTIVITYNET)
    return any(re.fullmatch(pattern, called(path)) for pattern in patterns)
