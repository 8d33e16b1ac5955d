"""From what a user names (files, folders, globs) to the videos it stands for."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from openxclip.video.decoding import VIDEO_SUFFIXES
from openxclip.video.images import natural_key


def find_videos(paths: Iterable[str | Path]) -> list[Path]:
    """Every video that `paths` name, in their order.

    A folder stands for the video files in it and below it, by name with numbers in numeric order; a folder without any
    is itself one video (its images are the frames). A name that doesn't exist and has `*`, `?` or `[` in it is a glob,
    in which `**` reaches through folders. A name that finds nothing is kept, so that reading it says what is wrong.
    """
    found: list[Path] = []
    for name in map(Path, paths):
        if name.is_dir():
            found += _below(name) or [name]
        elif not name.exists() and glob.has_magic(str(name)):
            matches = sorted(glob.glob(str(name), recursive=True), key=natural_key)  # noqa: PTH207 (takes absolute ones)
            found += find_videos(matches) or [name]
        else:
            found.append(name)
    return found


def _below(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    return sorted(files, key=lambda path: natural_key(str(path)))
