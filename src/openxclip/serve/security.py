"""Who may ask: the names of the server, the origins of pages, the token, and the headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
import time
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openxclip.serve.errors import ApiError
from openxclip.serve.settings import LOOPBACK_NAMES, ServeSettings, is_loopback

SESSION_COOKIE = "openxclip_session"
SESSION_SECONDS = 30 * 24 * 3600
#: Addresses that anybody may ask: the page and its files, the API's description, and what a monitor needs.
PUBLIC = ("/", "/healthz", "/readyz", "/docs", "/openapi.json", "/v1/session", "/favicon.ico", "/favicon.svg")
PUBLIC_FOLDERS = ("/assets/", "/docs/")

CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?", re.ASCII)


class Tokens:
    """The token of the server, and the cookies of those who have shown it.

    A cookie holds when it ends and a signature by the token, so the token itself is stored in no browser, and a
    cookie ends when the token changes.
    """

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()

    @property
    def required(self) -> bool:
        """Whether clients need the token."""
        return self._token is not None

    def is_token(self, text: str) -> bool:
        """Return whether a text is the token; takes the same time wherever they differ."""
        return self._token is not None and hmac.compare_digest(_digest(text.encode()), _digest(self._token))

    def new_session(self) -> str:
        """Return the value of a new cookie."""
        end = str(int(time.time()) + SESSION_SECONDS)
        return f"{end}.{self._sign(end)}"

    def is_session(self, value: str) -> bool:
        """Return whether a cookie was made by `new_session` and hasn't ended."""
        end, _, signature = value.partition(".")
        if self._token is None or not (end.isascii() and end.isdecimal() and len(end) <= 12):
            return False
        return hmac.compare_digest(_digest(signature.encode()), _digest(self._sign(end).encode())) and (
            int(end) > time.time()
        )

    def is_known(self, headers: Headers) -> bool:
        """Return whether a request shows the token, in its header or by the cookie."""
        if self._token is None:
            return True
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(value.strip())
        return self.is_session(cookies_of(headers).get(SESSION_COOKIE, ""))

    def _sign(self, end: str) -> str:
        return hmac.new(self._token or b"", f"openxclip session {end}".encode(), hashlib.sha256).hexdigest()


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()  # of equal length, so that no length can be measured either


def cookies_of(headers: Headers) -> dict[str, str]:
    """Return the cookies of a request; none if they can't be parsed."""
    try:
        parsed = SimpleCookie("; ".join(headers.getlist("cookie")))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in parsed.items()}


class SecurityHeaders:
    """Adds the headers of security to every answer.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/v1/") or scope["path"] == "/metrics":
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Guard:
    """Refuses requests by their headers, before any route sees them.

    Args:
        app: the application.
        settings: settings of the server.
        tokens: its token.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, tokens: Tokens) -> None:
        self.app, self.tokens = app, tokens
        self._takes_addresses = not is_loopback(settings.host)
        names = {*LOOPBACK_NAMES, settings.host, *settings.allow_hosts}
        if self._takes_addresses:
            names.add(socket.gethostname())
        self._names = {name.strip("[]").lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse or pass on a request."""
        if scope["type"] == "http":
            self.check(scope, Headers(scope=scope))
        await self.app(scope, receive, send)

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raise ApiError for a request that is refused."""
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            raise ApiError("bad_request", f"the request has {len(hosts)} Host headers: it must have one.")
        if "transfer-encoding" in headers and "content-length" in headers:
            raise ApiError("bad_request", "the request has both Content-Length and Transfer-Encoding.")
        host = hosts[0].lower()
        if not self._is_own(host):
            raise ApiError(
                "host_not_allowed",
                f"this server doesn't answer to the name {host!r:.100}.",
                "Start it with --allow-host NAME, if the name is right.",
            )
        origins = headers.getlist("origin")
        if any(not _is_of_host(origin, host) for origin in origins) or _is_cross_site(scope, headers):
            origin = origins[0] if origins else "another site"
            raise ApiError("origin_not_allowed", f"requests from pages of {origin!r:.100} are refused.")
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise ApiError(
                "unsupported_media_type",
                f"Content-Encoding {encoding!r:.40} isn't taken.",
                "Send the body as it is: videos are compressed already.",
            )
        if self.tokens.required and not is_public(scope["path"]) and not self.tokens.is_known(headers):
            given = "authorization" in headers or SESSION_COOKIE in cookies_of(headers)
            raise ApiError(
                "unauthorized",
                "the token is wrong." if given else "this server needs a token.",
                "Send the header Authorization: Bearer TOKEN.",
                headers={"WWW-Authenticate": 'Bearer realm="openxclip"'},
            )

    def _is_own(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].strip("[]").rstrip(".")
        if name in self._names or any(own.startswith("*.") and name.endswith(own[1:]) for own in self._names):
            return True
        return self._takes_addresses and _is_address(name)  # no other site can have a name that is an address


def is_public(path: str) -> bool:
    """Return whether an address needs no token."""
    return path in PUBLIC or path.startswith(PUBLIC_FOLDERS)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_of_host(origin: str, host: str) -> bool:
    """Return whether an origin is that of a page of this server, whose Host header has been checked."""
    scheme, separator, place = origin.lower().partition("://")
    if not separator or scheme not in ("http", "https"):
        return False  # also "null", which pages in sandboxes and files send
    default = ":80" if scheme == "http" else ":443"
    return place.removesuffix(default) == host.removesuffix(default)


def _is_cross_site(scope: Scope, headers: Headers) -> bool:
    """Return whether a browser says that another site's page makes this request, other than by a link to a page."""
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    is_link = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in ("GET", "HEAD")
    return not (is_link and scope["path"] in ("/", "/docs"))
