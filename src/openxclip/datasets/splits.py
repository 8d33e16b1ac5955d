"""Recognise the splits of a dataset by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from openxclip.datasets.text import DatasetError

_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation", "dev"),
    "test": ("test", "testing"),
}
_T = TypeVar("_T")


def split_of_name(name: str) -> str | None:
    """Return the split ("train", "val" or "test") that a file or folder name stands for; None if there is none."""
    return next((split for split, names in _NAMES.items() if name.casefold() in names), None)


def sort_splits(splits: Iterable[str]) -> tuple[str, ...]:
    """Sort split names: "train", "val" and "test" first, then the others by name."""
    unique = set(splits)
    return (*(split for split in _NAMES if split in unique), *sorted(unique - _NAMES.keys()))


def in_split_order(by_split: dict[str, _T]) -> dict[str, _T]:
    """Return a dict with the keys in the order of `sort_splits`."""
    return {split: by_split[split] for split in sort_splits(by_split)}


def splits_by_name(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Return the paths whose names stand for a split, by split.

    Args:
        folder: the dataset's folder, for error messages.
        paths: files or folders; the suffix of a file is ignored.

    Raises:
        DatasetError: two paths stand for the same split.
    """
    splits: dict[str, Path] = {}
    for path in paths:
        split = split_of_name(path.stem if path.is_file() else path.name)
        if split in splits:
            raise DatasetError(f"{folder}: both {splits[split].name} and {path.name} are the split {split}: keep one.")
        if split is not None:
            splits[split] = path
    return in_split_order(splits)
