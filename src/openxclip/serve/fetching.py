"""Fetch a video from an address, if the server allows it, but never from a private one.

A name is resolved here, all its addresses are checked, and the connection goes to the checked address: so a name that
resolves to another address a moment later (DNS rebinding) gains nothing. Every redirect is checked again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

from openxclip.common.sizes import format_bytes
from openxclip.errors import needs_package
from openxclip.serve.errors import ApiError

_MAX_REDIRECTS = 5
_CONNECT, _READ = 10.0, 20.0  # seconds
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public_address(address: IPAddress) -> bool:
    """Return whether an address belongs to the public network: also the IPv4 address that an IPv6 address holds."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if any(address in network for network in _NAT64):
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if int(address) >> 32 == 0:  # ::a.b.c.d, also ::1
            return False
        if any(part is not None and not is_public_address(part) for part in inner):
            return False
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def resolve(host: str, port: int) -> list[IPAddress]:
    """Return all addresses of a name.

    Raises:
        OSError: the name has none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in found))


async def checked_addresses(url: str) -> list[IPAddress]:
    """Return the addresses of a URL's host, all of them public.

    Raises:
        ApiError: the URL is none, or leads to a private address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ApiError("invalid_request", f"url {url!r:.200}: is no address ({error}).") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ApiError("invalid_request", f"url {url!r:.200}: must begin with https:// or http:// and a name.")
    if parts.username is not None or parts.password is not None:
        raise ApiError("invalid_request", "url: must have no user name or password.")
    if port not in (None, 80, 443):
        raise _not_allowed(f"port {port}: only 80 and 443 are fetched from.")
    try:
        host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
        addresses = await resolve(host, port or (443 if parts.scheme == "https" else 80))
    except (OSError, UnicodeError):
        raise ApiError(
            "url_not_fetched", f"url {url!r:.200}: the name {parts.hostname!r:.100} has no address."
        ) from None
    if not addresses or not all(map(is_public_address, addresses)):
        raise _not_allowed(f"{parts.hostname!r:.100} has a private address.")
    return addresses


def _not_allowed(reason: str) -> ApiError:
    return ApiError("urls_not_allowed", f"url: {reason}", "The server fetches from public addresses only.")


def _pinned_backend(addresses: Iterable[IPAddress]) -> Any:
    """Return a backend of httpcore that connects to these addresses instead of resolving the name once more."""
    import httpcore

    class Pinned(httpcore.AsyncNetworkBackend):
        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Any = None,
        ) -> httpcore.AsyncNetworkStream:
            failure: Exception = OSError("no address")  # `host` only names the certificate
            for address in addresses:
                stream = await self._connect(str(address), port, timeout)
                if isinstance(stream, httpcore.AsyncNetworkStream):
                    return stream
                failure = stream
            raise httpcore.ConnectError(str(failure))

        async def _connect(
            self, address: str, port: int, timeout: float | None
        ) -> httpcore.AsyncNetworkStream | Exception:
            try:
                return await httpcore.AnyIOBackend().connect_tcp(address, port, timeout)
            except (OSError, httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                return error

        async def connect_unix_socket(
            self, path: str, timeout: float | None = None, socket_options: Any = None
        ) -> httpcore.AsyncNetworkStream:
            raise httpcore.ConnectError("sockets of this machine aren't fetched from")

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    return Pinned()


@asynccontextmanager
async def fetched(url: str, *, limit: int) -> AsyncIterator[AsyncIterator[bytes]]:
    """Fetch an address, and give its content piece by piece.

    Args:
        url: the address.
        limit: largest number of bytes.

    Raises:
        ApiError: the address is not allowed, answers with an error or not in time, or has more than `limit` bytes.
    """
    with needs_package("fetching addresses", "httpx", "serve"):
        import httpcore
        import httpx
    for _ in range(_MAX_REDIRECTS + 1):
        addresses = await checked_addresses(url)
        timeouts = {"connect": _CONNECT, "read": _READ, "write": _READ, "pool": _CONNECT}
        pool = httpcore.AsyncConnectionPool(network_backend=_pinned_backend(addresses), retries=0)
        headers = {"User-Agent": "openxclip", "Accept": "video/*", "Accept-Encoding": "identity"}
        request = httpx.Request("GET", url, headers=headers)
        target = httpcore.URL(
            scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
        )
        async with pool:
            try:
                async with pool.stream(
                    "GET", target, headers=request.headers.raw, extensions={"timeout": timeouts}
                ) as answer:
                    found = httpx.Headers(answer.headers)
                    if answer.status in (301, 302, 303, 307, 308) and "location" in found:
                        url = urljoin(url, found["location"])
                        continue
                    _check(answer.status, found, limit)
                    yield _limited(answer.aiter_stream(), limit)
                    return
            except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
                reason = str(error) or type(error).__name__
                raise ApiError("url_not_fetched", f"url {url!r:.200}: {reason}.") from None
    raise ApiError("url_not_fetched", f"url: more than {_MAX_REDIRECTS} redirects.")


def _check(status: int, headers: Any, limit: int) -> None:
    if status != 200:
        raise ApiError("url_not_fetched", f"url: the other server answered with status {status}.")
    if headers.get("content-encoding", "identity") != "identity":
        raise ApiError("url_not_fetched", "url: the other server compressed its answer, which isn't taken.")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)


async def _limited(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        yield chunk


def _too_large(limit: int) -> ApiError:
    return ApiError("body_too_large", f"url: the file is larger than {format_bytes(limit)}.")
