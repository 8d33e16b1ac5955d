"""What lies on disk: text with whatever line ends, names of splits, videos below a folder, which of them are there."""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from openxclip.common.files import cannot_read
from openxclip.datasets.samples import Dataset, DatasetError, Missing, Sample, num_videos, place_in_archive
from openxclip.video import VIDEO_SUFFIXES, natural_key
from openxclip.video.looking import is_hidden, why_no_video

_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation", "dev"),
    "test": ("test", "testing"),
}


# ----------------------------------------------------------------------------------------------------------------- text


def read_text(path: Path) -> str:
    """A file of text in UTF-8, without its byte order mark.

    Raises:
        DatasetError: it can't be read.
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
    """Lines that end as on Unix, Windows or old Macs, and nowhere else: names may have any other separator in them."""
    return re.split(r"\r\n|\r|\n", text)


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a file that aren't blank, without the spaces round them, each with its number from 1."""
    lines = enumerate(split_lines(read_text(path)), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


# --------------------------------------------------------------------------------------------------------------- splits


def split_called(name: str) -> str | None:
    """The split ("train", "val" or "test") that a folder's or file's name means, or None."""
    return next((split for split, names in _SPLITS.items() if name.casefold() in names), None)


def chosen_split(split: str | None, splits: Collection[str], path: Path) -> str:
    """The one of `splits` that is asked for.

    Args:
        split: its name or another for it ("validation" for "val"); None is the only one that there is.
        splits: those that there are.
        path: of the dataset, for the error.

    Raises:
        DatasetError: there are none.
        ValueError: it isn't there, or None where there are several.
    """
    if not splits:
        raise DatasetError(f"{path}: has nothing in it.")
    there = ", ".join(splits)
    if split is None:
        if len(splits) == 1:
            return next(iter(splits))
        raise ValueError(f"{path}: has the splits {there}: choose one with split=.")
    found = split if split in splits else split_called(split)
    if found not in splits:
        raise ValueError(f"{path}: has no split {split!r}: there is {there}.")
    return str(found)


def refuse_split(split: str | None, path: Path, what: str) -> None:
    """Refuse a split of a dataset that has none."""
    if split is not None:
        raise ValueError(f"{path}: has no split {split!r}: it is {what}, without splits.")


# --------------------------------------------------------------------------------------------------------------- videos


@dataclass
class Scan:
    """How folders are searched.

    Attributes:
        hidden: take hidden files and folders, and those of the system, too.
        left_out: those that were left out.
    """

    hidden: bool = False
    left_out: dict[Path, None] = field(default_factory=dict)

    def problem(self, base: Path) -> tuple[str, ...]:
        """What to say of what was left out, with the first names, counted from `base`."""
        if not self.left_out:
            return ()
        names = [str(path.relative_to(base) if path.is_relative_to(base) else path) for path in self.left_out]
        what = "hidden file or folder" if len(names) == 1 else "hidden files and folders"
        return (f"left out {len(names)} {what} (--hidden or hidden=true takes them): {first_of(names)}",)


def first_of(names: Sequence[str]) -> str:
    """The first three names, and a sign that there are more."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def entries(folder: Path, scan: Scan | None = None) -> list[Path]:
    """What a user has put into a folder, in natural order; hidden files and those of the system are left out.

    Args:
        folder: to be listed.
        scan: takes hidden ones too, or keeps what is left out.

    Raises:
        DatasetError: it can't be read.
    """
    try:
        found = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        raise DatasetError(cannot_read(folder, error)) from error
    if scan is not None and scan.hidden:
        return found
    if scan is not None:
        scan.left_out.update((path, None) for path in found if is_hidden(path.name))
    return [path for path in found if not is_hidden(path.name)]


def subfolders(folder: Path, scan: Scan | None = None) -> list[Path]:
    """The folders in a folder, as `entries`."""
    return [path for path in entries(folder, scan) if is_folder(path)]


def is_folder(path: Path) -> bool:
    """Whether it is a folder, or a link to one.

    Raises:
        DatasetError: that can't be told, because its own folder may not be entered.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno == errno.ELOOP:
            return False
        raise DatasetError(cannot_read(path, error)) from error
    except ValueError:  # a name that no file can have
        return False


def called(path: Path) -> str:
    """The last part of a path, of "." too."""
    return Path(os.path.abspath(path)).name  # noqa: PTH100 (Path.resolve would follow links)


def composed(name: str) -> str:
    """A name with its accents composed (NFC), however the system that it comes from spells them."""
    return unicodedata.normalize("NFC", name)


def is_video(path: PurePath) -> bool:
    """Whether a name ends as videos' names do."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_video_file(path: Path) -> bool:
    """Whether a file is a video, as all commands tell it that search through folders."""
    return why_no_video(path) is None


def files_below(folder: Path, scan: Scan | None = None, _above: frozenset[tuple[int, int]] = frozenset()) -> list[Path]:
    """All files in a folder and below it, as `entries`; of links to folders that lead round in circles, one round."""
    try:
        status = folder.stat()
    except OSError as error:
        raise DatasetError(cannot_read(folder, error)) from error
    here = (status.st_dev, status.st_ino)
    if here in _above:
        return []
    found: list[Path] = []
    for path in entries(folder, scan):
        found += files_below(path, scan, _above | {here}) if is_folder(path) else [path]
    return found


def located(root: Path, name: str) -> Path:
    """The file that a list names, counted from `root`; where it isn't there, the path at which it should be.

    Names are tried as they are, then as other systems write them: accents composed or apart, backslashes for slashes.
    """
    wanted = root / name
    spellings = (name, composed(name), unicodedata.normalize("NFD", name))
    for spelling in (*spellings, *(each.replace("\\", "/") for each in spellings)):
        path = root / spelling
        if os.path.exists(path):  # noqa: PTH110 (Path's makes an error of names that can't be)
            return path
    return wanted


class VideoIndex:
    """The videos below a folder by their names, wherever below it they lie and whatever their suffix.

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
                self._by_stem.setdefault(_loosely(path.stem), []).append(path)

    def find(self, *names: str, any_case: bool = False) -> Path:
        """The first of `names` (paths from the root, in slashes) that is there; else where the first should be.

        Of several files with the same name, that in the folder that the path names; then that with the same suffix.

        Args:
            names: one or more.
            any_case: take a file whose name differs in capitals, too. (YouTube's names differ in nothing else.)
        """
        for name in names:
            wanted = PurePath(name)
            found = self._by_stem.get(_loosely(wanted.stem), [])
            exact = [path for path in found if composed(path.stem) == composed(wanted.stem)]
            candidates = exact or (found if any_case else [])
            if candidates:
                parent = _loosely(wanted.parent.name)
                return min(
                    candidates, key=lambda path: (_loosely(path.parent.name) != parent, path.suffix != wanted.suffix)
                )
        return self.root / names[0]


def gathered(
    name: str,
    root: Path,
    found: Iterable[tuple[str, Sample]],
    *,
    classes: tuple[str, ...] = (),
    problems: Iterable[str] = (),
) -> Dataset:
    """The dataset of those samples whose files are there; the others are among its problems, and classes without any.

    Args:
        name: of the dataset.
        root: see `Dataset`.
        found: samples, each with where it was named, in words ("" for files that were found by themselves).
        classes: see `Dataset`.
        problems: others.

    Raises:
        DatasetError: there is none.
    """
    samples, missing, are_listed = list[Sample](), list[Missing](), False
    for where, sample in found:
        why = None if place_in_archive(sample.source) else _why_not_read(sample.source)
        if why is None:
            samples.append(sample)
        else:
            missing.append(Missing(sample, f"{where}: {sample.source}: {why}" if where else f"{sample.source}: {why}"))
            are_listed |= bool(where)
    # a video that is missing is so for each of its captions
    wanting = tuple(dict.fromkeys((*(one.problem for one in missing), *problems)))
    if not samples:
        first = f": {wanting[0]}" if wanting else ""
        many = f" (and {len(wanting) - 1} more)" if len(wanting) > 1 else ""
        hint = " If they are somewhere else, give their folder with videos=." if are_listed else ""
        raise DatasetError(f"{name}: there are no videos{first}{many}.{hint}")
    labels = {sample.label for sample in samples}
    wanting += tuple(without_videos(text) for i, text in enumerate(classes) if i not in labels)
    named = num_videos((*samples, *(one.sample for one in missing)))
    return Dataset(name, tuple(samples), classes, wanting, str(root), tuple(missing), named)


def without_videos(name: str) -> str:
    """What is said of a class that has none."""
    return f"the class {name!r} has no videos"


def _why_not_read(source: str) -> str | None:
    try:
        status = Path(source).stat()
    except FileNotFoundError:
        return "is a link to nothing" if Path(source).is_symlink() else "there is no such file"
    except (OSError, ValueError) as error:
        return f"can't be read: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder"
    return "is empty" if status.st_size == 0 else None


def _loosely(name: str) -> str:
    return composed(name).casefold()
