"""What both clients have in common: the address, the token, and how one request is built."""

from __future__ import annotations

import ipaddress
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openxclip.client.errors import error_of
from openxclip.client.sending import Call, Retries, httpx_module
from openxclip.client.sources import as_part

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
SILENCE = 60.0  # seconds without a byte after which a stream of events counts as lost; servers send comments


class BaseClient:
    """Settings of a client; see `Client`."""

    def __init__(self, url: str, *, token: str | None, timeout: float | None, retries: int, max_wait: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"url={url!r}: must begin with http:// or https:// and name a host, such as {DEFAULT_URL}."
            )
        if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
            raise ValueError("the token has spaces at its ends or characters that a header can't have.")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout={timeout}: must be more than 0 seconds, or None.")
        self.url = url.rstrip("/")
        self.retries = Retries(retries, max_wait)
        httpx_timeout = httpx_module().Timeout(timeout, connect=min(10.0, timeout or 10.0))
        self._settings: dict[str, Any] = {
            "base_url": self.url,
            "headers": {} if token is None else {"Authorization": f"Bearer {token}"},
            "timeout": httpx_timeout,
            "trust_env": not _is_loopback(parts.hostname),  # a proxy reaches no server of this machine
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"  # without the token


def arguments_of(call: Call, stack: ExitStack | AsyncExitStack) -> dict[str, Any]:
    """Return the arguments of httpx for a request; files are open until `stack` ends.

    Raises:
        VideoError: the video can't be read.
    """
    arguments: dict[str, Any] = {"params": dict(call.params), "headers": dict(call.headers)}
    if call.json is not None:
        arguments["json"] = call.json
    if call.video is not None:
        arguments["files"] = {"file": stack.enter_context(as_part(call.video))}
        arguments["data"] = dict(call.fields)
    return arguments


def check_status(call: Call, response: httpx.Response) -> httpx.Response:
    """Return an answer whose body was read.

    Raises:
        OpenXCLIPError: its status is 300 or more.
    """
    if response.status_code >= 300:
        raise error_of(response, call.named_video())
    return response


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
