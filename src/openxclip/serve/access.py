"""What happens around every request: errors in one form, the log, the counters, HEAD, and clients that leave."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openxclip.serve.errors import ApiError, as_api_error
from openxclip.serve.security import cookies_of
from openxclip.serve.visits import VISIT_COOKIE

logger = logging.getLogger("openxclip.serve.access")

_CLIENT_LEFT = 499  # nginx's number for the log: nothing is sent
_DRAINED_BYTES, _DRAINED_S = 256 << 10, 0.25  # of a body that isn't wanted


class ClientLeft(Exception):  # noqa: N818 (not an error)
    """The client closed the connection before the answer was complete."""


class Access:
    """Turns exceptions into answers, and logs and counts every request.

    The log has the method, the path without the query, the status and the time: no headers, so no token.

    Args:
        app: the application.
        on_request: called after each request with its method, the pattern of its route, the status and the seconds.
    """

    def __init__(self, app: ASGIApp, on_request: Callable[[str, str, int, float], object]) -> None:
        self.app, self.on_request = app, on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})  # there are none: 403 before it is accepted
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, method = time.monotonic(), 0, scope["method"]
        body = _UnreadBody(receive, Headers(scope=scope))
        is_head = method == "HEAD"
        if is_head:  # as GET, without the body
            scope["method"], scope["openxclip.head"] = "GET", True

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            await self.app(scope, body.receive, send_and_note)
        except (ClientLeft, ClientDisconnect):
            status = status or _CLIENT_LEFT
        except Exception as error:
            answer = as_api_error(error)
            if status:  # too late for another status: the connection is cut, so that the answer isn't taken as whole
                logger.warning("%s %s broke off: %s", method, _printable(scope["path"]), answer.code)
                raise
            await body.drain()
            await answer.response()(scope, receive, send_and_note)
        finally:
            self._note(scope, method, status or _CLIENT_LEFT, time.monotonic() - start)

    def _note(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "") or "other"
        known = method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS") else "other"
        self.on_request(known, route, status, seconds)
        logger.info("%s %s %d %.0f ms", known, _printable(scope["path"]), status, 1000 * seconds)


class _UnreadBody:
    """What a request is refused without reading.

    A connection that is closed while its client still sends is reset, and the client may never see the answer. So a
    small body, which is on its way already, is taken before an error is sent.
    """

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive = receive
        length = headers.get("content-length", "0")
        self._left = int(length) if length.isascii() and length.isdecimal() and len(length) < 10 else 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._left = self._left - len(message.get("body", b"")) if message["type"] == "http.request" else 0
        return message

    async def drain(self) -> None:
        """Take the rest of a small body, if it comes soon."""
        if 0 < self._left <= _DRAINED_BYTES:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._take(), _DRAINED_S)

    async def _take(self) -> None:
        while self._left > 0:
            await self.receive()


def _printable(path: str) -> str:
    return path[:200].encode("unicode_escape").decode()


class Visits:
    """Notes that a visit goes on, unless the request ends it.

    Args:
        app: the application.
        on_visit: called with the id in the cookie.
    """

    def __init__(self, app: ASGIApp, on_visit: Callable[[str], object]) -> None:
        self.app, self.on_visit = app, on_visit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request."""
        if scope["type"] == "http" and scope["path"] != "/v1/visits/end":
            visit = cookies_of(Headers(scope=scope)).get(VISIT_COOKIE)
            if visit:
                self.on_visit(visit)
        await self.app(scope, receive, send)


class Leaving:
    """Cancels the work for a client that leaves before its answer is complete.

    The body of the request is passed on piece by piece. Once it is complete, this waits for the connection to end in
    place of the application, so no route has to.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or raise ClientLeft."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        connection = _Connection(receive, None if has_body else await receive())
        work = asyncio.ensure_future(self.app(scope, connection.receive, send))
        left = asyncio.ensure_future(connection.left())
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()  # raises what the application raised
            else:
                raise ClientLeft
        finally:
            for task in (work, left):
                task.cancel()
            await asyncio.gather(work, left, return_exceptions=True)


class _Connection:
    """The messages of a client: the body for the application, then the end of the connection for both.

    Args:
        receive: the server's function.
        first: a message that was received already.
    """

    def __init__(self, receive: Receive, first: Message | None) -> None:
        self._receive, self._first = receive, first
        self._has_body = asyncio.Event()
        self._is_gone = asyncio.Event()
        if first is not None:
            self._look_at(first)

    async def receive(self) -> Message:
        if self._first is not None:
            message, self._first = self._first, None
            return message
        if self._has_body.is_set():
            await self._is_gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._look_at(message)
        return message

    async def left(self) -> None:
        """Wait until the client has left."""
        await self._has_body.wait()
        while not self._is_gone.is_set():
            self._look_at(await self._receive())

    def _look_at(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._is_gone.set()
            self._has_body.set()
        elif not message.get("more_body", False):
            self._has_body.set()


def error_handler(_: Any, error: Exception) -> Any:
    """Return the answer for an exception, as FastAPI's handlers do."""
    answer = error if isinstance(error, ApiError) else as_api_error(error)
    return answer.response()
