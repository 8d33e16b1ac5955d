"""The one form of errors, their codes, and what the exceptions of the library become."""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Iterable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from openxclip.common.files import reason_of
from openxclip.errors import (
    CheckpointError,
    DecoderCrashError,
    MissingPackageError,
    OpenXCLIPError,
    VideoError,
    VideoIndexError,
)
from openxclip.serve.engine import errors as engine_errors

logger = logging.getLogger("openxclip.serve")

#: Every code of an error, with its status and meaning.
CODES: dict[str, tuple[int, str]] = {
    "bad_request": (400, "The request is not valid HTTP for this server, for example with two Host headers."),
    "invalid_json": (400, "The body is not JSON."),
    "invalid_form": (400, "The body is not multipart/form-data as its header says, or lacks the part `file`."),
    "unauthorized": (401, "The token is missing or wrong."),
    "host_not_allowed": (403, "The header Host has a name that this server doesn't answer to."),
    "origin_not_allowed": (403, "The request comes from a page of another site."),
    "path_not_allowed": (403, "The path is not below a root."),
    "urls_not_allowed": (403, "The server fetches no addresses, or not this one."),
    "not_found": (404, "There is no such route or file."),
    "video_not_found": (404, "There is no such video below the roots."),
    "upload_not_found": (404, "There is no such upload, or its visit has ended."),
    "job_not_found": (404, "There is no such job."),
    "model_not_found": (404, "The server doesn't serve the requested model."),
    "head_not_found": (404, "There is no head with this name."),
    "no_index": (404, "There is no index yet."),
    "method_not_allowed": (405, "The route exists, but not with this method."),
    "body_too_slow": (408, "The body came too slowly."),
    "wrong_index": (409, "The index can't be searched with the server's model."),
    "index_error": (409, "The index can't be read or searched as asked."),
    "ambiguous_path": (409, "Several roots have a file with this path."),
    "job_not_possible": (409, "The job can't be started now."),
    "body_too_large": (413, "The body is larger than the server takes."),
    "unsupported_media_type": (415, "The header Content-Type, or Content-Encoding, is not one that the route takes."),
    "range_not_satisfiable": (416, "The file has no bytes in this range."),
    "invalid_request": (422, "A field is missing, unknown or has a wrong value."),
    "too_many_labels": (422, "The request has more labels than the server takes."),
    "video_unreadable": (422, "The video can't be read."),
    "video_too_long": (422, "The video lasts longer than the server takes."),
    "video_crashed_decoder": (422, "Reading the video killed the decoder twice."),
    "queue_full": (429, "Too many requests wait: try again after `Retry-After` seconds."),
    "internal_error": (500, "A fault of the server, which its log describes under the id in the message."),
    "not_installed": (501, "The server lacks an optional package."),
    "url_not_fetched": (502, "The address could not be fetched."),
    "model_gone": (503, "The model's process was killed during the request: send it again."),
    "model_not_loaded": (503, "The model can't be loaded."),
    "out_of_memory": (503, "The memory of the server or its GPU ran out."),
    "too_many_bodies": (429, "Too many large JSON bodies are being read: try again after `Retry-After` seconds."),
    "stopping": (503, "The server is stopping."),
    "timed_out": (504, "The request took longer than the server allows."),
    "disk_full": (507, "The server's disk is full."),
}


class ApiError(HTTPException):
    """An error for the client. It is an HTTPException, which FastAPI passes on while it reads a body.

    Args:
        code: one of `CODES`, which gives the status.
        message: what is wrong, with the value.
        hint: what to do.
        headers: headers of the answer.
    """

    def __init__(
        self, code: str, message: str, hint: str | None = None, *, headers: dict[str, str] | None = None
    ) -> None:
        if not message.endswith((".", "!", "?", "…")):  # a hint may follow in the same line
            message += "."
        super().__init__(CODES[code][0], message, headers)
        self.code, self.message, self.hint = code, message, hint

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}

    def response(self) -> Response:
        """Return the answer."""
        return JSONResponse(self.body, self.status_code, headers={"Cache-Control": "no-store", **(self.headers or {})})


