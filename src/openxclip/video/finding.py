"""From what a user names (files, folders, globs) to the videos it stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from openxclip.video.images import natural_key
from openxclip.video.opening import VIDEO_SUFFIXES, VideoSource, with_home


def find_videos(paths: Iterable[VideoSource]) -> list[VideoSource]:
    """Every video that `paths` name, in their order.

    A folder stands for the video files in it and below it, by name with numbers in numeric order; a folder without any
    is itself one video (its images are the frames). A name that doesn't exist and has `*`, `?` or `[` in it is a glob,
    in which `**` reaches through folders; `~` is the home folder. A name that finds nothing is kept, so that reading it
    says what is wrong; so is what is no name (bytes, an open file).
    """
    found: list[VideoSource] = []
    for source in paths:
        if not isinstance(source, str | Path) or not str(source) or "://" in str(source):
            found.append(source)
            continue
        name = with_home(str(source))
        if os.path.isdir(name):  # noqa: PTH112 (os.path makes no error of names that can't be)
            found += _below(Path(name)) or [Path(name)]
        elif not os.path.exists(name) and glob.has_magic(name):  # noqa: PTH110
            found += find_videos(_matches(name)) or [source]
        else:
            found.append(Path(name))
    return found


def _matches(pattern: str) -> list[str]:
    """What a glob finds; brackets in the part of it that exists are part of the name."""
    path = Path(pattern)
    base = next((parent for parent in path.parents if os.path.exists(parent)), None)  # noqa: PTH110
    if base is None:  # the current folder has been removed
        return []
    rest = path.relative_to(base)
    try:
        matches = glob.glob(str(Path(glob.escape(str(base))) / rest), recursive=True)  # noqa: PTH207
    except (OSError, ValueError):  # a name that can't be: reading it says why
        return []
    return sorted(matches, key=natural_key)


def _below(folder: Path) -> list[Path]:
    """The videos in a folder and below it; a folder that can't be listed counts, so that reading it says why."""
    found: list[Path] = []
    left = [folder]
    while left:
        below = left.pop()
        try:
            with os.scandir(below) as entries:
                listed = list(entries)
        except OSError:
            found.append(below)
            continue
        for entry in listed:
            if entry.is_dir(follow_symlinks=False):
                left.append(below / entry.name)
            elif Path(entry.name).suffix.lower() in VIDEO_SUFFIXES and _is_file_or_was(below / entry.name):
                found.append(below / entry.name)
    return sorted(found, key=lambda path: natural_key(str(path)))


def _is_file_or_was(path: Path) -> bool:
    """A link that leads nowhere counts: reading it says so, where passing it over would say nothing."""
    try:
        return path.is_file() or (path.is_symlink() and not path.exists())
    except OSError:  # its name is too long together with its folder's: as above
        return True
