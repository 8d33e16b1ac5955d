"""Read text files and search folders for videos."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from openxclip.common.files import cannot_read
from openxclip.errors import OpenXCLIPError
from openxclip.video import VIDEO_SUFFIXES, natural_key
from openxclip.video.sniffing import is_hidden, why_not_a_video


class DatasetError(OpenXCLIPError):
    """A dataset can't be used: files are missing, a list can't be read, or labels don't fit."""


# ----------------------------------------------------------------------------------------------------------------- text


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


def placed_lines(path: Path) -> list[tuple[str, str]]:
    """Return the lines of a file that aren't blank, stripped, each after its place: ("list.txt, line 1", "a.mp4 run").

    Raises:
        DatasetError: see `read_text`.
    """
    lines = enumerate(split_lines(read_text(path)), 1)
    return [(f"{path}, line {number}", line.strip()) for number, line in lines if line.strip()]


def parse_json(text: str, place: str, *, hint: str = "") -> Any:
    """Parse JSON.

    Args:
        text: the JSON.
        place: where it stands, for the error.
        hint: added to the error.

    Raises:
        DatasetError: the text isn't JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{place}: is not JSON ({error}){hint}.") from error


def read_csv(path: Path, required: Collection[str], *, hint: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a CSV file as stripped values by lower-case column name, each after its place.

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
                        f"{place}: must name the columns, including {', '.join(sorted(required))}, and is "
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


# ---------------------------------------------------------------------------------------------------------------- names


def base_name(path: Path) -> str:
    """Return the last part of a path, also of "."."""
    return Path(os.path.abspath(path)).name  # noqa: PTH100 (Path.resolve would follow links)


def to_nfc(name: str) -> str:
    """Compose the accents of a name (NFC): file systems spell them differently."""
    return unicodedata.normalize("NFC", name)


def shorten_list(names: Sequence[str]) -> str:
    """Return the first three names, with an ellipsis if there are more."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


# -------------------------------------------------------------------------------------------------------------- folders


@dataclass
class Scan:
    """One search through folders.

    Attributes:
        hidden: include hidden files and folders and those of the operating system.
        left_out: the hidden paths that the search left out (a dict as an ordered set).
    """

    hidden: bool = False
    left_out: dict[Path, None] = field(default_factory=dict)

    def problem(self, base: Path) -> tuple[str, ...]:
        """Return a message that counts the paths left out and shows the first ones, relative to `base`."""
        if not self.left_out:
            return ()
        names = [str(path.relative_to(base) if path.is_relative_to(base) else path) for path in self.left_out]
        what = "hidden file or folder" if len(names) == 1 else "hidden files and folders"
        return (f"left out {len(names)} {what} (--hidden or hidden=true includes them): {shorten_list(names)}",)


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder or a link to one.

    Raises:
        DatasetError: the folder that contains it may not be entered.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno == errno.ELOOP:
            return False
        raise DatasetError(cannot_read(path, error)) from error
    except ValueError:  # no file can have this name
        return False


def entries(folder: Path, scan: Scan | None = None) -> list[Path]:
    """List a folder in natural order, without hidden and system files.

    Args:
        folder: the folder.
        scan: records what is left out, or includes hidden files.

    Raises:
        DatasetError: the folder can't be read.
    """
    try:
        paths = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        raise DatasetError(cannot_read(folder, error)) from error
    if scan is not None and scan.hidden:
        return paths
    if scan is not None:
        scan.left_out.update((path, None) for path in paths if is_hidden(path.name))
    return [path for path in paths if not is_hidden(path.name)]


def subfolders(folder: Path, scan: Scan | None = None) -> list[Path]:
    """List the folders in a folder; see `entries`."""
    return [path for path in entries(folder, scan) if is_folder(path)]


def candidate_folders(path: Path) -> list[Path]:
    """Return the folder and its subfolders, in which annotation files are looked for; [] for a file."""
    return [path, *subfolders(path)] if is_folder(path) else []


def candidate_files(path: Path) -> list[Path]:
    """Return the file, or all files in the folder and its subfolders."""
    return [file for folder in candidate_folders(path) for file in entries(folder)] if is_folder(path) else [path]


def files_below(
    folder: Path, scan: Scan | None = None, _parents: frozenset[tuple[int, int]] = frozenset()
) -> list[Path]:
    """List all files in a folder and below it; see `entries`. Links that lead back to a parent folder are skipped."""
    try:
        status = folder.stat()
    except OSError as error:
        raise DatasetError(cannot_read(folder, error)) from error
    identity = (status.st_dev, status.st_ino)
    if identity in _parents:
        return []
    files: list[Path] = []
    for path in entries(folder, scan):
        files += files_below(path, scan, _parents | {identity}) if is_folder(path) else [path]
    return files


# --------------------------------------------------------------------------------------------------------------- videos


def has_video_suffix(path: PurePath) -> bool:
    """Tell whether a file name ends in a video suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_video_file(path: Path) -> bool:
    """Tell whether a file is a video, by the same rules as every command that searches folders."""
    return why_not_a_video(path) is None


def locate(root: Path, name: str) -> Path:
    """Return the path of a file that a list names, or where it should be if it is missing.

    The name is tried as it is, then as other systems write it: with composed or decomposed accents, and with slashes
    for backslashes.

    Args:
        root: the folder that relative names start from.
        name: a relative or absolute path.
    """
    spellings = (name, to_nfc(name), unicodedata.normalize("NFD", name))
    for spelling in (*spellings, *(each.replace("\\", "/") for each in spellings)):
        path = root / spelling
        if os.path.exists(path):  # noqa: PTH110 (Path.exists raises for names that no file can have)
            return path
    return root / name


class VideoFinder:
    """Find videos below a folder by name, at any depth and with any video suffix.

    Args:
        root: the folder.
        scan: how it is searched.

    Raises:
        DatasetError: there is no such folder, or it can't be read.
    """

    def __init__(self, root: Path, scan: Scan | None = None) -> None:
        if not is_folder(root):
            raise DatasetError(f"{root}: there is no such folder of videos: give the folder with videos=.")
        self.root = root
        self._by_stem: dict[str, list[Path]] = {}
        for path in files_below(root, scan):
            if is_video_file(path):
                self._by_stem.setdefault(_caseless(path.stem), []).append(path)

    def find(self, *names: str, any_case: bool = False) -> Path:
        """Return the path of the first of `names` that exists, or where the first should be if none does.

        Of several files with the same name, the one in the folder that `names` gives is preferred, then the one with
        the same suffix.

        Args:
            names: one or more paths relative to the root, with slashes.
            any_case: accept a file whose name differs in upper and lower case. (YouTube ids differ in nothing else.)
        """
        for name in names:
            wanted = PurePath(name)
            similar = self._by_stem.get(_caseless(wanted.stem), [])
            exact = [path for path in similar if to_nfc(path.stem) == to_nfc(wanted.stem)]
            candidates = exact or (similar if any_case else [])
            if candidates:
                parent = _caseless(wanted.parent.name)
                return min(
                    candidates, key=lambda path: (_caseless(path.parent.name) != parent, path.suffix != wanted.suffix)
                )
        return self.root / names[0]


def _caseless(name: str) -> str:
    return to_nfc(name).casefold()
