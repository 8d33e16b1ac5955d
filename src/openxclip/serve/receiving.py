"""Store the videos that clients send: bodies, forms and data URLs become files of the data folder, piece by piece."""

from __future__ import annotations

import base64
import binascii
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.requests import Request

from openxclip.common.sizes import format_bytes
from openxclip.errors import needs_package
from openxclip.serve.bodies import chunks_of
from openxclip.serve.errors import ApiError
from openxclip.serve.schemas import MAX_TEXT

FREE_SPACE = 256 << 20  # bytes that uploads leave free on the disk
_DATA_URL = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)?((?:;[^;,]{1,100})*?)(;base64)?,", re.ASCII | re.IGNORECASE)
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}", re.ASCII)
_MAX_FIELDS = 5000
_MAX_NAME = 180  # bytes


@dataclass
class Received:
    """A video that was sent, as a file.

    Attributes:
        path: the file.
        name: what the client calls it.
        size: its bytes.
        fields: the other fields of the form, in order.
    """

    path: Path
    name: str
    size: int
    fields: list[tuple[str, str]] = field(default_factory=list)


class Writer:
    """Writes a file piece by piece under a name that ends with ".part", and renames it at the end.

    Args:
        path: the file at the end.
        limit: largest number of bytes.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path, self._limit, self.size = path, limit, 0
        self._partial = path.with_suffix(".part")
        self._file: Any = None

    async def write(self, data: bytes) -> None:
        """Add data.

        Raises:
            ApiError: the file becomes too large, or the disk is nearly full.
            OSError: it can't be written.
        """
        self.size += len(data)
        if self.size > self._limit:
            raise ApiError(
                "body_too_large",
                f"the video is larger than {format_bytes(self._limit)}.",
                "Send a smaller video, or start the server with a larger --max-upload.",
                headers={"Connection": "close"},
            )
        await anyio.to_thread.run_sync(self._write, data)

    def _write(self, data: bytes) -> None:
        if shutil.disk_usage(self.path.parent).free - len(data) < FREE_SPACE:
            raise ApiError(
                "disk_full", "the server's disk is nearly full.", "Try later.", headers={"Connection": "close"}
            )
        if self._file is None:
            self._file = self._partial.open("xb")
        self._file.write(data)

    async def finish(self) -> None:
        """Close the file and give it its name."""
        if self._file is None:
            self._partial.touch()
        else:
            await anyio.to_thread.run_sync(self._file.close)
        self._partial.replace(self.path)

    def discard(self) -> None:
        """Delete what was written."""
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        for path in (self._partial, self.path):
            with suppress(OSError):
                path.unlink(missing_ok=True)


async def receive_chunks(chunks: AsyncIterator[bytes], path: Path, name: str, limit: int) -> Received:
    """Write chunks to a file; an error, or a client that leaves, deletes it."""
    writer = Writer(path, limit)
    try:
        async for chunk in chunks:
            await writer.write(chunk)
        if writer.size == 0:
            raise ApiError("video_unreadable", f"{name}: is empty.", "Send the content of a video.")
        await writer.finish()
    except BaseException:
        writer.discard()
        raise
    return Received(path, name, writer.size)


async def receive_data_url(url: str, path: Path, limit: int) -> Received:
    """Write the content of a data URL to a file.

    Raises:
        ApiError: the URL isn't one of a video, or isn't valid base64.
    """
    match = _DATA_URL.match(url, 0, 500)
    if match is None:
        raise ApiError("invalid_request", f"url {url[:60]!r}…: must begin with data:video/mp4;base64, or similar.")
    kind = (match[1] or "").lower()
    if not (kind.startswith(("video/", "image/")) or kind == "application/octet-stream"):
        raise ApiError("unsupported_media_type", f"url: type {kind!r:.60} is no video.", "Use video/mp4 or its like.")
    if not match[3]:
        raise ApiError("invalid_request", "url: the data must be in base64 (data:video/mp4;base64,…).")
    content = url[match.end() :].encode("ascii", "replace")

    async def decoded() -> AsyncIterator[bytes]:
        step = 4 << 18  # a multiple of 4, so that each piece is base64 by itself
        for start in range(0, len(content), step):
            piece = content[start : start + step]
            try:
                yield base64.b64decode(piece, validate=True)
            except binascii.Error as error:
                raise ApiError("invalid_request", f"url: the data is not base64 ({error}).") from None

    return await receive_chunks(decoded(), path, "data URL", limit)


class _Form:
    """What the parser of a form has found since the last piece; it calls these methods by name."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bytes]] = []

    def callbacks(self) -> dict[str, Any]:
        def data(kind: str) -> Any:
            return lambda data, start, end: self.events.append((kind, data[start:end]))

        def plain(kind: str) -> Any:
            return lambda: self.events.append((kind, b""))

        kinds = ("header_field", "header_value", "part_data")
        others = ("part_begin", "header_end", "headers_finished", "part_end", "end")
        return {f"on_{kind}": data(kind) for kind in kinds} | {f"on_{kind}": plain(kind) for kind in others}


