"""Find the videos that names of files, folders and globs stand for."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from openxclip.video.formats import VIDEO_SUFFIXES
from openxclip.video.images import is_frame_name, natural_key
from openxclip.video.opening import VideoSource, expand_home
from openxclip.video.sniffing import Reason, is_hidden, why_not_a_video


class LeftOut(NamedTuple):
    """A file or folder that a search left out, with the reason."""

    path: Path
    reason: Reason


OnLeftOut = Callable[[LeftOut], object]


def find_videos(
    paths: Iterable[VideoSource], *, hidden: bool = False, on_left_out: OnLeftOut = lambda left_out: None
) -> list[VideoSource]:
    """Return every video that `paths` name, in the order of `paths`.

    A folder stands for the video files in it and below it, sorted by name with numbers in numeric order; a folder
    without any is itself one video, whose frames are its images. `sniffing.why_not_a_video` decides which files are
    videos: by name, and by the first bytes of images, arrays and possible text. Links to folders are not followed. A
    name that doesn't exist and contains `*`, `?` or `[` is a glob, in which `**` matches any number of folders; `~` is
    the home folder.

    Nothing is skipped silently: names that find nothing, and folders that can't be listed during a search, are in the
    list, so that reading them reports the reason. Sources that aren't names (bytes, open files) are kept as they are,
    and so are names of hidden files and folders.

    Args:
        paths: names and other sources.
        hidden: whether to search hidden folders and include hidden files (see `sniffing.is_hidden`).
        on_left_out: called with each file and each link to a folder that a search left out, and with each hidden folder
            and hidden video that `hidden` would include.
    """
    videos: list[VideoSource] = []
    search = _Search(hidden, on_left_out)
    for source in paths:
        if not isinstance(source, str | Path) or not str(source) or "://" in str(source):
            videos.append(source)
            continue
        name = expand_home(str(source))
        if os.path.isdir(name):  # noqa: PTH112 (os.path raises nothing for impossible names)
            videos += search.folder(Path(name))
        elif not os.path.exists(name) and glob.has_magic(name):  # noqa: PTH110
            videos += search.matching(name) or [source]
        else:
            videos.append(Path(name))
    return videos


def require_videos(videos: Sequence[VideoSource]) -> list[VideoSource]:
    """Check that a list from `find_videos` has more than folders without videos and images, and return it.

    Raises:
        ValueError: it has only such folders; the message names them.
    """
    empty = [video for video in videos if isinstance(video, Path) and _is_empty(video)]
    if empty and len(empty) == len(videos):
        raise ValueError(f"no videos in {', '.join(map(str, dict.fromkeys(empty)))}.")
    return list(videos)


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return not any(is_frame_name(entry.name) for entry in entries)
    except (OSError, ValueError):  # it isn't a folder or can't be listed
        return False


class _Search:
    """Searches folders, for one call of `find_videos`."""

    def __init__(self, hidden: bool, on_left_out: OnLeftOut) -> None:
        self._hidden, self._on_left_out = hidden, on_left_out

    def folder(self, folder: Path) -> list[Path]:
        """Return the videos in a folder and below it; a folder without any is a video itself."""
        left_out: list[LeftOut] = []
        videos = self._below(folder, left_out)
        for item in left_out:
            is_frame = not videos and item.path.parent == folder and is_frame_name(item.path.name)
            if not is_frame:
                self._on_left_out(item)
        return videos or [folder]

    def matching(self, pattern: str) -> list[VideoSource]:
        """Return the videos that a glob matches, and the folders that it can't list."""
        path = Path(pattern)
        base = next((parent for parent in path.parents if os.path.exists(parent)), None)  # noqa: PTH110
        if base is None:  # the current folder has been removed
            return []
        # brackets in a part of the path that exists aren't a pattern
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
        # glob skips folders that it can't list; folders among the matches have been searched already
        searched = [os.path.join(*parts[:i], "") for i in range(1, len(parts)) if glob.has_magic(parts[i])]  # noqa: PTH118
        folders = [folder for name in searched for folder in _glob(name, hidden=self._hidden)]
        unlisted = [Path(folder) for folder in folders if not _can_be_listed(folder)]
        return list(dict.fromkeys([*matches, *unlisted])) if unlisted else matches

    def _below(self, folder: Path, left_out: list[LeftOut]) -> list[Path]:
        """Return the videos in a folder and below it, and the folders that can't be listed."""
        videos: list[Path] = []
        pending = [folder]
        while pending:
            current = pending.pop()
            try:
                with os.scandir(current) as entries:
                    listed = [
                        (entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in entries
                    ]
            except OSError:
                videos.append(current)
                continue
            for name, is_folder, is_link in listed:
                path = current / name
                if is_hidden(name) and not self._hidden:
                    if is_folder or path.suffix.lower() in VIDEO_SUFFIXES:
                        left_out.append(LeftOut(path, "hidden"))
                elif is_folder:
                    pending.append(path)
                elif is_link and os.path.isdir(path):  # noqa: PTH112 (Path raises errors)
                    left_out.append(LeftOut(path, "a link to a folder"))
                elif _is_file_or_unreadable(path):
                    reason = why_not_a_video(path)
                    if reason is None:
                        videos.append(path)
                    else:
                        left_out.append(LeftOut(path, reason))
        return sorted(videos, key=lambda path: natural_key(str(path)))


def _glob(pattern: str, *, hidden: bool) -> list[str]:
    options: dict[str, Any] = {"include_hidden": True} if hidden and sys.version_info >= (3, 11) else {}
    try:
        return glob.glob(pattern, recursive=True, **options)  # noqa: PTH207 (Path's skips hidden files differently)
    except (OSError, ValueError):  # an impossible name; reading it reports the reason
        return []


def _is_hidden_match(name: str, base: Path, parts: list[str]) -> bool:
    """Return whether a match of a glob is hidden, or in a hidden folder that the glob doesn't name."""
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


def _is_file_or_unreadable(path: Path) -> bool:
    """Return whether a path is a file or can't be read; reading it reports the reason."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return True
