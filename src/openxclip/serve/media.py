"""Files for a page: videos that browsers play, previews of those that they don't, and single frames."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from openxclip.common.files import stamp_of
from openxclip.serve.any_engine import AnyEngine
from openxclip.serve.engine.tasks import CheckTask, FrameTask, PreviewTask
from openxclip.serve.errors import ApiError

logger = logging.getLogger("openxclip.serve")

MAX_PREVIEWS = 10 << 30  # bytes
_MAX_FRAMES = 64 << 20  # bytes of JPEGs in memory
_MAX_REPORTS = 4096
_REMEMBER = 30.0  # seconds for which the failure of a preview is told again
#: Codecs that browsers decode, by what they are called in the file.
_CODECS = {"mp4": ("h264", "av1", "vp9"), "webm": ("vp8", "vp9", "av1")}
_RANGES = re.compile(r"\s*bytes\s*=\s*\d*\s*-\s*\d*\s*(,\s*\d*\s*-\s*\d*\s*)*", re.ASCII | re.IGNORECASE)
_PIXELS = ("yuv420p", "yuvj420p")


@dataclass
class _Making:
    task: asyncio.Task[Any]
    progress: float | None = None
    failed: float = 0.0


class Media:
    """Reports, previews and frames of videos, each made once.

    Args:
        engine: makes them.
        folder: the folder of the previews.
    """

    def __init__(self, engine: AnyEngine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self._reports: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._frames: OrderedDict[tuple[str, float, int], bytes] = OrderedDict()
        self._frame_bytes = 0
        self._making: dict[str, _Making] = {}
        self._previews_of: dict[Path, set[str]] = {}

    async def report(self, path: Path, name: str) -> dict[str, Any]:
        """Return the report of `openxclip.check` about a video, with `plays`: whether browsers play the file itself."""
        key = _key(path)
        if key not in self._reports:
            report = dict(await self._engine.run(CheckTask(path=path, name=name)))
            if report.get("error") and not path.exists():
                raise ApiError("video_not_found", f"{name}: was deleted while it was read.")
            self._reports[key] = {**report, "plays": container_of(report) is not None}
            if len(self._reports) > _MAX_REPORTS:
                self._reports.popitem(last=False)
        return {**self._reports[key], "path": name}

    async def playing(self, path: Path, name: str) -> tuple[Path, str] | float | None:
        """Return a file that browsers play and its media type; or, while it is being made, the share that is done.

        The preview goes on being made if the client leaves.

        Raises:
            ApiError: the video can't be read.
        """
        report = await self.report(path, name)
        container = container_of(report)
        if container is not None:
            return path, f"video/{container}"
        if report.get("error"):
            raise ApiError(
                "video_unreadable", f"{name}: {report['error']}", "`openxclip check` says more about a file."
            )
        key = _key(path)
        out = self._folder / f"{key}.mp4"
        if out.is_file():
            with suppress(OSError):
                out.touch()  # the cache drops those that were not used for longest
            return out, "video/mp4"
        making = self._making.get(key)
        if making is not None and making.task.done():
            error = making.task.exception() if not making.task.cancelled() else None
            if error is None or time.monotonic() - making.failed > _REMEMBER:
                self._making.pop(key, None)
                making = None
            else:
                raise error
        if making is None:
            making = self._begin(key, path, name, out)
            await asyncio.sleep(0)  # a full queue refuses at once
            await asyncio.wait({making.task}, timeout=0.3)  # a short preview is ready by then
            if making.task.done():
                self._making.pop(key, None)  # another request may have taken it away
                if out.is_file():
                    return out, "video/mp4"
                if making.task.cancelled():
                    raise ApiError("video_not_found", f"{name}: was deleted while its preview was made.")
                making.task.result()
        return making.progress

    def _begin(self, key: str, path: Path, name: str, out: Path) -> _Making:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._previews_of.setdefault(path, set()).add(key)

        def on_progress(done: float, whole: float) -> None:
            making.progress = min(1.0, done / whole) if whole > 0 else None

        async def make() -> Any:
            try:
                result = await self._engine.run(PreviewTask(path=path, name=name, out=out), on_progress=on_progress)
            except Exception:
                making.failed = time.monotonic()
                raise
            self.trim()
            return result

        making = _Making(asyncio.ensure_future(make()))
        making.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # so that none is "unseen"
        self._making[key] = making
        return making

    async def frame(self, path: Path, name: str, at: float, width: int) -> bytes:
        """Return the frame that is shown at a time, as JPEG."""
        key = (_key(path), round(at, 3), width)
        found = self._frames.get(key)
        if found is None:
            found = await self._engine.run(FrameTask(path=path, name=name, time=at, width=width))
            self._frames[key] = found
            self._frame_bytes += len(found)
            while self._frame_bytes > _MAX_FRAMES:
                self._frame_bytes -= len(self._frames.popitem(last=False)[1])
        self._frames.move_to_end(key)
        return found

    def forget(self, path: Path) -> None:
        """Delete the previews of a file that was deleted."""
        for key in self._previews_of.pop(path, ()):
            making = self._making.pop(key, None)
            if making is not None:
                making.task.cancel()
            with suppress(OSError):
                (self._folder / f"{key}.mp4").unlink(missing_ok=True)

    def trim(self, limit: int = MAX_PREVIEWS) -> None:
        """Delete the previews that were not used for longest, until the others fit."""
        with suppress(OSError):
            files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._folder.glob("*.mp4"))
            size = sum(file[1] for file in files)
            for _, own, path in files[:-1]:
                if size <= limit:
                    break
                path.unlink(missing_ok=True)
                size -= own

    async def stop(self) -> None:
        """End the previews that are being made."""
        tasks = [making.task for making in self._making.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def container_of(report: dict[str, Any]) -> str | None:
    """Return "mp4" or "webm" if browsers play a file with this report, else None."""
    names = str(report.get("container") or "").split(",")
    if report.get("error") or report.get("pixel_format") not in _PIXELS:
        return None
    suffix = Path(str(report.get("path"))).suffix.lower()
    kind = "mp4" if "mp4" in names else "webm" if "webm" in names and suffix == ".webm" else None
    return kind if kind is not None and report.get("codec") in _CODECS[kind] else None


def _key(path: Path) -> str:
    size, modified = stamp_of(path)
    return hashlib.sha256(f"{path}\0{size}\0{modified}".encode("utf-8", "surrogateescape")).hexdigest()[:40]


class MediaResponse(FileResponse):
    """A file with ranges. A header Range that isn't one is ignored (RFC 9110, § 14.2); HEAD has no body."""

    max_ranges = 16

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope.get("openxclip.head"):
            scope = {**scope, "method": "HEAD"}
        await super().__call__(scope, receive, send)

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        from starlette.responses import MalformedRangeHeader, RangeNotSatisfiable

        if _RANGES.fullmatch(http_range) is None:
            return []
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []
        except RangeNotSatisfiable:
            headers = {"Content-Range": f"bytes */{file_size}"}
            message = f"Range {http_range!r:.60}: the file has {file_size} bytes."
            raise ApiError("range_not_satisfiable", message, headers=headers) from None
