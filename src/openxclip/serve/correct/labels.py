"""The corrections of a server: labels of windows, as a CSV that `openxclip train` and `openxclip eval` take."""

from __future__ import annotations

import csv
import io
import json
import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from openxclip.common.files import atomic_file, cannot_read, is_utf8
from openxclip.datasets import DatasetError
from openxclip.datasets.labels import name_key
from openxclip.datasets.lists import read_list
from openxclip.datasets.text import read_csv, read_text

COLUMNS = ("path", "label", "start", "end")
MAX_LABEL = 200  # characters
_MAX_UNDO = 1000
_DECIMALS = 3  # windows that differ by less than a millisecond are the same

Key = tuple[str, float, float]


@dataclass(frozen=True)
class WindowLabel:
    """A label of a window.

    Attributes:
        path: absolute path of the video, as in the index.
        label: what the window shows.
        start, end: the window, in seconds.
    """

    path: str
    label: str
    start: float
    end: float

    @property
    def key(self) -> Key:
        """What identifies the window."""
        return window_key(self.path, self.start, self.end)


def window_key(path: str, start: float, end: float) -> Key:
    """Return what identifies a window: its path, and its times to the millisecond."""
    return path, round(start, _DECIMALS), round(end, _DECIMALS)


class LabelStore:
    """The labels in a folder. Each change is written at once, and `undo` takes back the last ones.

    `labels.csv` has a line for each labelled window; a window has one label at most. `labels.undo.jsonl` has the last
    changes. Methods may be called from several threads, but only one process may write.

    Args:
        folder: folder of the files; it is created by the first change.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "labels.csv"
        self._undo_path = folder / "labels.undo.jsonl"
        self._lock = threading.RLock()

    def all(self) -> list[WindowLabel]:
        """Return the labels, in the order in which the windows were first labelled.

        The file is read each time, so that changes by an editor count.

        Raises:
            DatasetError: the file can't be read, has an invalid line, or labels a window twice.
        """
        with self._lock:
            return list(self._read().values())

    @classmethod
    @cache
    def of(cls, folder: Path) -> LabelStore:
        """Return the store of a folder, the same for each call, so that its threads wait for each other."""
        return cls(folder)

    def put(self, label: WindowLabel) -> tuple[WindowLabel | None, WindowLabel]:
        """Label a window, in place of its label if it has one, and return the label that it had and the one it has.

        Raises:
            ValueError: the window or the label is invalid; see `check_label`.
            DatasetError: see `all`.
            OSError: the file can't be written.
        """
        with self._lock:
            labels = self._read()
            label = checked(label, {other.label for other in labels.values()})
            before = labels.get(label.key)
            if before != label:
                self._change(labels, before, label)
            return before, label

    def remove(self, path: str, start: float, end: float) -> WindowLabel | None:
        """Remove the label of a window, and return it; None if the window has none. Raises as `put`."""
        with self._lock:
            labels = self._read()
            before = labels.get(window_key(path, start, end))
            if before is not None:
                self._change(labels, before, None)
            return before

    def undo(self) -> tuple[WindowLabel | None, WindowLabel | None] | None:
        """Take back the last change that was not taken back.

        Changes that an editor made to the same window since then are lost.

        Returns:
            The label of the window before the call and after it (None for no label); None if no change is left.

        Raises:
            DatasetError: see `all`.
            OSError: the files can't be written.
        """
        with self._lock:
            changes = self._read_changes()
            if not changes:
                return None
            last = changes.pop()
            labels = self._read()
            before, after = (None if last[name] is None else WindowLabel(**last[name]) for name in ("before", "after"))
            key = (before or after).key  # type: ignore[union-attr]  # a change has one of them
            now = labels.get(key)
            self._set(labels, key, before)
            self._write(labels)
            self._write_changes(changes)
            return now, before

    def _change(self, labels: dict[Key, WindowLabel], before: WindowLabel | None, after: WindowLabel | None) -> None:
        """Write one change: the undo list first, so that a change that was written can always be taken back."""
        changes = self._read_changes()
        changes.append({"before": before and asdict(before), "after": after and asdict(after)})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write_changes(changes[-_MAX_UNDO:])
        self._set(labels, (before or after).key, after)  # type: ignore[union-attr]
        self._write(labels)

    @staticmethod
    def _set(labels: dict[Key, WindowLabel], key: Key, label: WindowLabel | None) -> None:
        if label is None:
            labels.pop(key, None)
        else:
            labels[key] = label

    def _read(self) -> dict[Key, WindowLabel]:
        if not self.path.exists():
            return {}
        labels, spelling = dict[Key, WindowLabel](), dict[str, str]()
        rows = read_list(self.path) if self._has_rows() else []
        for row in rows:
            if row.label is None or row.start is None or row.end is None:
                raise DatasetError(f"{row.place}: a correction needs a path, a label, a start and an end: add them.")
            label = WindowLabel(row.path, row.label, row.start, row.end)
            if label.key in labels:
                raise DatasetError(f"{row.place}: this window has a label already, {labels[label.key].label!r}.")
            other = spelling.setdefault(name_key(label.label), label.label)
            if other != label.label:
                raise DatasetError(f"{row.place}: {label.label!r} and {other!r} have the same text: use one of them.")
            labels[label.key] = label
        return labels

    def _has_rows(self) -> bool:
        """Return whether there is a line after the first, which must name the columns and no others."""
        first = read_text(self.path).lstrip().partition("\n")[0].strip()
        names = {name.strip().strip('"').lower() for name in first.replace(";", ",").replace("\t", ",").split(",")}
        if names != set(COLUMNS):
            raise DatasetError(
                f"{self.path}: must have the columns {','.join(COLUMNS)} and no others, but begins with {first!r}: a "
                "change would lose other columns."
            )
        return next(read_csv(self.path, COLUMNS), None) is not None

    def _write(self, labels: Mapping[Key, WindowLabel]) -> None:
        with atomic_file(self.path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            file.write(as_csv(labels.values()))

    def _read_changes(self) -> list[dict[str, Any]]:
        try:
            text = self._undo_path.read_text(encoding="utf-8")
            return [json.loads(line) for line in text.splitlines()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DatasetError(cannot_read(self._undo_path, error)) from error
        except ValueError as error:
            raise DatasetError(f"{self._undo_path}: is damaged ({error}): remove it to go on without undo.") from error

    def _write_changes(self, changes: Iterable[Mapping[str, Any]]) -> None:
        with atomic_file(self._undo_path) as partial:
            partial.write_text("".join(json.dumps(change) + "\n" for change in changes), encoding="utf-8")


def as_csv(labels: Iterable[WindowLabel]) -> str:
    """Return labels as a CSV with the columns path, label, start and end."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for label in labels:
        writer.writerow((label.path, label.label, _seconds(label.start), _seconds(label.end)))
    return text.getvalue()


