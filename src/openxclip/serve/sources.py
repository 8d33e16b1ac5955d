"""The video of a request, in whatever form it is sent, as a file for the process that reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel
from starlette.requests import Request

from openxclip.serve.bodies import chunks_of, media_type, parse_fields, read_json, unsupported
from openxclip.serve.errors import ApiError
from openxclip.serve.fetching import fetched
from openxclip.serve.receiving import Received, clean_name, receive_chunks, receive_data_url, receive_form, suffix_of
from openxclip.serve.schemas import MAX_TEXT, SourceFields
from openxclip.serve.state import ServerState, state_of

Options = TypeVar("Options", bound=BaseModel)

#: Media types of a body that is a video itself.
RAW_TYPES = ("video/mp4", "video/webm", "application/octet-stream")
_SUFFIXES = {"video/mp4": ".mp4", "video/webm": ".webm", "video/x-matroska": ".mkv", "video/x-msvideo": ".avi"}


@dataclass(frozen=True)
class Source:
    """A video as a file.

    Attributes:
        path: the file.
        name: what the client calls it, for messages and results.
    """

    path: Path
    name: str


@asynccontextmanager
async def open_source(
    request: Request, options: type[Options], body: type[Options]
) -> AsyncIterator[tuple[Source | None, Options]]:
    """Give the video of a request and its options; a file that was sent is deleted at the end.

    Args:
        request: the request.
        options: the model of the options, which a query or form has as texts.
        body: the model of a JSON body: the options and the fields that name a video.

    Yields:
        The video, or None if a JSON body names none (a search by text); and the options.

    Raises:
        ApiError: the body can't be read or is too large, an option is wrong, or there is no such video.
        QueueFullError: too many requests wait.
    """
    state = state_of(request)
    state.engine.check_room()  # before the body, which may be large
    kind = media_type(request.headers)
    if kind == "application/json":
        _refuse_query(request)
        given = await read_json(request, body)
        async with named_source(state, cast(SourceFields, given)) as source:
            yield source, given
        return
    async with AsyncExitStack() as stack:
        received, fields, where = await _received(request, state, kind, stack)
        yield Source(received.path, received.name), parse_fields(fields, options, where)


async def _received(
    request: Request, state: ServerState, kind: str, stack: AsyncExitStack
) -> tuple[Received, list[tuple[str, str]], str]:
    limit = state.settings.max_upload
    if kind == "multipart/form-data":
        _refuse_query(request)
        received = await receive_form(request, state.visits.new_path(), limit)
        stack.callback(_delete, received.path)
        return received, received.fields, "form"
    if not is_raw(kind):
        raise unsupported(kind, "a video as it is (video/mp4, application/octet-stream), multipart/form-data, or JSON")
    fields = [(name, value) for name, value in request.query_params.multi_items() if name != "name"]
    received = await receive_raw(request, state)
    stack.callback(_delete, received.path)
    return received, fields, "query"


def is_raw(kind: str) -> bool:
    """Return whether a media type means that the body is a video itself."""
    return kind.startswith(("video/", "image/")) or kind == "application/octet-stream"


async def receive_raw(request: Request, state: ServerState) -> Received:
    """Write a body that is a video to a file of the data folder. `name` of the query is what the client calls it."""
    kind = media_type(request.headers)
    given = request.query_params.getlist("name")
    if len(given) > 1 or len("".join(given)) > MAX_TEXT:
        raise ApiError("invalid_request", f"query name: must be given once, with at most {MAX_TEXT} characters.")
    name = clean_name("".join(given))
    path = state.visits.new_path(suffix_of(name) or _SUFFIXES.get(kind, ""))
    return await receive_chunks(chunks_of(request), path, name, state.settings.max_upload)


def _refuse_query(request: Request) -> None:
    names = list(request.query_params)
    if names:
        raise ApiError(
            "invalid_request",
            f"query {names[0][:60]}: options of a JSON body or a form go into it.",
            "A query has the options only if the body is the video itself.",
        )


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


@asynccontextmanager
async def named_source(state: ServerState, fields: SourceFields) -> AsyncIterator[Source | None]:
    """Give the video that the fields of a JSON body name; None if they name none."""
    if fields.path is not None:
        item = state.collection.file(fields.path)
        yield Source(item.path, fields.path)
    elif fields.video is not None:
        item = state.collection.video(fields.video)
        yield Source(item.path, fields.video)
    elif fields.upload is not None:
        upload = state.visits.hold(fields.upload)
        try:
            yield Source(upload.path, upload.name)
        finally:
            state.visits.release(upload)
    elif fields.url is not None:
        async with url_source(state, fields.url) as source:
            yield source
    else:
        yield None


@asynccontextmanager
async def url_source(state: ServerState, url: str) -> AsyncIterator[Source]:
    """Give the video of a data URL or an address; its file is deleted at the end.

    Raises:
        ApiError: the server fetches no addresses, or not this one; or the data URL is wrong.
    """
    limit = state.settings.max_upload
    path = state.visits.new_path()
    if url[:5].lower() == "data:":
        received = await receive_data_url(url, path, limit)
    else:
        if not state.settings.allow_urls:
            raise ApiError(
                "urls_not_allowed", "url: this server fetches no addresses.", "Send the video, or use --allow-urls."
            )
        name = clean_name(unquote(urlsplit(url).path) if "\0" not in url else "")
        async with fetched(url, limit=limit) as chunks:
            received = await receive_chunks(chunks, path, name, limit)
    try:
        yield Source(received.path, received.name)
    finally:
        _delete(received.path)
