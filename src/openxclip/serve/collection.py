"""The collection: the videos below the roots, their ids, and which paths a client may name."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from openxclip.common.files import is_utf8
from openxclip.serve.errors import ApiError
from openxclip.serve.settings import ServeSettings

_FRESH = 5.0  # seconds for which a listing is used again


@dataclass(frozen=True)
class Item:
    """A video of the collection.

    Attributes:
        id: name of the root, "/" and the path below it.
        path: the file, with all links resolved.
        size: bytes.
        modified: seconds since 1970.
    """

    id: str
    path: Path
    size: int
    modified: float

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.id.rpartition("/")[2]

    @property
    def root(self) -> str:
        """Name of the root."""
        return self.id.partition("/")[0]


class Collection:
    """The videos below the roots.

    Every path is resolved, with its links, before it is compared with the roots. So no link leads out of them.

    Args:
        settings: settings of the server.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self.roots = dict(settings.named_roots)
        self.resolved = {name: Path(os.path.realpath(root)) for name, root in self.roots.items()}
        self._data = Path(os.path.realpath(settings.data))
        self._listing: list[Item] = []
        self._left_out = 0
        self._listed = -_FRESH

    def video(self, name: str) -> Item:
        """Return a video by its id.

        Raises:
            ApiError: there is none.
        """
        root, _, below = name.partition("/")
        folder = self.resolved.get(root)
        if folder is None or not below:
            raise _not_found(name)
        return self._item(self._below(folder, below, name), name)

    def file(self, name: str) -> Item:
        """Return a video by a path: absolute, relative to a root, or an id.

        Raises:
            ApiError: it is below no root, there is no such file, or several roots have it.
        """
        return self._item(self._find(name), name)

    def place(self, name: str) -> Path:
        """Return a file or folder by a path as in `file`, or by the name of a root.

        Raises:
            ApiError: as `file`.
        """
        if name in self.resolved:
            return self.resolved[name]
        return self._find(name)

    def id_of(self, path: str | Path) -> str | None:
        """Return the id of a file, or None if it is below no root or its name isn't text."""
        try:
            resolved = Path(os.path.realpath(path))
        except (OSError, ValueError):
            return None
        for name, root in sorted(self.resolved.items(), key=lambda item: -len(item[1].parts)):
            if resolved.is_relative_to(root) and resolved != root and self._may_show(resolved):
                found = f"{name}/{resolved.relative_to(root).as_posix()}"
                return found if is_utf8(found) else None
        return None

    @property
    def names(self) -> dict[str, str]:
        """What messages show instead of the roots' paths, by path."""
        return {str(root): name for name, root in self.resolved.items() if root != Path(root.anchor)}

    def shown(self, path: str) -> str:
        """Return what answers call a file of an index: the name of the root and the path below it, also of a link.

        A file whose path begins in another way, such as with a link to a root, keeps its path, by which the index
        knows it. Of a file below no root, only the name is shown.
        """
        for name, root in sorted(self.resolved.items(), key=lambda item: -len(item[1].parts)):
            start = f"{str(root).rstrip('/')}/"
            if path.startswith(start) and self.id_of(path) is not None:
                return f"{name}/{path[len(start) :]}"
        return path if self.id_of(path) is not None else Path(path).name

    def spelled(self, name: str) -> str:
        """Return the path of a file that `shown` names; another name as it is."""
        root, _, below = name.partition("/")
        return f"{str(self.resolved[root]).rstrip('/')}/{below}" if root in self.resolved and below else name

    def videos(self) -> tuple[list[Item], int]:
        """Return all videos by id, and the number of files that were left out because their names aren't text.

        The listing is at most some seconds old. Call it in a thread.
        """
        if time.monotonic() - self._listed > _FRESH:
            self._listing, self._left_out = self._list()
            self._listed = time.monotonic()
        return self._listing, self._left_out

    def refresh(self) -> None:
        """Make the next listing a new one."""
        self._listed = -_FRESH

    def _list(self) -> tuple[list[Item], int]:
        found, left_out = dict[str, Item](), 0
        for path in self._files():
            name = self.id_of(path)
            if name is None:
                left_out += not is_utf8(str(path))
                continue
            try:
                status = path.stat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                found[name] = Item(name, Path(os.path.realpath(path)), status.st_size, status.st_mtime)
        return [found[name] for name in sorted(found, key=str.casefold)], left_out

    def _files(self) -> Iterator[Path]:
        from openxclip.video.formats import VIDEO_SUFFIXES

        for root in self.resolved.values():
            for folder, folders, names in os.walk(root):  # links to folders aren't followed
                folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX", "@eaDir"))]
                for name in names:
                    if not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES:  # noqa: PTH122
                        yield Path(folder, name)

    def _find(self, name: str) -> Path:
        if "\0" in name:
            raise _not_found(name)
        if os.path.isabs(name):  # noqa: PTH117 (Path changes some names)
            return self._absolute(name)
        candidates = [(root, name) for root in self.resolved.values()]
        first, _, rest = name.partition("/")
        if first in self.resolved and rest:
            candidates.append((self.resolved[first], rest))
        answers = [self._try_below(root, below, name) for root, below in candidates]
        found = list(dict.fromkeys(answer for answer in answers if isinstance(answer, Path)))
        if len(found) > 1:
            raise ApiError("ambiguous_path", f"{name!r:.200}: several roots have it.", "Put the root's name before it.")
        if not found:
            refused = [answer for answer in answers if isinstance(answer, ApiError)]
            raise min(refused, key=lambda error: error.code != "path_not_allowed")
        return found[0]

    def _try_below(self, root: Path, below: str, name: str) -> Path | ApiError:
        try:
            return self._below(root, below, name)
        except ApiError as error:
            return error

    def _absolute(self, name: str) -> Path:
        given = os.path.normpath(name)
        for named, root in self.resolved.items():
            for spelled in (root, self.roots[named]):
                if given == str(spelled) or given.startswith(f"{str(spelled).rstrip('/')}/"):
                    return self._below(root, os.path.relpath(given, spelled), name)
        raise self._not_allowed(name)

    def _below(self, root: Path, below: str, name: str) -> Path:
        """Return an existing path below a root. What lies outside is never looked up by its own name."""
        parts = PurePosixPath(below).parts
        if "\0" in below or ".." in parts or PurePosixPath(below).is_absolute():
            raise _not_found(name) if "\0" in below else self._not_allowed(name)
        try:
            resolved = Path(os.path.realpath(root / below, strict=True))
        except (OSError, ValueError):
            raise _not_found(name) from None
        if not resolved.is_relative_to(root) or not self._may_show(resolved):
            raise self._not_allowed(name)
        return resolved

    def _may_show(self, path: Path) -> bool:
        """Return whether a path is outside of the data folder, or in its collection."""
        return not path.is_relative_to(self._data) or path.is_relative_to(self.resolved["collection"])

    def _item(self, path: Path, name: str) -> Item:
        try:
            status = path.stat()
        except OSError:
            raise _not_found(name) from None
        if not stat.S_ISREG(status.st_mode):
            raise ApiError("video_not_found", f"{name!r:.200}: is no file.", "Name one video.")
        return Item(self.id_of(path) or path.name, path, status.st_size, status.st_mtime)

    def _not_allowed(self, name: str) -> ApiError:
        others = [root for root in self.roots if root != "collection"]
        known = (
            f"The roots are {', '.join(others)}." if others else "The server has no roots: start it with --root DIR."
        )
        return ApiError("path_not_allowed", f"{name!r:.200}: is not below a root.", known)


def _not_found(name: str) -> ApiError:
    return ApiError("video_not_found", f"{name!r:.200}: there is no such file.", "GET /v1/videos lists the videos.")


def address(kind: str, name: str) -> str:
    """Return the address of a video or upload, to which "/stream" and others are added."""
    return f"/v1/{kind}/{quote(name, safe='/')}"
