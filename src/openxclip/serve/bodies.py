"""Bodies of requests: their limits of size and time, JSON, and forms with a file."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import pydantic_core
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openxclip.common.sizes import format_bytes
from openxclip.serve.errors import ApiError, validation_error
from openxclip.serve.settings import ServeSettings

Model = TypeVar("Model", bound=BaseModel)

#: Routes that take a video as body. On all others the limit is that of JSON.
VIDEO_ROUTES = frozenset({"/v1/classify", "/v1/timeline", "/v1/search", "/v1/uploads"})
FORM_OVERHEAD = 8 << 20  # bytes of a form beside its file
_SMALL = 1 << 20  # bytes of a JSON body that counts as nothing
_MOST_JSON = 4  # bodies of the largest size at once
_PATIENCE = 10.0  # seconds before the rate of a body is looked at
_CLOSE = {"Connection": "close"}  # the rest of the body isn't read


class BodyLimits:
    """Stops bodies that are too large or come too slowly, while they are read.

    Args:
        app: the application.
        settings: settings of the server.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self.app, self.settings = app, settings
        self._in_memory = 0  # bytes of large JSON bodies, which are in memory as a whole, unlike videos

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request with a body that is watched."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_video = self._is_video(scope["path"], headers)
        limit = self.settings.max_upload + FORM_OVERHEAD if is_video else self.settings.max_json
        text = headers.get("content-length", "0")
        if not (text.isascii() and text.isdecimal()):
            raise ApiError("bad_request", f"Content-Length {text!r:.40} is not a number of bytes.")
        length = limit if "transfer-encoding" in headers else int(text[:19])
        if length > limit:
            raise _too_large(limit)
        with self._reserved(0 if is_video or length <= _SMALL else length):
            await self.app(scope, _Body(receive, limit, self.settings).receive, send)

    def _is_video(self, path: str, headers: Headers) -> bool:
        return path in VIDEO_ROUTES and not media_type(headers).endswith(("/json", "+json"))

    @contextmanager
    def _reserved(self, size: int) -> Iterator[None]:
        """Reserve memory for a body."""
        if self._in_memory + size > _MOST_JSON * self.settings.max_json:
            raise ApiError("too_many_bodies", "too many large bodies are being read.", headers={"Retry-After": "2"})
        self._in_memory += size
        try:
            yield
        finally:
            self._in_memory -= size


class _Body:
    """The messages of a body, counted and timed."""

    def __init__(self, receive: Receive, limit: int, settings: ServeSettings) -> None:
        self._receive, self._limit, self._settings = receive, limit, settings
        self._size, self._waited, self._is_complete = 0, 0.0, False

    async def receive(self) -> Message:
        if self._is_complete:  # waits for the client to leave: no limit
            return await self._receive()
        start = time.monotonic()
        try:
            with anyio.fail_after(self._settings.body_timeout):
                message = await self._receive()
        except TimeoutError:
            wait = self._settings.body_timeout
            raise ApiError("body_too_slow", f"no byte of the body came for {wait:g} s.", headers=_CLOSE) from None
        if message["type"] != "http.request":
            return message
        self._waited += time.monotonic() - start
        self._size += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self._size > self._limit:
            raise _too_large(self._limit)
        if not self._is_complete and self._waited > _PATIENCE and self._size < self._waited * self._settings.min_rate:
            rate = self._settings.min_rate
            raise ApiError("body_too_slow", f"the body came with less than {rate} bytes a second.", headers=_CLOSE)
        return message


def _too_large(limit: int) -> ApiError:
    return ApiError(
        "body_too_large",
        f"the body is larger than {format_bytes(limit)}.",
        "Send a smaller video, or start the server with a larger --max-upload.",
        headers=_CLOSE,
    )


def media_type(headers: Headers) -> str:
    """Return the media type of a body in lower case without parameters; "" without the header."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, model: type[Model]) -> Model:
    """Return the JSON body of a request as a model of `schemas`.

    Raises:
        ApiError: the body isn't JSON, or doesn't fit.
    """
    kind = media_type(request.headers)
    if kind != "application/json":
        raise unsupported(kind, "application/json")
    return parse_json(await request.body(), model)


def parse_json(body: bytes, model: type[Model]) -> Model:
    """Return JSON as a model; `ApiError` if it isn't JSON, or doesn't fit."""
    if not body:
        raise ApiError("invalid_json", "the body is empty: JSON is needed.")
    try:
        value = pydantic_core.from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        hint = "NaN and Infinity aren't JSON." if b"NaN" in body or b"Infinity" in body else None
        raise ApiError("invalid_json", f"the body is not JSON: {error}.", hint) from None
    try:
        return model.model_validate(value, strict=True)
    except ValidationError as error:
        raise validation_error(error.errors(include_url=False)) from None


def parse_fields(fields: list[tuple[str, str]], model: type[Model], where: str) -> Model:
    """Return the fields of a query or form, which are texts, as a model.

    Args:
        fields: names and values, in order; only a field whose type is a list may repeat.
        model: the model of the options.
        where: "query" or "form", for messages.
    """
    values: dict[str, Any] = {}
    for name, value in fields:
        info = model.model_fields.get(name)
        if info is not None and str(info.annotation).startswith("list["):
            values.setdefault(name, []).append(value)
        elif name in values:
            raise ApiError("invalid_request", f"{where} {name}: is given twice.")
        else:
            values[name] = value
    try:
        return model.model_validate(values, strict=False)
    except ValidationError as error:
        raise validation_error(error.errors(include_url=False), where=where) from None


def unsupported(kind: str, *allowed: str) -> ApiError:
    """Return the error for a media type that a route doesn't take."""
    what = f"Content-Type {kind!r:.80} isn't taken here" if kind else "the header Content-Type is missing"
    return ApiError("unsupported_media_type", f"{what}.", f"Send {' or '.join(allowed)}.")


async def chunks_of(request: Request) -> AsyncIterator[bytes]:
    """Yield the body of a request in pieces of a mebibyte, so that each is worth a write in a thread."""
    pending = bytearray()
    async for chunk in request.stream():
        pending += chunk
        if len(pending) >= 1 << 20:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)
