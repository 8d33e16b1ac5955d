"""Lists of videos with their labels or captions: text, CSV or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from openxclip.datasets.files import (
    called,
    chosen_split,
    entries,
    gathered,
    is_folder,
    is_video,
    located,
    numbered_lines,
    read_text,
    refuse_split,
    split_called,
)
from openxclip.datasets.labels import Names, number_labels
from openxclip.datasets.samples import Dataset, DatasetError, Sample

_TEXT, _CSV, _JSON_LINES = (".txt", ".list", ".lst"), (".csv", ".tsv"), (".jsonl", ".ndjson")
#: Suffixes of the lists that are read.
LIST_SUFFIXES = (*_TEXT, *_CSV, *_JSON_LINES)


@dataclass(frozen=True)
class Row:
    """A line of a list: a path with a label or a caption, and where it stands, in words for an error."""

    where: str
    path: str
    label: str | None = None
    text: str | None = None
    start: float | None = None
    end: float | None = None


def open_list(path: Path, *, videos: Path | None, split: str | None, names: Names | None) -> Dataset:
    """The videos of a list, or of one of those in a folder; what is asked for and raised is as for `open_dataset`.

    Of lists in a folder, the classes are those of all of them together, so that a label means the same in each.
    """
    if is_folder(path):
        lists = list_splits(path)
        if not lists:
            raise DatasetError(
                f"{path}: has no lists such as train.csv and val.csv in it: give a list itself, or name them so."
            )
        chosen = chosen_split(split, lists, path)
        root = videos or path
    else:
        refuse_split(split, path, "a list")
        lists, chosen, root = {"": path}, "", videos or path.parent
    rows = {each: read_list(file) for each, file in lists.items()}
    labelled = [(each, row) for each in rows for row in rows[each] if row.label is not None]
    plain = next((row for row in rows[chosen] if row.label is None), None)
    if labelled and plain is not None:
        raise DatasetError(
            f"{plain.where}: has a caption, but there are labels at {labelled[0][1].where}: use one kind."
        )
    classes, numbers = (
        number_labels([(row.where, str(row.label)) for _, row in labelled], names) if labelled else ((), [])
    )
    label_of = {id(row): number for (_, row), number in zip(labelled, numbers, strict=True)}
    found = []
    for row in rows[chosen]:
        source = str(located(root, row.path))
        found.append((row.where, Sample(source, label_of.get(id(row)), row.text, row.start, row.end)))
    return gathered(f"{called(path)}/{chosen}" if chosen else path.stem, root, found, classes=classes)


def list_splits(path: Path) -> dict[str, Path]:
    """The lists in a folder that are called as splits are (`train.csv`, `val.csv`, …), by split.

    Raises:
        DatasetError: two are of the same split.
    """
    splits: dict[str, Path] = {}
    for file in entries(path):
        split = split_called(file.stem) if file.suffix.lower() in LIST_SUFFIXES and file.is_file() else None
        if split in splits:
            raise DatasetError(f"{path}: both {splits[split].name} and {file.name} mean the split {split}: keep one.")
        if split is not None:
            splits[split] = file
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def read_list(path: Path) -> list[Row]:
    """What a list says, line by line, in the format that its suffix names.

    Raises:
        DatasetError: it can't be read; a line isn't as it should be.
    """
    suffix = path.suffix.lower()
    if suffix in _CSV:
        rows = list(_from_csv(path))
    elif suffix in _JSON_LINES:
        rows = list(_from_json_lines(path))
    elif suffix in _TEXT:
        rows = list(_from_text(path))
    else:
        raise DatasetError(f"{path}: the suffix of a list must be one of {', '.join(LIST_SUFFIXES)}.")
    if not rows:
        raise DatasetError(f"{path}: is a list of nothing.")
    return rows


def _from_text(path: Path) -> Iterator[Row]:
    lines = numbered_lines(path)
    if lines and all("\t" in line for _, line in lines):
        yield from _from_tabs(path, lines)
        return
    for number, line in lines:
        where, parts = f"{path}, line {number}", line.rsplit(maxsplit=1)
        if len(parts) < 2:
            raise DatasetError(f"{where}: must be a path, a space and a label, and is {line!r}.")
        yield Row(where, path=parts[0], label=parts[1])


def _from_tabs(path: Path, lines: list[tuple[int, str]]) -> Iterator[Row]:
    """Lines with tabs: a path and a label; or a running number, a label and a path.

    The order may be another, where one field alone has the suffixes of videos; the running number counts the lines,
    from 0 or 1.

    Raises:
        DatasetError: it can't be told which field is which.
    """
    rows = [[field.strip() for field in line.split("\t")] for _, line in lines]
    number, wide = lines[0][0], len(rows[0])
    if other := next((one for one, row in zip(lines, rows, strict=True) if len(row) != wide), None):
        raise DatasetError(
            f"{path}, line {other[0]}: has {other[1].count(chr(9)) + 1} fields, and line {number} has {wide}."
        )
    paths = [i for i in range(wide) if all(is_video(PurePath(row[i])) for row in rows)]
    others = [i for i in range(wide) if i not in paths]
    if wide == 2 and len(paths) != 1:  # of folders of pictures, say
        paths, others = [0], [1]
    if len(others) == 2:
        others = [i for i in others if not _counts([row[i] for row in rows])] or others
    if len(paths) != 1 or len(others) != 1:
        raise DatasetError(
            f"{path}, line {number}: must be a path and a label with a tab between them, or a running number, a label "
            f"and a path, and is {lines[0][1]!r}."
        )
    for (line, _), row in zip(lines, rows, strict=True):
        yield Row(f"{path}, line {line}", path=row[paths[0]], label=row[others[0]])


def _counts(column: list[str]) -> bool:
    """Whether a column numbers its lines."""
    return any(column == [str(i + first) for i in range(len(column))] for first in (0, 1))


def _from_csv(path: Path) -> Iterator[Row]:
    for where, fields in csv_rows(path, {"path"}, hint="a list of lines `path label` has the suffix .txt"):
        if not {"label", "text"} & set(fields):
            raise DatasetError(f"{path}: must have a column label or text, and has {', '.join(fields)}.")
        yield _checked_row(where, {key: value or None for key, value in fields.items()})


def csv_rows(path: Path, columns: set[str], *, hint: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """The lines of a CSV file as fields by column (in small letters), each with where it stands.

    Columns are parted by commas, semicolons or tabs, by which the first line has them.

    Raises:
        DatasetError: it can't be read, hasn't these columns, or a line has more or fewer fields than columns.
    """
    text = read_text(path)
    first = text.lstrip().split("\n", 1)[0]
    between = next((mark for mark in ",;\t" if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=between, skipinitialspace=True)
    header: list[str] | None = None
    try:
        for fields in reader:
            where, values = f"{path}, line {reader.line_num}", [field.strip() for field in fields]
            if not any(values):
                continue
            if header is None:
                header = [value.lower() for value in values]
                if not columns <= set(header):
                    wanted, hint = ", ".join(sorted(columns)), hint and f" ({hint})"
                    raise DatasetError(
                        f"{where}: must name the columns, with {wanted} in it, and is {first.strip()!r}{hint}."
                    )
            elif len(values) == len(header):
                yield where, dict(zip(header, values, strict=True))
            else:
                raise DatasetError(
                    f"{where}: has {len(values)} fields, but there are {len(header)} columns "
                    f'({", ".join(header)}): put fields with {between!r} in them between "quotes".'
                )
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num}: is not CSV ({error}).") from error


def _from_json_lines(path: Path) -> Iterator[Row]:
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{where}: is not JSON ({error}): there must be one object in each line.") from error
        if not isinstance(found, dict):
            raise DatasetError(f"{where}: must be an object with path and label or text, and is {line[:80]!r}.")
        yield _checked_row(where, found)


def _checked_row(where: str, fields: dict[str, Any]) -> Row:
    path = fields.get("path")
    if not isinstance(path, str) or not path:
        raise DatasetError(f"{where}: path={path!r} must be the path of a video.")
    label, text, start, end = checked_fields(where, fields)
    if label is None and text is None:
        raise DatasetError(f"{where}: {path!r} has neither a label nor a text.")
    if label is not None and text is not None:
        raise DatasetError(f"{where}: {path!r} has both a label and a text: keep one.")
    return Row(where, path, label, text, start, end)


def checked_fields(where: str, fields: dict[str, Any]) -> tuple[str | None, str | None, float | None, float | None]:
    """`label`, `text`, `start` and `end` of what was read, None where they are not there.

    Raises:
        DatasetError: one of them can't be, or `end` isn't after `start`.
    """
    label, text = fields.get("label"), fields.get("text")
    if isinstance(label, bool) or not isinstance(label, int | str | None):
        raise DatasetError(f"{where}: label={label!r} must be a number or a name.")
    if not isinstance(text, str | None) or (text is not None and not text.strip()):
        raise DatasetError(f"{where}: text={text!r} must be a caption.")
    if isinstance(label, str) and not label.strip():
        raise DatasetError(f"{where}: label={label!r} must be a number or a name.")
    start, end = _seconds(where, "start", fields.get("start")), _seconds(where, "end", fields.get("end"))
    if end is not None and end <= (start or 0.0):
        raise DatasetError(f"{where}: end={end} must be after start={start or 0.0}.")
    return None if label is None else str(label).strip(), text and text.strip(), start, end


def _seconds(where: str, name: str, value: object) -> float | None:
    if value is None:
        return None
    try:
        seconds = float("nan") if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # caught below
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DatasetError(f"{where}: {name}={value!r} must be a time in seconds, 0 or later.")
    return seconds
