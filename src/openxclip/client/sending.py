"""Requests as both clients send them: what a request has, when it is sent again, and events of a stream."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from openxclip.client.errors import ServerError, retry_after
from openxclip.client.sources import ClientVideo, video_name
from openxclip.errors import needs_package

if TYPE_CHECKING:
    import httpx

Result = TypeVar("Result")
# One operation: it yields requests, is sent their answers, and returns its result.
Steps = Generator["Call", "httpx.Response", Result]

MAX_PAUSE = 30.0  # seconds between two tries
FIRST_PAUSE = 0.5


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method, path: what is asked for.
        params: the query.
        json: the body as JSON; None without.
        fields: the fields of a form that has `video` as its file.
        video: the video that the form sends; None without a form.
        headers: more headers.
        video_name: what errors of reading the video call it; None is the name of `video`.
        on_event: called with each event of the answer, which is then a stream of events and has no body.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    video: ClientVideo | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    video_name: str | None = None
    on_event: Callable[[Event], object] | None = None

    def named_video(self) -> str | None:
        """The name of the request's video, for errors of reading it; None without a video."""
        return video_name(self.video) if self.video_name is None and self.video is not None else self.video_name

    def can_be_repeated(self) -> bool:
        """Whether the body can be sent once more: an open file can if it can be rewound."""
        read = getattr(self.video, "read", None)
        return read is None or bool(getattr(self.video, "seekable", lambda: False)())


@dataclass(frozen=True)
class Event:
    """An event of a stream of server-sent events."""

    name: str
    data: Any
    id: str = ""


class EventReader:
    """Puts together the events of a stream of lines (WHATWG HTML, § 9.2)."""

    def __init__(self) -> None:
        self._name, self._id, self._data = "", "", list[str]()

    def read(self, line: str) -> Event | None:
        """Take a line without its end, and return an event if it ends one."""
        if line:
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "data":
                self._data.append(value)
            elif key == "event":
                self._name = value
            elif key == "id" and "\0" not in value:
                self._id = value
            return None
        name, data = self._name or "message", "\n".join(self._data)
        is_event = bool(self._data)
        self._name, self._data = "", []
        return Event(name, json.loads(data), self._id) if is_event else None


def httpx_module() -> Any:
    """Return httpx.

    Raises:
        MissingPackageError: it isn't installed.
    """
    with needs_package("openxclip.Client", "httpx", "client"):
        import httpx
    return httpx


@dataclass(frozen=True)
class Retries:
    """When a request that the server refused because it is busy is sent again.

    Args:
        times: the most further tries.
        max_wait: the most seconds to wait for one answer in all.
    """

    times: int = 8
    max_wait: float = 120.0

    def __post_init__(self) -> None:
        if self.times < 0:
            raise ValueError(f"retries={self.times}: must be 0 or more.")
        if not self.max_wait >= 0:
            raise ValueError(f"max_wait={self.max_wait}: must be 0 seconds or more.")

    def pause(self, response: httpx.Response, tried: int, waited: float) -> float | None:
        """Return the seconds to wait before the next try, or None if the answer stands.

        Args:
            response: the answer.
            tried: number of tries so far, from 1 on.
            waited: seconds waited so far.
        """
        told = retry_after(response)
        if response.status_code != 429 or tried > self.times:
            return None
        pause = min(MAX_PAUSE, max(told or 0.0, FIRST_PAUSE * 2 ** (tried - 1) if told is None else told))
        pause *= 1 + random.random() / 4  # so that clients refused together don't return together
        return pause if waited + pause <= self.max_wait else None


def unreachable(error: Exception, url: str) -> ServerError:
    """Return the exception for an answer that didn't come."""
    httpx = httpx_module()
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return ServerError(f"{url}: no answer in time.", "timeout", "Give the client a longer timeout=.")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        reason = str(error).rstrip(".") or "no answer"
        return ServerError(
            f"{url}: can't connect ({reason}).",
            "unreachable",
            "Start a server with openxclip serve, or check the address.",
        )
    reason = str(error).rstrip(".") or type(error).__name__
    return ServerError(f"{url}: the connection broke ({reason}).", "connection_lost", "Ask again.")


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are given."""
    return {name: value for name, value in values.items() if value is not None}


def form_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as fields of a form; a list is a field that repeats."""
    return {name: _text(value) for name, value in without_none(values).items()}


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_text(item) for item in value]
    return repr(value) if isinstance(value, float) else str(value)
