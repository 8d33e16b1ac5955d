"""Open a source of videos: a folder, a prefix in an object store, or a manifest."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from openxclip.common.counting import counted
from openxclip.common.files import is_utf8, user_path
from openxclip.search.bulk.items import ListedSource, Source, SourceItem, in_parts
from openxclip.search.bulk.manifests import ManifestSource, is_manifest
from openxclip.search.bulk.objects import Objects
from openxclip.search.paths import absolute_path
from openxclip.video.formats import VIDEO_SUFFIXES
from openxclip.video.sniffing import is_hidden, why_not_a_video

__all__ = ["ListedSource", "Source", "SourceItem", "is_manifest", "open_source"]

_STORES = ("s3", "gs", "az")
_HIDDEN, _LINKED, _NOT_UTF8 = "hidden", "a link to a folder", "a name that is not valid UTF-8"


def open_source(source: str | Path, *, hidden: bool = False) -> Source:
    """Open a source of videos, without listing it.

    Args:
        source: a folder or a video file; `s3://bucket/prefix` (`gs://`, `az://`), which stands for the videos below it
            by their names; or a manifest, .parquet, .csv or .jsonl, of paths and of columns to filter by, on this
            machine or in an object store.
        hidden: include hidden files and folders.

    Raises:
        ValueError: there is no such file or folder, or it is none of these.
        MissingPackageError: reading the source needs a package that isn't installed.
        StoreError: the object store can't be read.
    """
    name = str(source)
    scheme, separator, _ = name.partition("://")
    if separator and scheme not in _STORES:
        raise ValueError(f"{name}: give a folder, a manifest, or an address that begins with s3://, gs:// or az://.")
    if not separator:
        name = str(user_path(name))
        if not os.path.exists(name):  # noqa: PTH110 (Path.exists raises an error for impossible names)
            raise ValueError(f"{name}: there is no such file or folder: check the path.")
    if is_manifest(name):
        return ManifestSource(name)
    if separator:
        return StoreSource(name, hidden=hidden)
    return FolderSource(name, hidden=hidden)


class _Left:
    """Counts what a listing leaves out."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        self._counts[reason] += 1

    def notes(self) -> list[str]:
        hidden, unnamed = self._counts.pop(_HIDDEN, 0), self._counts.pop(_NOT_UTF8, 0)
        linked = self._counts.pop(_LINKED, 0)
        others = sum(self._counts.values())
        notes = []
        if others:
            noun = "1 file that is not a video" if others == 1 else f"{others} files that are not videos"
            notes.append(f"left out {noun}.")
        if hidden:
            noun = counted(hidden, "hidden file or folder", "hidden files and folders")
            notes.append(f"left out {noun}: --hidden includes them.")
        if linked:
            notes.append(f"left out {counted(linked, 'link')} to a folder: name that folder itself.")
        if unnamed:
            videos = "1 video, whose name is" if unnamed == 1 else f"{unnamed} videos, whose names are"
            notes.append(
                f"left out {videos} not valid UTF-8 and can't be stored: rename {'it' if unnamed == 1 else 'them'}."
            )
        return notes


class _FilteredSource(Source):
    """Videos among other files: counts them, and notes what was left out.

    Args:
        place: the folder or address.
        hidden: include hidden files and folders.
    """

    def __init__(self, place: str, hidden: bool) -> None:
        super().__init__()
        self._place, self._hidden = place, hidden
        self._left = _Left()

    def items(self) -> Iterator[list[SourceItem]]:
        """Yield the videos with what is known of their versions, in the order of the folder or the store."""
        self.notes, self._left = [], _Left()
        count = 0
        for part in in_parts(self._found()):
            count += len(part)
            yield part
        self.count, self.notes = count, self._left.notes()
        if not count:
            raise ValueError(self._nothing())

    @abstractmethod
    def _found(self) -> Iterator[SourceItem]:
        """Yield the videos, and count what is left out."""

    @abstractmethod
    def _nothing(self) -> str:
        """Return the sentence for a place without videos."""

    def describe(self) -> str:
        """Return the folder or address."""
        return self._place


class FolderSource(_FilteredSource):
    """The video files in a folder and below it, or one video file.

    As in `openxclip.video.find_videos`, links to folders aren't followed, and a folder that can't be listed is in the
    list, so that reading it reports the reason. Unlike there, a folder of images isn't a video, and the order is the
    file system's, so that no folder needs to be held in memory.

    Args:
        path: the folder or file.
        hidden: include hidden files and folders.
    """

    def __init__(self, path: str, *, hidden: bool = False) -> None:
        super().__init__(absolute_path(path), hidden)

    def _nothing(self) -> str:
        return f"no videos in {self._place}."

    def _found(self) -> Iterator[SourceItem]:
        if os.path.isdir(self._place):  # noqa: PTH112
            yield from self._below(self._place)
        else:
            yield self._item(self._place)

    def _below(self, folder: str) -> Iterator[SourceItem]:
        below: list[str] = []
        try:
            entries = os.scandir(folder)
        except OSError:
            yield SourceItem(folder)
            return
        with entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_hidden(entry.name) and not self._hidden:
                    if is_folder or Path(entry.name).suffix.lower() in VIDEO_SUFFIXES:
                        self._left.add(_HIDDEN)
                elif is_folder:
                    below.append(entry.path)
                elif entry.is_symlink() and _is_folder(entry):
                    self._left.add(_LINKED)
                elif _is_file_or_unreadable(entry):
                    reason = why_not_a_video(Path(entry.path))
                    if reason is None and not is_utf8(entry.path):
                        reason = _NOT_UTF8  # type: ignore[assignment]
                    if reason is None:
                        yield self._item(entry.path, entry)
                    else:
                        self._left.add(reason)
        for path in below:
            yield from self._below(path)

    def _item(self, path: str, entry: os.DirEntry[str] | None = None) -> SourceItem:
        with suppress(OSError, ValueError):
            status = os.stat(path) if entry is None else entry.stat()  # noqa: PTH116
            return SourceItem(path, status.st_size, status.st_mtime_ns)
        return SourceItem(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file_or_unreadable(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return True


class StoreSource(_FilteredSource):
    """The videos below a prefix of an object store, by their names.

    Args:
        uri: `s3://bucket/prefix`, `gs://…` or `az://…`, or the address of one video.
        hidden: include objects with a hidden name, or below a hidden one.
    """

    def __init__(self, uri: str, *, hidden: bool = False) -> None:
        super().__init__(uri.rstrip("/"), hidden)

    def _nothing(self) -> str:
        return f"no videos below {self._place}: the names of videos end with .mp4, .mkv, .webm and the like."

    def _found(self) -> Iterator[SourceItem]:
        is_empty = True
        for found in Objects.open(self._place).list():
            is_empty = False
            name = PurePosixPath(found.name)
            if found.name.endswith("/"):  # some programs mark a folder by such an empty object
                continue
            if name.suffix.lower() not in VIDEO_SUFFIXES:
                self._left.add("not a video by its name")
            elif not self._hidden and any(is_hidden(part) for part in name.parts):
                self._left.add(_HIDDEN)
            else:
                yield SourceItem(f"{self._place}/{found.name}", found.size, found.modified_ns, found.etag or "")
        if is_empty and PurePosixPath(self._place).suffix.lower() in VIDEO_SUFFIXES:  # one object, not a prefix
            yield SourceItem(self._place)
