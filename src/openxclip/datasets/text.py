"""Read text, CSV and JSON, with errors that show the file and line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from openxclip.common.files import cannot_read
from openxclip.errors import OpenXCLIPError


class DatasetError(OpenXCLIPError):
    """A dataset can't be used: files are missing, a list can't be read, or labels don't fit."""


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without its byte order mark.

    Raises:
        DatasetError: the file can't be read or isn't UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{path}, line {line}: is not text in UTF-8: save it as UTF-8.") from error
    except OSError as error:
        raise DatasetError(cannot_read(path, error)) from error
    except ValueError as error:
        raise DatasetError(f"{path!r}: {error}.") from error


def split_lines(text: str) -> list[str]:
    """Split text at the line ends of Unix, Windows and old Macs only: names may contain any other separator."""
    return re.split(r"\r\n|\r|\n", text)


def numbered_lines(path: Path) -> list[tuple[str, str]]:
    """Return the places and stripped texts of the lines that aren't blank: [("list.txt, line 1", "a.mp4 run"), …].

    Raises:
        DatasetError: see `read_text`.
    """
    lines = enumerate(split_lines(read_text(path)), 1)
    return [(f"{path}, line {number}", line.strip()) for number, line in lines if line.strip()]


def read_json(path: Path) -> Any:
    """Read a JSON file; raise the errors of `read_text` and `parse_json`."""
    return parse_json(read_text(path), str(path))


def parse_json(text: str, place: str, *, hint: str = "") -> Any:
    """Parse JSON.

    Args:
        text: the JSON.
        place: place of the text, for error messages.
        hint: added to the error message.

    Raises:
        DatasetError: the text isn't JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{place}: is not JSON ({error}){hint}.") from error


def read_csv(path: Path, required: Collection[str], *, hint: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a CSV file as pairs: the place, and the stripped values by lower-case column name.

    The columns are separated by commas, semicolons or tabs; the first line shows which. Blank lines are skipped.

    Args:
        path: the file.
        required: columns that it must have.
        hint: added to the error if a column is missing.

    Raises:
        DatasetError: the file can't be read, lacks a column, or a line has another number of fields than the first.
    """
    text = read_text(path)
    first_line = text.lstrip().split("\n", 1)[0]
    separator = next((mark for mark in ",;\t" if mark in first_line), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    header: list[str] | None = None
    try:
        for fields in reader:
            place, values = f"{path}, line {reader.line_num}", [value.strip() for value in fields]
            if not any(values):
                continue
            if header is None:
                header = [value.lower() for value in values]
                if not set(required) <= set(header):
                    raise DatasetError(
                        f"{place}: must name the columns, including {', '.join(sorted(required))}, but is "
                        f"{first_line.strip()!r}{hint}."
                    )
            elif len(values) != len(header):
                raise DatasetError(
                    f"{place}: has {len(values)} fields, but there are {len(header)} columns "
                    f'({", ".join(header)}): put fields that contain {separator!r} between "quotes".'
                )
            else:
                yield place, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num}: is not CSV ({error}).") from error
