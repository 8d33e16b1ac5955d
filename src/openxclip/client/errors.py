"""Errors of a server, as exceptions."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from openxclip.errors import DecoderCrashError, OpenXCLIPError, VideoError, VideoIndexError

if TYPE_CHECKING:
    import httpx

# Codes of videos that can't be read. All of them come with status 422.
VIDEO_PREFIX = "video_"
INDEX_CODES = frozenset({"no_index", "wrong_index", "index_error"})


class ServerError(OpenXCLIPError):
    """The server refused a request or failed, or can't be reached.

    Args:
        message: what is wrong.
        code: the server's word for it, such as "queue_full"; "unreachable" and "timeout" are the client's own.
        hint: what to do, or None.
        status: the HTTP status; None if there was no answer.
        retry_after: seconds after which the same request may succeed, or None.
    """

    def __init__(
        self,
        message: str,
        code: str,
        hint: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{message} {hint}" if hint else message)
        self.message, self.code, self.hint = message, code, hint
        self.status, self.retry_after = status, retry_after

    def __reduce__(self) -> tuple[type[ServerError], tuple[str, str, str | None, int | None, float | None]]:
        return type(self), (self.message, self.code, self.hint, self.status, self.retry_after)


class InvalidRequestError(ServerError, ValueError):
    """An argument is invalid, or the server doesn't take it: the library raises a ValueError for it."""


def error_of(response: httpx.Response, video: str | None = None) -> OpenXCLIPError:
    """Return the exception for an answer whose status is 400 or more, and whose body was read.

    Args:
        response: the answer.
        video: the name of the request's video, for errors of reading it.
    """
    try:
        told = response.json()["error"]
        code, message, hint = str(told["code"]), str(told["message"]), told.get("hint")
    except (ValueError, KeyError, TypeError, AttributeError):  # a proxy answered, not the server
        code, hint = "no_error_form", "Check the address: something else than openxclip may answer there."
        message = f"{response.request.url}: status {response.status_code} with a body that isn't openxclip's."
    return told_error(code, message, hint, status=response.status_code, retry_after=retry_after(response), video=video)


def told_error(
    code: str,
    message: str,
    hint: str | None,
    *,
    status: int | None = None,
    retry_after: float | None = None,
    video: str | None = None,
) -> OpenXCLIPError:
    """Return the exception for an error that the server told in an answer, an event or a job."""
    if code.startswith(VIDEO_PREFIX):
        name = video or message.partition(": ")[0]
        reason = message.removeprefix(f"{name}: ")
        kind = DecoderCrashError if code == "video_crashed_decoder" else VideoError
        return kind(name, f"{reason} {hint}" if hint else reason)
    if code in INDEX_CODES:
        return VideoIndexError(f"{message} {hint}" if hint else message)
    if code == "unauthorized":
        hint = "Give the client the token of the server: token=…"
    is_invalid = status in (400, 413, 415, 422)
    return (InvalidRequestError if is_invalid else ServerError)(message, code, hint, status, retry_after)


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of the header Retry-After, which has a number or a date; None without it."""
    told = response.headers.get("retry-after")
    if told is None:
        return None
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = (
                parsedate_to_datetime(told).timestamp() - parsedate_to_datetime(response.headers["date"]).timestamp()
            )
        except (ValueError, KeyError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
