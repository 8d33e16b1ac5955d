"""Read lists of videos with labels or captions: text, CSV or JSON Lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

from openxclip.datasets.files import base_name, entries, has_video_suffix, is_folder, locate
from openxclip.datasets.labels import Names, number_labels
from openxclip.datasets.request import Request
from openxclip.datasets.samples import Dataset, Sample, build_dataset
from openxclip.datasets.splits import splits_by_name
from openxclip.datasets.text import DatasetError, numbered_lines, parse_json, read_csv

#: Suffixes of lists.
LIST_SUFFIXES = (".txt", ".list", ".lst", ".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Row:
    """A video of a list or archive with its label or caption.

    Attributes:
        place: the row's place, such as "list.txt, line 1", which is unique.
        path: the video, as the list names it.
        label, text, start, end: see `Sample`; the label is a number or a class name.
    """

    place: str
    path: str
    label: str | None = None
    text: str | None = None
    start: float | None = None
    end: float | None = None


def open_list(request: Request) -> Dataset:
    """Open a list, or one of the lists in a folder; see `open_dataset`.

    The lists in a folder share their classes, so a label means the same in each split.
    """
    path = request.path
    if is_folder(path):
        lists = list_splits(path)
        if not lists:
            raise DatasetError(f"{path}: has no lists such as train.csv and val.csv: give a list, or name them so.")
        chosen = request.choose_split(lists)
        name = f"{base_name(path)}/{chosen}"
    else:
        request.refuse_split("a list")
        lists, chosen, name = {"": path}, "", path.stem
    root = request.videos or request.folder()
    rows = {split: read_list(file) for split, file in lists.items()}
    located = [replace(row, path=str(locate(root, row.path))) for row in rows[chosen]]
    classes, samples = label_rows(list(chain.from_iterable(rows.values())), located, request.names)
    return build_dataset(name, root, samples, classes=classes)


def list_splits(path: Path) -> dict[str, Path]:
    """Return the lists in a folder that are named after splits (`train.csv`, `val.csv`, …), by split; {} for a file.

    Raises:
        DatasetError: two lists stand for the same split.
    """
    files = entries(path) if is_folder(path) else []
    return splits_by_name(path, [file for file in files if file.suffix.lower() in LIST_SUFFIXES and file.is_file()])


def label_rows(
    all_rows: Iterable[Row], chosen: Sequence[Row], names: Names | None
) -> tuple[tuple[str, ...], list[tuple[str, Sample]]]:
    """Return the classes of a dataset, and the samples of the chosen rows, each with its place.

    Args:
        all_rows: the rows of all splits.
        chosen: the rows of the chosen split.
        names: see `number_labels`.

    Raises:
        DatasetError: the dataset has labels but a chosen row has a caption, or see `number_labels`.
    """
    labels = [(row.place, row.label) for row in all_rows if row.label is not None]
    captioned = next((row for row in chosen if row.label is None), None)
    if labels and captioned is not None:
        raise DatasetError(f"{captioned.place}: has a caption, but {labels[0][0]} has a label: use one kind.")
    classes, numbers = number_labels(labels, names) if labels else ((), [])
    number_of = {place: number for (place, _), number in zip(labels, numbers, strict=True)}
    samples = [(row.place, Sample(row.path, number_of.get(row.place), row.text, row.start, row.end)) for row in chosen]
    return classes, samples


def read_list(path: Path) -> list[Row]:
    """Read a list in the format that its suffix names.

    Raises:
        DatasetError: the list can't be read, is empty or has an invalid line.
    """
    suffix = path.suffix.lower()
    if suffix not in LIST_SUFFIXES:
        raise DatasetError(f"{path}: the suffix of a list must be one of {', '.join(LIST_SUFFIXES)}.")
    readers = {".csv": _read_csv_rows, ".tsv": _read_csv_rows, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines}
    rows = list(readers.get(suffix, _read_text_rows)(path))
    if not rows:
        raise DatasetError(f"{path}: is an empty list.")
    return rows


def _read_text_rows(path: Path) -> Iterator[Row]:
    lines = numbered_lines(path)
    if lines and all("\t" in line for _, line in lines):
        yield from _split_tabs(lines)
        return
    for place, line in lines:
        parts = line.rsplit(maxsplit=1)
        if len(parts) < 2:
            raise DatasetError(f"{place}: must be a path, a space and a label, but is {line!r}.")
        yield Row(place, path=parts[0], label=parts[1])


def _split_tabs(lines: list[tuple[str, str]]) -> Iterator[Row]:
    """Split lines with tabs into a path and a label, in any order, with or without a running number.

    The path is the only column whose fields all have video suffixes; the running number counts the lines from 0 or 1.

    Raises:
        DatasetError: it is unclear which column is which.
    """
    rows = [[field.strip() for field in line.split("\t")] for _, line in lines]
    width = len(rows[0])
    for (place, _), row in zip(lines, rows, strict=True):
        if len(row) != width:
            raise DatasetError(f"{place}: has {len(row)} fields, but the first line has {width}.")
    columns = [list(column) for column in zip(*rows, strict=True)]
    paths = [i for i, column in enumerate(columns) if all(has_video_suffix(PurePath(field)) for field in column)]
    others = [i for i in range(width) if i not in paths]
    if width == 2 and len(paths) != 1:  # folders of images, for example
        paths, others = [0], [1]
    if len(others) == 2:
        others = [i for i in others if not _is_running_number(columns[i])] or others
    if len(paths) != 1 or len(others) != 1:
        raise DatasetError(
            f"{lines[0][0]}: must be a path, a tab and a label, or a running number, a label and a path with tabs "
            f"between them, but is {lines[0][1]!r}."
        )
    for (place, _), row in zip(lines, rows, strict=True):
        yield Row(place, path=row[paths[0]], label=row[others[0]])


def _is_running_number(column: list[str]) -> bool:
    return any(column == [str(i + first) for i in range(len(column))] for first in (0, 1))


def _read_csv_rows(path: Path) -> Iterator[Row]:
    for place, fields in read_csv(path, {"path"}, hint=" (a list of lines `path label` has the suffix .txt)"):
        if not {"label", "text"} & set(fields):
            raise DatasetError(f"{path}: must have a column label or text, and has {', '.join(fields)}.")
        yield _checked_row(place, {key: value or None for key, value in fields.items()})


def _read_json_lines(path: Path) -> Iterator[Row]:
    for place, line in numbered_lines(path):
        fields = parse_json(line, place, hint=": there must be one object in each line")
        if not isinstance(fields, dict):
            raise DatasetError(f"{place}: must be an object with path and label or text, but is {line[:80]!r}.")
        yield _checked_row(place, fields)


def _checked_row(place: str, fields: dict[str, Any]) -> Row:
    path = fields.get("path")
    if not isinstance(path, str) or not path:
        raise DatasetError(f"{place}: path={path!r} must be the path of a video.")
    row = make_row(place, path, fields)
    if row.label is not None and row.text is not None:
        raise DatasetError(f"{place}: has both a label and a text: keep one.")
    return row


def make_row(place: str, path: str, fields: dict[str, Any]) -> Row:
    """Make a row from the fields `label`, `text`, `start` and `end`; fields may be absent.

    Raises:
        DatasetError: a field is invalid, `end` isn't after `start`, or there is neither a label nor a text.
    """
    label, text = fields.get("label"), fields.get("text")
    is_blank = isinstance(label, str) and not label.strip()
    if isinstance(label, bool) or not isinstance(label, int | str | None) or is_blank:
        raise DatasetError(f"{place}: label={label!r} must be a number or a name.")
    if not isinstance(text, str | None) or (text is not None and not text.strip()):
        raise DatasetError(f"{place}: text={text!r} must be a caption.")
    if label is None and text is None:
        raise DatasetError(f"{place}: has neither a label nor a text.")
    start, end = _seconds(place, "start", fields.get("start")), _seconds(place, "end", fields.get("end"))
    if end is not None and end <= (start or 0.0):
        raise DatasetError(f"{place}: end={end} must be after start={start or 0.0}.")
    return Row(place, path, None if label is None else str(label).strip(), text and text.strip(), start, end)


def _seconds(place: str, name: str, value: object) -> float | None:
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # caught below
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DatasetError(f"{place}: {name}={value!r} must be a time in seconds, 0 or later.")
    return seconds