async def receive_form(request: Request, path: Path, limit: int) -> Received:
    """Write the part `file` of a form to a file, while it comes, and collect the other fields.

    Raises:
        ApiError: the body isn't a form, has no file or several, or a field is too long or not text.
    """
    with needs_package("forms", "python_multipart", "serve"):
        from python_multipart import MultipartParser
        from python_multipart.exceptions import FormParserError, MultipartParseError
        from python_multipart.multipart import parse_options_header
    _, options = parse_options_header(request.headers.get("content-type", "").encode("latin-1"))
    if not options.get(b"boundary"):
        raise ApiError("invalid_form", "the header Content-Type has no boundary.")
    form, reader = _Form(), _FormReader(path, limit)
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())  # type: ignore[arg-type]
        async for chunk in chunks_of(request):
            parser.write(chunk)
            events, form.events = form.events, []
            for kind, data in events:
                await reader.take(kind, data, parse_options_header)
        parser.finalize()
        return await reader.finish()
    except (MultipartParseError, FormParserError) as error:
        reader.discard()
        raise ApiError("invalid_form", f"the body is no valid form: {error}.") from None
    except BaseException:
        reader.discard()
        raise


class _FormReader:
    """Takes the events of a form one by one."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        self._writer: Writer | None = None
        self._name = ""
        self._fields: list[tuple[str, str]] = []
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._part = ""
        self._text = bytearray()
        self._is_complete = False

    async def take(self, kind: str, data: bytes, parse: Any) -> None:
        """Take one event of the parser."""
        if kind == "part_begin":
            self._headers, self._text = {}, bytearray()
        elif kind == "header_field":
            self._header += data
        elif kind == "header_value":
            self._value += data
        elif kind == "header_end":
            self._headers[self._header.lower()] = self._value
            self._header, self._value = b"", b""
        elif kind == "headers_finished":
            self._begin(parse)
        elif kind == "part_data":
            await self._add(data)
        elif kind == "part_end":
            self._end()
        elif kind == "end":
            self._is_complete = True

    def _begin(self, parse: Any) -> None:
        disposition, options = parse(self._headers.get(b"content-disposition", b""))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if disposition != b"form-data" or not self._part:
            raise ApiError("invalid_form", "a part of the form has no name.")
        if self._part != "file":
            return
        if self._writer is not None:
            raise ApiError("invalid_form", "the form has several parts named file: send one video.")
        self._name = clean_name(_unescaped(options.get(b"filename", b"")).decode("utf-8", "replace"))
        self._writer = Writer(self._path, self._limit)

    async def _add(self, data: bytes) -> None:
        if self._part == "file" and self._writer is not None:
            await self._writer.write(data)
            return
        self._text += data
        if len(self._text) > 4 * MAX_TEXT:
            raise ApiError("invalid_request", f"form {self._part[:40]}: has more than {MAX_TEXT} characters.")

    def _end(self) -> None:
        if self._part == "file":
            return
        try:
            self._fields.append((self._part, self._text.decode("utf-8")))
        except UnicodeDecodeError:
            raise ApiError("invalid_form", f"field {self._part[:40]!r} is not text in UTF-8.") from None
        if len(self._fields) > _MAX_FIELDS:
            raise ApiError("invalid_form", f"the form has more than {_MAX_FIELDS} fields.")

    async def finish(self) -> Received:
        """Return what was received."""
        if not self._is_complete:
            raise ApiError("invalid_form", "the form breaks off: its last boundary is missing.")
        if self._writer is None:
            raise ApiError("invalid_form", "the form has no part named file.")
        if self._writer.size == 0:
            raise ApiError("video_unreadable", f"{self._name}: is empty.", "Send the content of a video.")
        await self._writer.finish()
        return Received(self._path, self._name, self._writer.size, self._fields)

    def discard(self) -> None:
        """Delete what was written."""
        if self._writer is not None:
            self._writer.discard()


def _unescaped(name: bytes) -> bytes:
    """Return a file name of a form without the escapes that browsers write (WHATWG HTML, § 4.10.21.8): only three."""
    return name.replace(b"%22", b'"').replace(b"%0D", b"\r").replace(b"%0A", b"\n")


def clean_name(name: str, default: str = "video") -> str:
    """Return the last part of a client's name for a file, with printable characters only."""
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(letter for letter in last if letter.isprintable()).strip(" .")
    stem, suffix = (shown, "") if Path(shown).suffix == shown else (Path(shown).stem, Path(shown).suffix)
    longest = _MAX_NAME - len(suffix.encode())  # file systems limit the bytes of a name, not its letters
    if longest < _MAX_NAME // 2:
        stem, suffix, longest = shown, "", _MAX_NAME
    return f"{stem.encode()[:longest].decode('utf-8', 'ignore')}{suffix}" or default


def suffix_of(name: str) -> str:
    """Return the suffix of a name if it is a plain one, for the file in the data folder; "" otherwise."""
    suffix = Path(name).suffix
    return suffix.lower() if _SUFFIX.fullmatch(suffix) else ""
