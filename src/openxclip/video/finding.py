"""From what a user names (files, folders, globs) to the videos it stands for."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from openxclip.video.images import IMAGE_SUFFIXES, natural_key
from openxclip.video.opening import VIDEO_SUFFIXES, VideoSource, with_home


def find_videos(paths: Iterable[VideoSource]) -> list[VideoSource]:
    """Every video that `paths` name, in their order.

    A folder stands for the video files in it and below it, by name with numbers in numeric order; a folder without any
    is itself one video (its images are the frames). Links to folders are not followed. A name that doesn't exist and
    has `*`, `?` or `[` in it is a glob, in which `**` reaches through folders; `~` is the home folder.

    Nothing is skipped in silence: a name that finds nothing, and a folder that can't be listed (below a folder or on
    the way of a glob), are in the list, so that reading them gives the reason. What isn't a name (bytes, an open file)
    is kept as it is.
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
            found += _matching(name) or [source]
        else:
            found.append(Path(name))
    return found


def check_found(videos: Sequence[VideoSource]) -> list[VideoSource]:
    """The same list, if it isn't made of nothing but folders without videos and images.

    Args:
        videos: what `find_videos` returned.

    Raises:
        ValueError: it is; the folders are named.
    """
    empty = [video for video in videos if isinstance(video, Path) and _is_empty(video)]
    if empty and len(empty) == len(videos):
        raise ValueError(f"no videos in {', '.join(map(str, dict.fromkeys(empty)))}.")
    return list(videos)


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return all(Path(entry.name).suffix.lower() not in IMAGE_SUFFIXES for entry in entries)
    except (OSError, ValueError):  # no folder, or one that can't be listed
        return False


def _matching(pattern: str) -> list[VideoSource]:
    """What a glob finds, and the folders on its way that can't be listed."""
    path = Path(pattern)
    base = next((parent for parent in path.parents if os.path.exists(parent)), None)  # noqa: PTH110
    if base is None:  # the current folder has been removed
        return []
    # Brackets in the part that exists are part of the name.
    parts = [glob.escape(str(base)), *path.relative_to(base).parts]
    names: list[str] = sorted(_glob(os.path.join(*parts)), key=natural_key)  # noqa: PTH118 (Path drops a last "/")
    matches = find_videos(names)
    # glob skips a folder that it can't list. A folder among the matches has been looked into already.
    unlisted: dict[VideoSource, None] = {}
    for i in (i for i in range(1, len(parts)) if glob.has_magic(parts[i])):
        for folder in _glob(os.path.join(*parts[:i], "")):  # noqa: PTH118
            if not _can_be_listed(folder):
                unlisted[Path(folder)] = None
    return list(dict.fromkeys([*matches, *unlisted])) if unlisted else matches


def _glob(pattern: str) -> list[str]:
    try:
        return glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path's skips hidden files differently)
    except (OSError, ValueError):  # a name that can't be: reading it says why
        return []


def _can_be_listed(folder: str) -> bool:
    try:
        os.scandir(folder).close()
    except OSError:
        return False
    return True


def _below(folder: Path) -> list[Path]:
    """The videos in a folder and below it, and the folders that can't be listed."""
    found: list[Path] = []
    left = [folder]
    while left:
        below = left.pop()
        try:
            with os.scandir(below) as entries:
                listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            found.append(below)
            continue
        for name, is_folder in listed:
            if is_folder:
                left.append(below / name)
            elif Path(name).suffix.lower() in VIDEO_SUFFIXES and _is_file_or_was(below / name):
                found.append(below / name)
    return sorted(found, key=lambda path: natural_key(str(path)))


def _is_file_or_was(path: Path) -> bool:
    """Whether it is a file; True also where reading it will fail, so that the reason is given then."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return True
