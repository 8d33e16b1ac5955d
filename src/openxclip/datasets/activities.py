"""Read Something-Something V2, Charades and ActivityNet from their official annotation files.

Charades and ActivityNet annotate segments of videos; each segment is a sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openxclip.datasets.files import base_name, candidate_files, candidate_folders, entries, is_folder
from openxclip.datasets.labels import class_names, invert_numbers
from openxclip.datasets.request import Request
from openxclip.datasets.samples import Dataset, Sample, build_dataset
from openxclip.datasets.splits import in_split_order, sort_splits, split_of_name
from openxclip.datasets.text import DatasetError, numbered_lines, read_csv, read_json
from openxclip.video import natural_key

_SSV2 = r"(?i)(?:something-something-v2-)?(train|validation|test|labels)\.json"
_CHARADES = r"(?i)charades_v1_(train|test)\.csv"
_ACTIVITYNET = r"(?i)activity_?net.*\.json"


# ----------------------------------------------------------------------------------------------- Something-Something V2


def open_ssv2(request: Request) -> Dataset:
    """Open Something-Something V2; see `open_dataset`.

    The files are `something-something-v2-train.json`, …, or `train.json`, … beside `labels.json`. The classes are the
    templates, such as "Holding something", in the order of `labels.json` if that file exists. The test split needs
    `test-answers.csv`.
    """
    tables = ssv2_files(request.path)
    chosen = request.choose_split(ssv2_splits(request.path))
    rows: dict[str, list[tuple[str, str, str]]] = {}  # place, video and template, by split
    for split, table in tables.items():
        if split == "test":
            rows[split] = list(_read_ssv2_answers(table.parent / "test-answers.csv"))
        elif split != "labels":
            rows[split] = list(_read_ssv2(table))
    if "labels" in tables:
        raw = _read_ssv2_labels(tables["labels"])
    else:
        raw = sorted({template for split_rows in rows.values() for _, _, template in split_rows}, key=natural_key)
    index_of = {name: i for i, name in enumerate(raw)}
    finder, samples = request.video_finder(), []
    for place, video, template in rows[chosen]:
        if template not in index_of:
            raise DatasetError(f"{place}: the template {template!r} is not one of the {len(index_of)} labels.")
        samples.append((place, Sample(str(finder.find(f"{video}.webm")), index_of[template])))
    return build_dataset(f"ssv2/{chosen}", finder.root, samples, classes=class_names(raw, request.names))


def ssv2_splits(path: Path) -> tuple[str, ...]:
    """Return the splits that have labels; the labels of "test" are in the answers."""
    tables = ssv2_files(path)
    has_answers = "test" in tables and (tables["test"].parent / "test-answers.csv").exists()
    return tuple(split for split in tables if split != "labels" and (split != "test" or has_answers))


def ssv2_files(path: Path) -> dict[str, Path]:
    """Return the annotation files of Something-Something V2 by split, and "labels"; {} if there are none."""
    for folder in _nearby_folders(path, _SSV2):
        tables = {match[1].lower(): file for file in entries(folder) if (match := re.fullmatch(_SSV2, file.name))}
        names = [file.name.lower() for kind, file in tables.items() if kind != "labels"]
        is_unique = any(name.startswith("something") for name in names)  # train.json may be of another dataset
        if is_unique or {"train", "labels"} <= tables.keys():
            splits = {"train": "train", "validation": "val", "test": "test", "labels": "labels"}
            return {split: tables[name] for name, split in splits.items() if name in tables}
    return {}


def _read_ssv2_labels(table: Path) -> list[str]:
    """Return the templates in the order of their numbers."""
    content = read_json(table)
    templates = invert_numbers(content) if isinstance(content, dict) else None
    if templates is None:
        raise DatasetError(f'{table}: must map templates to numbers: {{"Holding something": "0"}}.')
    return [templates[number] for number in sorted(templates, key=int)]


def _read_ssv2(table: Path) -> Iterator[tuple[str, str, str]]:
    content = read_json(table)
    for i, entry in enumerate(content if isinstance(content, list) else [content]):
        place = f"{table}, entry {i + 1}"
        if not isinstance(entry, dict) or not isinstance(entry.get("template"), str) or "id" not in entry:
            raise DatasetError(f"{place}: must be an object with id and template.")
        yield place, str(entry["id"]), re.sub(r"[\[\]]", "", entry["template"])


def _read_ssv2_answers(table: Path) -> Iterator[tuple[str, str, str]]:
    for place, line in numbered_lines(table) if table.exists() else ():
        video, semicolon, template = line.partition(";")
        if not semicolon:
            raise DatasetError(f"{place}: must be a video, a semicolon and a label, but is {line!r}.")
        yield place, video, re.sub(r"[\[\]]", "", template.strip().strip('"'))


# ------------------------------------------------------------------------------------------------------------- Charades


def open_charades(request: Request) -> Dataset:
    """Open Charades, with a sample for each action of each video, from its start to its end; see `open_dataset`.

    The files are `Charades_v1_train.csv`, `Charades_v1_test.csv` and `Charades_v1_classes.txt`.
    """
    tables = charades_files(request.path)
    chosen = request.choose_split(tables)
    class_file = tables[chosen].parent / "Charades_v1_classes.txt"
    classes: dict[str, str] = {}
    for place, line in numbered_lines(class_file):
        code, _, name = line.partition(" ")
        if not re.fullmatch(r"c\d{3}", code) or not name:
            raise DatasetError(f"{place}: must be a code such as c000 and a name, but is {line!r}.")
        classes[code] = name.strip()
    index_of = {code: i for i, code in enumerate(classes)}
    finder, samples, problems = request.video_finder(), [], list[str]()
    for place, fields in read_csv(tables[chosen], {"id", "actions", "length"}):
        video = str(finder.find(f"{fields['id']}.mp4"))
        for action in filter(None, fields["actions"].split(";")):
            parts = action.split()
            if len(parts) != 3 or parts[0] not in index_of:
                raise DatasetError(
                    f"{place}: the action {action!r} must be a code of {class_file.name}, a start and an end."
                )
            times = _clip_segment(place, parts[1], parts[2], fields["length"], problems)
            if times is not None:
                samples.append((place, Sample(video, index_of[parts[0]], None, *times)))
    texts = class_names(list(classes.values()), request.names)
    return build_dataset(f"charades/{chosen}", finder.root, samples, classes=texts, problems=problems)


def charades_files(path: Path) -> dict[str, Path]:
    """Return the tables of Charades by split; {} if there are none."""
    tables: dict[str, Path] = {}
    for folder in _nearby_folders(path, _CHARADES):
        for file in entries(folder):
            if match := re.fullmatch(_CHARADES, file.name):
                tables.setdefault(match[1].lower(), file)
    return in_split_order(tables)


# ---------------------------------------------------------------------------------------------------------- ActivityNet


def open_activitynet(request: Request) -> Dataset:
    """Open ActivityNet, with a sample for each segment of each video; see `open_dataset`.

    The file is `activity_net.v1-3.min.json`; videos are called `v_ID.mp4` or `ID.mp4`.
    """
    table, database = _read_activitynet(request.path)
    split_of = {video: _activitynet_split(table, video, entry) for video, entry in database.items()}
    chosen = request.choose_split(sort_splits(split_of.values()))
    segments_of = {video: list(_read_segments(f"{table}, {video}", entry)) for video, entry in database.items()}
    raw = sorted({label for segments in segments_of.values() for label, _, _ in segments}, key=natural_key)
    index_of = {name: i for i, name in enumerate(raw)}
    finder, samples, problems = request.video_finder(), [], list[str]()
    for video, segments in segments_of.items():
        if split_of[video] != chosen:
            continue
        place, length = f"{table}, {video}", str(database[video].get("duration", ""))
        source = str(finder.find(f"v_{video}.mp4", f"{video}.mp4"))
        for label, start, end in segments:
            times = _clip_segment(place, start, end, length, problems)
            if times is not None:
                samples.append((place, Sample(source, index_of[label], None, *times)))
    if not samples and not problems:
        raise DatasetError(f"{table}: the split {chosen} has no annotations: choose another.")
    classes = class_names(raw, request.names)
    return build_dataset(f"activitynet/{chosen}", finder.root, samples, classes=classes, problems=problems)


def activitynet_splits(path: Path) -> tuple[str, ...]:
    """Return the splits in the annotation file."""
    table, database = _read_activitynet(path)
    return sort_splits(_activitynet_split(table, video, entry) for video, entry in database.items())


def activitynet_file(path: Path) -> Path | None:
    """Return the annotation file of ActivityNet; None if there is none."""
    files = [file for file in candidate_files(path) if re.fullmatch(_ACTIVITYNET, file.name) and file.is_file()]
    return files[0] if files else None


def _read_activitynet(path: Path) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Return the annotation file, and its entries by video."""
    table = activitynet_file(path)
    if table is None:
        raise DatasetError(f"{path}: has no activity_net.v1-3.min.json, and neither have its subfolders.")
    content = read_json(table)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not all(isinstance(entry, dict) for entry in database.values()):
        raise DatasetError(f"{table}: must be an object with a database of videos, as in ActivityNet's files.")
    return table, database