def as_api_error(error: BaseException) -> ApiError:
    """Return what a client gets for an exception. One that nobody expected is logged, and the client gets its id."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return _of_status(error)
    if isinstance(error, engine_errors.QueueFullError):
        return ApiError("queue_full", str(error), headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, engine_errors.ModelNotLoadedError):
        hint = "See the server's log, and GET /readyz."
        return ApiError("model_not_loaded", str(error), hint, headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, TimeoutError):  # before OSError, of which it is a kind
        hint = "Send a shorter video, or start the server with a longer --request-timeout."
        return ApiError("timed_out", str(error) or "the request took too long.", hint)
    for kind, code, advice, headers in _OF_KINDS:
        if isinstance(error, kind):
            return ApiError(code, str(error), advice, headers=headers)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ApiError("disk_full", f"the server can't store it: {reason_of(error)}.", "Free space on its disk.")
    if isinstance(error, ValueError | OpenXCLIPError) and not isinstance(error, UnicodeError | OSError):
        return ApiError("invalid_request", str(error))
    number = secrets.token_hex(4)
    logger.error("fault %s", number, exc_info=error)
    return ApiError("internal_error", f"a fault of the server, number {number} in its log.", "Please report it.")


_OF_WRONG_INDEX = "Start the server with the model of the index, or name another folder with --in."
_OF_KINDS: Iterable[tuple[type[BaseException], str, str | None, dict[str, str] | None]] = (
    (engine_errors.ModelGoneError, "model_gone", "Send the request again.", {"Retry-After": "1"}),
    (engine_errors.EngineStoppedError, "stopping", None, {"Retry-After": "5"}),
    (MemoryError, "out_of_memory", "Send a shorter video or fewer labels.", {"Retry-After": "5"}),
    (engine_errors.VideoTooLongError, "video_too_long", "Send a part of it.", None),
    (engine_errors.NoIndexError, "no_index", "Make one with POST /v1/index.", None),
    (engine_errors.WrongIndexError, "wrong_index", _OF_WRONG_INDEX, None),
    (engine_errors.JobNotFoundError, "job_not_found", "GET /v1/jobs lists the jobs.", None),
    (MissingPackageError, "not_installed", None, None),
    (VideoIndexError, "index_error", None, None),
    (DecoderCrashError, "video_crashed_decoder", None, None),
    (VideoError, "video_unreadable", "`openxclip check` says more about a file.", None),
    (CheckpointError, "model_not_loaded", None, None),
)


def _of_status(error: HTTPException) -> ApiError:
    codes = {400: "bad_request", 401: "unauthorized", 404: "not_found", 405: "method_not_allowed"}
    codes |= {413: "body_too_large", 415: "unsupported_media_type", 422: "invalid_request"}
    headers = dict(error.headers) if error.headers else None
    return ApiError(codes.get(error.status_code, "bad_request"), str(error.detail), headers=headers)


def validation_error(errors: Iterable[Any], *, where: str = "") -> ApiError:
    """Return the error for a value that a model of `schemas` refused.

    Args:
        errors: pydantic's errors, whose places begin with the field; the first one is told, and the number of others.
        where: where the values were, such as "query".
    """
    found = list(errors)
    first = found[0]
    parts = [str(part) for part in first["loc"]]
    field = ".".join(part for part in parts if not part.startswith(("function-", "constrained-", "list[")))
    text = _in_words(first)
    value = first.get("input")
    shown = ""
    if (
        field not in ("", "token")
        and first["type"] not in ("missing", "value_error", "extra_forbidden")
        and isinstance(value, str | int | float | bool)
    ):
        shown = f"={value!r:.80}"
    message = f"{field}{shown}: {text}." if field else f"{text}."
    more = len({each["loc"][:1] for each in found}) - 1  # one wrong value has an error for each type that it may have
    hint = f"There {'is 1 more mistake' if more == 1 else f'are {more} more mistakes'}." if more else None
    return ApiError("invalid_request", f"{where} {message}".strip(), hint)


_WORDS = {
    "missing": "this field is needed",
    "extra_forbidden": "there is no such field",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_type": "must be a whole number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_too_long": "must have {max_length} characters or fewer",
    "string_type": "must be a text",
    "list_type": "must be a list",
    "too_long": "must have {max_length} items or fewer",
    "literal_error": "must be {expected}",
    "dict_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "model_type": "must be a JSON object",
}  # by pydantic's names of errors


def _in_words(error: Any) -> str:
    """Return what is wrong with a value, in the words of the other messages."""
    kind, details = error["type"], error.get("ctx", {})
    if kind in ("too_short", "string_too_short") and details.get("min_length") == 1:
        return "is empty"
    if kind in _WORDS:
        return ("" if error["loc"] else "the body ") + _WORDS[kind].format(**details)
    text = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{text[:1].lower()}{text[1:]}" if error["loc"] else text
