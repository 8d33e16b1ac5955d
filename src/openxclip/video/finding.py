"""From what a user names (files, folders, globs) to the videos it stands for."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from openxclip.video.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from openxclip.video.images import natural_key
from openxclip.video.looking import Reason, is_hidden, why_no_video
from openxclip.video.opening import VideoSource, with_home


class LeftOut(NamedTuple):
    """A file or folder that a search through folders left out, and why."""

    path: Path
    reason: Reason


OnLeftOut = Callable[[LeftOut], object]


def find_videos(
    paths: Iterable[VideoSource], *, hidden: bool = False, on_left_out: OnLeftOut = lambda left_out: None
) -> list[VideoSource]:
    """Every video that `paths` name, in their order.

    A folder stands for the video files in it and below it, by name with numbers in numeric order; a folder without any
    is itself one video (its images are the frames). What is a video there, `looking.why_no_video` tells: names first,
    and of images, arrays and what may be text the first bytes. Links to folders are not followed. A name that doesn't
    exist and has `*`, `?` or `[` in it is a glob, in which `**` reaches through folders; `~` is the home folder.

    Nothing is skipped in silence: a name that finds nothing, and a folder that can't be listed (below a folder or on
    the way of a glob), are in the list, so that reading them gives the reason. What isn't a name (bytes, an open file)
    is kept as it is. So is a name of a hidden file or folder.

    Args:
        paths: names and other sources.
        hidden: search through hidden folders too, and take hidden files (see `looking.is_hidden`).
        on_left_out: called with each file or hidden folder that a search through folders left out. Of hidden ones,
            with those that `hidden` would take or search through.
    """
    found: list[VideoSource] = []
    search = _Search(hidden, on_left_out)
    for source in paths:
        if not isinstance(source, str | Path) or not str(source) or "://" in str(source):
            found.append(source)
            continue
        name = with_home(str(source))
        if os.path.isdir(name):  # noqa: PTH112 (os.path makes no error of names that can't be)
            found += search.folder(Path(name))
        elif not os.path.exists(name) and glob.has_magic(name):  # noqa: PTH110
            found += search.matching(name) or [source]
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
            return not any(_is_frame(entry.name) for entry in entries)
    except (OSError, ValueError):  # no folder, or one that can't be listed
        return False


def _is_frame(name: str) -> bool:
    """Whether `FolderFootage` takes a file of this name for a frame."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not is_hidden(name)


class _Search:
    """Searches through folders, for one call of `find_videos`."""

    def __init__(self, hidden: bool, on_left_out: OnLeftOut) -> None:
        self._hidden, self._on_left_out = hidden, on_left_out

    def folder(self, folder: Path) -> list[Path]:
        """The videos in a folder and below it; a folder without any is one itself."""
        left_out: list[LeftOut] = []
        found = self._below(folder, left_out)
        for one in left_out:
            if found or one.path.parent != folder or not _is_frame(one.path.name):  # else it is a frame of the video
                self._on_left_out(one)
        return found or [folder]

    def matching(self, pattern: str) -> list[VideoSource]:
        """What a glob finds, and the folders on its way that can't be listed."""
        path = Path(pattern)
        base = next((parent for parent in path.parents if os.path.exists(parent)), None)  # noqa: PTH110
        if base is None:  # the current folder has been removed
            return []
        # Brackets in the part that exists are part of the name.
        parts = [glob.escape(str(base)), *path.relative_to(base).parts]
        names = sorted(_glob(os.path.join(*parts), hidden=self._hidden), key=natural_key)  # noqa: PTH118 (Path drops a last "/")
        matches: list[VideoSource] = []
        for name in names:
            if not self._hidden and _is_hidden_match(name, base, parts[1:]):
                self._on_left_out(LeftOut(Path(name), "hidden"))
            elif os.path.isdir(name):  # noqa: PTH112
                matches += self.folder(Path(name))
            else:
                matches.append(Path(name))
        # glob skips a folder that it can't list. A folder among the matches has been looked into already.
        unlisted: dict[VideoSource, None] = {}
        for i in (i for i in range(1, len(parts)) if glob.has_magic(parts[i])):
            for folder in _glob(os.path.join(*parts[:i], ""), hidden=self._hidden):  # noqa: PTH118
                if not _can_be_listed(folder):
                    unlisted[Path(folder)] = None
        return list(dict.fromkeys([*matches, *unlisted])) if unlisted else matches

    def _below(self, folder: Path, left_out: list[LeftOut]) -> list[Path]:
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
                path = below / name
                if is_hidden(name) and not self._hidden:
                    if is_folder or path.suffix.lower() in VIDEO_SUFFIXES:
                        left_out.append(LeftOut(path, "hidden"))
                elif is_folder:
                    left.append(path)
                elif _is_file_or_was(path):
                    reason = why_no_video(path)
                    if reason is None:
                        found.append(path)
                    else:
                        left_out.append(LeftOut(path, reason))
        return sorted(found, key=lambda path: natural_key(str(path)))


def _glob(pattern: str, *, hidden: bool) -> list[str]:
    how: dict[str, Any] = {"include_hidden": True} if hidden and sys.version_info >= (3, 11) else {}
    try:
        return glob.glob(pattern, recursive=True, **how)  # noqa: PTH207 (Path's skips hidden files differently)
    except (OSError, ValueError):  # a name that can't be: reading it says why
        return []


def _is_hidden_match(name: str, base: Path, parts: list[str]) -> bool:
    """Whether a file that a glob found is hidden, or in a hidden folder that the glob doesn't name."""
    try:
        below = Path(name).relative_to(base).parts
    except ValueError:
        return False
    return any(is_hidden(part) and not part.startswith(".") and part not in parts for part in below)


def _can_be_listed(folder: str) -> bool:
    try:
        os.scandir(folder).close()
    except OSError:
        return False
    return True


def _is_file_or_was(path: Path) -> bool:
    """Whether it is a file; True also where reading it will fail, so that the reason is given then."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return True