def _read_segments(place: str, entry: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Yield the label, start and end of each annotation of a video."""
    for annotation in entry.get("annotations") or ():
        try:
            label, (start, end) = str(annotation["label"]), annotation["segment"]
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{place}: an annotation must have a label and a segment of two times.") from error
        yield label, start, end


def _activitynet_split(table: Path, video: str, entry: dict[str, Any]) -> str:
    split = split_of_name(str(entry.get("subset", "")))
    if split is None:
        raise DatasetError(f"{table}, {video}: subset={entry.get('subset')!r} must be training, validation or testing.")
    return split


# --------------------------------------------------------------------------------------------------------------- shared


def _clip_segment(
    place: str, start: object, end: object, length: object, problems: list[str]
) -> tuple[float, float] | None:
    """Return start and end in seconds, limited to the video; if nothing is left, add to `problems` and return None."""
    try:
        first, last = float(start), float(end)  # type: ignore[arg-type]  # caught below
        duration = float(length) if length not in ("", None) else last  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{place}: the times {start!r} and {end!r} (of {length!r}) must be seconds.") from error
    first, last = max(first, 0.0), min(last, duration)
    if not first < last:
        problems.append(f"{place}: the segment from {start} to {end} s is not in the video, which has {length} s")
        return None
    return first, last


def _nearby_folders(path: Path, pattern: str) -> list[Path]:
    """Return the folder and its subfolders. For a file whose name matches, the folder is the one that contains it."""
    if re.fullmatch(pattern, base_name(path)) and not is_folder(path):
        return candidate_folders(path.parent)
    return candidate_folders(path)
