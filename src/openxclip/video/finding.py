"""From what a user names (files, folders, globs) to the videos it stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from openxclip.video.images import natural_key
from openxclip.video.opening import VIDEO_SUFFIXES, VideoSource


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
        name = os.path.expanduser(source)  # noqa: PTH111 (os.path makes no error of names that can't be)
        if os.path.isdir(name):  # noqa: PTH112
            found += _below(Path(name)) or [Path(name)]
        elif not os.path.exists(name) and glob.has_magic(name):  # noqa: PTH110
            found += find_videos(_matches(name)) or [source]
        else:
            found.append(Path(name))
    return found


def _matches(pattern: str) -> list[str]:
    """What a glob finds; brackets in the part of it that exists are part of the name."""
    path = Path(pattern)
    base = next(parent for parent in path.parents if os.path.exists(parent))  # noqa: PTH110
    rest = path.relative_to(base)
    return sorted(glob.glob(str(Path(glob.escape(str(base))) / rest), recursive=True), key=natural_key)  # noqa: PTH207


def _below(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and _is_file_or_was(path))
    return sorted(files, key=lambda path: natural_key(str(path)))


def _is_file_or_was(path: Path) -> bool:
    """A link that leads nowhere counts: reading it says so, where passing it over would say nothing."""
    return path.is_file() or (path.is_symlink() and not path.exists())
