"""Visits of the page, and the uploads that are deleted when a visit ends."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from openxclip.common.counting import counted
from openxclip.serve.errors import ApiError

logger = logging.getLogger("openxclip.serve")

VISIT_COOKIE = "openxclip_visit"
GRACE = 60.0  # seconds between the page's goodbye and the end, in which a reload can come back
LONGEST_IDLE = 3600.0  # seconds without a request
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)


@dataclass
class Upload:
    """A file that a client sent.

    Attributes:
        id: identifies the upload; nobody can guess it.
        name: what the client calls the file.
        path: the file in the data folder.
        size: its bytes.
        visit: the visit with which it is deleted.
        duration: seconds, once known.
    """

    id: str
    name: str
    path: Path
    size: int
    visit: str
    duration: float | None = None


@dataclass
class _Visit:
    uploads: dict[str, Upload] = field(default_factory=dict)
    seen: float = 0.0
    said_goodbye: bool = False


class VisitStore:
    """The visits and their uploads. After a restart there are none, so files that are left are deleted at the start.

    Args:
        folder: folder of the uploads.
        clock: seconds, ascending.
        on_delete: called with an upload that is deleted.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_delete: Callable[[Upload], object] = lambda upload: None,
    ) -> None:
        self.folder, self._clock, self.on_delete = folder, clock, on_delete
        self._visits: dict[str, _Visit] = {}
        self._used: dict[str, int] = {}

    def prepare(self) -> int:
        """Make the folder, delete what a stopped server left in it, and return the number of files.

        Raises:
            OSError: the folder can't be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        count = 0
        for path in self.folder.iterdir():
            count += 1
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
        return count

    def new_path(self, suffix: str = "") -> Path:
        """Return the path of a new file."""
        return self.folder / f"{secrets.token_hex(16)}{suffix}"

    def visit(self, cookie: str | None) -> str:
        """Return the visit of a cookie, or a new one."""
        known = cookie if cookie is not None and _ID.fullmatch(cookie) else secrets.token_urlsafe(24)
        self._visits.setdefault(known, _Visit()).seen = self._clock()
        return known

    def touch(self, visit: str) -> None:
        """Note a request of a visit, which ends a goodbye. Unknown visits stay unknown."""
        found = self._visits.get(visit)
        if found is not None:
            found.seen, found.said_goodbye = self._clock(), False

    def say_goodbye(self, visit: str) -> None:
        """Note that the page was closed: the visit ends soon, unless another request comes."""
        found = self._visits.get(visit)
        if found is not None:
            found.seen, found.said_goodbye = self._clock(), True

    def expires_in(self, visit: str) -> float:
        """Return the seconds until a visit ends, if no other request comes."""
        found = self._visits.get(visit)
        if found is None:
            return 0.0
        return max(0.0, found.seen + (GRACE if found.said_goodbye else LONGEST_IDLE) - self._clock())

    def add(self, path: Path, name: str, size: int, visit: str) -> Upload:
        """Add a file to a visit."""
        upload = Upload(secrets.token_urlsafe(16), name, path, size, visit)
        self._visits.setdefault(visit, _Visit(seen=self._clock())).uploads[upload.id] = upload
        return upload

    def get(self, upload_id: str) -> Upload:
        """Return an upload, whose visit goes on by this. `ApiError` if there is none."""
        for name, visit in self._visits.items():
            if upload_id in visit.uploads:
                self.touch(name)
                return visit.uploads[upload_id]
        raise ApiError(
            "upload_not_found",
            f"upload {upload_id!r:.60}: there is none with this id.",
            "An upload is deleted when its visit ends: send it again.",
        )

    def hold(self, upload_id: str) -> Upload:
        """Return an upload and keep its file until `release`, even if its visit ends meanwhile."""
        upload = self.get(upload_id)
        self._used[upload.id] = self._used.get(upload.id, 0) + 1
        return upload

    def release(self, upload: Upload) -> None:
        """Let go of an upload; its file is deleted if its visit has ended."""
        self._used[upload.id] -= 1
        if self._used[upload.id] == 0:
            del self._used[upload.id]
            if all(upload.id not in visit.uploads for visit in self._visits.values()):
                self._delete(upload)

    def forget(self, upload: Upload) -> None:
        """Take an upload out of its visit without deleting its file."""
        self._visits.get(upload.visit, _Visit()).uploads.pop(upload.id, None)

    def remove(self, upload: Upload) -> None:
        """Delete an upload, once nobody reads it."""
        self.forget(upload)
        if upload.id not in self._used:
            self._delete(upload)

    def end_old(self) -> int:
        """Delete the uploads of visits that have ended, and return their number."""
        ended = [name for name in self._visits if self.expires_in(name) == 0]
        count = 0
        for name in ended:
            for upload in list(self._visits[name].uploads.values()):
                self.remove(upload)
                count += 1
            del self._visits[name]
        return count

    def end_all(self) -> None:
        """Delete all uploads, when the server stops."""
        for visit in self._visits.values():
            for upload in list(visit.uploads.values()):
                self.remove(upload)
        self._visits.clear()

    async def watch(self, pause: float = 5.0) -> None:
        """End old visits, every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(pause)
            count = self.end_old()
            if count:
                logger.info("deleted %s of ended visits", counted(count, "upload"))

    def _delete(self, upload: Upload) -> None:
        with suppress(OSError):
            upload.path.unlink(missing_ok=True)
        self.on_delete(upload)
