"""Search folders for files and videos."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from openxclip.common.files import cannot_read
from openxclip.datasets.text import DatasetError
from openxclip.video import VIDEO_SUFFIXES, natural_key
from openxclip.video.sniffing import is_hidden, why_not_a_video

# ---------------------------------------------------------------------------------------------------------------- names


def base_name(path: Path) -> str:
    """Return the last component of a path, made absolute, so that "." has one too."""
    return Path(os.path.abspath(path)).name  # noqa: PTH100 (Path.resolve would follow links)


def to_nfc(name: str) -> str:
    """Compose the accents of a name (NFC), because file systems differ in how they store them."""
    return unicodedata.normalize("NFC", name)


def shorten_list(names: Sequence[str]) -> str:
    """Return the first three names, with an ellipsis if there are more."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


# -------------------------------------------------------------------------------------------------------------- folders


@dataclass
class Scan:
    """Whether to search for hidden files, and which ones were left out.

    Attributes:
        hidden: whether to include hidden files and folders and those of the operating system.
        left_out: the hidden paths left out so far (a dict as an ordered set).
    """

    hidden: bool = False
    left_out: dict[Path, None] = field(default_factory=dict)

    def problems(self, base: Path) -> tuple[str, ...]:
        """Return one message with the number of paths left out and the first ones, relative to `base`; () if none."""
        if not self.left_out:
            return ()
        names = [str(path.relative_to(base) if path.is_relative_to(base) else path) for path in self.left_out]
        what = "hidden file or folder" if len(names) == 1 else "hidden files and folders"
        return (f"left out {len(names)} {what} (--hidden or hidden=true includes them): {shorten_list(names)}",)


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder or a link to one.

    Raises:
        DatasetError: there is no permission to enter the parent folder.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno == errno.ELOOP:
            return False
        raise DatasetError(cannot_read(path, error)) from error
    except ValueError:  # the name is impossible
        return False


def entries(folder: Path, scan: Scan | None = None) -> list[Path]:
    """List a folder in natural order, without hidden and system files.

    Args:
        folder: the folder to list.
        scan: says whether to include hidden files, and records the ones left out.

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
    """Return the folders to search for annotation files: the folder and its subfolders; [] for a file."""
    return [path, *subfolders(path)] if is_folder(path) else []


def candidate_files(path: Path) -> list[Path]:
    """Return the files that may be annotation files: those in `candidate_folders`, or the file itself."""
    if not is_folder(path):
        return [path]
    return [file for folder in candidate_folders(path) for file in entries(folder)]


def files_below(
    folder: Path, scan: Scan | None = None, _parents: frozenset[tuple[int, int]] = frozenset()
) -> list[Path]:
    """List all files in a folder and below it; see `entries`. Links back to a parent folder are skipped."""
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
    """Return whether a file name ends in a video suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_video_file(path: Path) -> bool:
    """Return whether a file is a video, by the rules that every command uses to search folders."""
    return why_not_a_video(path) is None


def locate(root: Path, name: str) -> Path:
    """Return the path of a file that a list names, or where it should be if it is missing.

    The name is tried as it is, then as other systems write it: with composed or decomposed accents, and with slashes
    in place of backslashes.

    Args:
        root: the folder that relative names start from.
        name: a relative or absolute path.
    """
    spellings = (name, to_nfc(name), unicodedata.normalize("NFD", name))
    for spelling in (*spellings, *(spelling.replace("\\", "/") for spelling in spellings)):
        path = root / spelling
        if os.path.exists(path):  # noqa: PTH110 (Path.exists raises for impossible names)
            return path
    return root / name


class VideoFinder:
    """Find videos below a folder by name, at any depth and with any video suffix.

    Args:
        root: the folder to search.
        scan: see `entries`.

    Raises:
        DatasetError: the folder doesn't exist or can't be read.
    """

    def __init__(self, root: Path, scan: Scan | None = None) -> None:
        if not is_folder(root):
            raise DatasetError(f"{root}: there is no such folder: give the folder of the videos with videos=.")
        self.root = root
        self._by_stem: dict[str, list[Path]] = {}
        for path in files_below(root, scan):
            if is_video_file(path):
                self._by_stem.setdefault(_caseless(path.stem), []).append(path)

    def find(self, *names: str, any_case: bool = False) -> Path:
        """Return the path of the first of `names` that exists, or where the first should be if none does.

        If several files have the same name, those in the same folder as in `names` are preferred, then those with the
        same suffix.

        Args:
            names: one or more paths relative to the root, with slashes.
            any_case: whether upper and lower case may differ. (Different YouTube ids may differ in case only.)
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
