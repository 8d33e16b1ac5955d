"""The arguments of `open_dataset`, as the functions that read one format take them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from openxclip.datasets.files import Scan, VideoFinder, is_folder
from openxclip.datasets.labels import Names
from openxclip.datasets.splits import split_of_name
from openxclip.datasets.text import DatasetError


@dataclass(frozen=True)
class Request:
    """The arguments of `open_dataset`, except the format.

    Attributes:
        path: the dataset.
        videos, split, fold, names: see `open_dataset`.
        scan: how to search folders, and which files were left out.
    """

    path: Path
    videos: Path | None = None
    split: str | None = None
    fold: int = 1
    names: Names | None = None
    scan: Scan = field(default_factory=Scan)

    def folder(self) -> Path:
        """Return the dataset's folder: the path itself, or the folder of the file."""
        return self.path if is_folder(self.path) else self.path.parent

    def video_finder(self, *usual: Path) -> VideoFinder:
        """Index the folder of the videos: `self.videos`, the first of `usual` that exists, or the dataset's folder.

        Raises:
            DatasetError: see `VideoFinder`.
        """
        default = next((folder for folder in usual if is_folder(folder)), None)
        return VideoFinder(self.videos or default or self.folder(), self.scan)

    def choose_split(self, splits: Collection[str]) -> str:
        """Return the requested split, or the only one if none is requested.

        Args:
            splits: the splits of the dataset.

        Raises:
            DatasetError: there are no splits.
            ValueError: the requested split doesn't exist, or there are several and none is requested.
        """
        if not splits:
            raise DatasetError(f"{self.path}: lists no videos.")
        known = ", ".join(splits)
        if self.split is None:
            if len(splits) == 1:
                return next(iter(splits))
            raise ValueError(f"{self.path}: has the splits {known}: choose one with split=.")
        name = self.split if self.split in splits else split_of_name(self.split)
        if name not in splits:
            raise ValueError(f"{self.path}: has no split {self.split!r}: its splits are {known}.")
        return str(name)

    def refuse_split(self, kind: str) -> None:
        """Raise a ValueError if a split is requested, for datasets without splits; `kind` says what the dataset is."""
        if self.split is not None:
            raise ValueError(f"{self.path}: has no split {self.split!r}: it is {kind}, without splits.")