def _seconds(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def checked(label: WindowLabel, used: Iterable[str]) -> WindowLabel:
    """Return a label with its text in one spelling, after checking that a list can hold it.

    Args:
        label: the label.
        used: labels in use; another spelling of one of them ("Roll_over", "roll over") becomes that one, because
            training would refuse two classes with the same text.

    Raises:
        ValueError: a value is invalid.
    """
    text = check_label(label.label)
    if not label.path or not is_utf8(label.path) or "\0" in label.path:
        raise ValueError(f"path={label.path!r}: must be the path of a video, in valid UTF-8.")
    if label.path != label.path.strip() or any(mark in label.path for mark in "\r\n"):
        raise ValueError(f"path={label.path!r}: a list can't hold a path with line breaks or spaces at its ends.")
    if not (0 <= label.start < label.end < math.inf):
        raise ValueError(f"start={label.start}, end={label.end}: must be seconds, 0 or later, and end after start.")
    if window_key("", label.start, label.end)[1:] == window_key("", label.start, label.start)[1:]:
        raise ValueError(f"start={label.start}, end={label.end}: the window must be a millisecond or longer.")
    same = {name_key(name): name for name in used}
    return WindowLabel(label.path, same.get(name_key(text), text), float(label.start), float(label.end))


def check_label(label: str) -> str:
    """Return a label without spaces at its ends.

    Raises:
        ValueError: it is empty, a number (which training takes for the number of a class), too long, or has control
            characters.
    """
    text = label.strip()
    if not any(character.isalnum() for character in text):
        raise ValueError(f"label={label!r}: must have a letter.")
    if text.lstrip("-").isdigit():
        raise ValueError(f"label={label!r}: is a number, which means nothing to the model: use words.")
    if len(text) > MAX_LABEL:
        raise ValueError(f"label={label[:40]!r}…: has {len(text)} characters; at most {MAX_LABEL} are allowed.")
    if not text.isprintable() or not is_utf8(text):
        raise ValueError(f"label={label!r}: has characters that can't be printed: use words.")
    return text
