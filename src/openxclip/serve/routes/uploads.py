"""Uploads and visits: files that a page sends once, and that are deleted when its visit ends."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path as FilePath
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from openxclip.serve.answers import UploadAnswer, VideoItem
from openxclip.serve.bodies import media_type, unsupported
from openxclip.serve.collection import Item
from openxclip.serve.errors import ApiError
from openxclip.serve.openapi import ENGINE_CODES, errors, video_body
from openxclip.serve.receiving import clean_name, receive_form
from openxclip.serve.sources import is_raw, receive_raw
from openxclip.serve.state import ServerState, json_answer, state_of
from openxclip.serve.visits import VISIT_COOKIE, Upload

router = APIRouter(tags=["uploads"])

#: Codes of routes that move uploads to the collection.
KEEP_CODES = ("video_unreadable", "video_too_long", "video_crashed_decoder", "disk_full")

UploadId = Annotated[str, Path(description="Id of the upload.", min_length=1, max_length=100)]


@router.post(
    "/v1/uploads",
    summary="Send a video for later requests",
    status_code=201,
    response_model=None,
    responses={201: {"model": UploadAnswer}, **errors("invalid_form", "video_unreadable", "disk_full")},
    openapi_extra=video_body(None, None),
)
async def upload(request: Request) -> Response:
    """The video is the body itself, or the part `file` of a form. It is deleted when the visit ends."""
    state = state_of(request)
    kind = media_type(request.headers)
    others = [name for name in request.query_params if name != "name"]
    if others:
        raise ApiError("invalid_request", f"query {others[0][:60]}: there is no such field.")
    if kind == "multipart/form-data":
        received = await receive_form(request, state.visits.new_path(), state.settings.max_upload)
        if received.fields:
            received.path.unlink(missing_ok=True)
            raise ApiError("invalid_request", f"form {received.fields[0][0][:60]}: there is no such field.")
    elif is_raw(kind):
        received = await receive_raw(request, state)
    else:
        raise unsupported(kind, "a video as it is (video/mp4, application/octet-stream) or multipart/form-data")
    visit = state.visits.visit(request.cookies.get(VISIT_COOKIE))
    added = state.visits.add(received.path, received.name, received.size, visit)
    answer = json_answer(
        {
            "id": added.id,
            "name": added.name,
            "size": added.size,
            "expires": state.visits.expires_in(visit),
            "duration": None,
        },
        201,
    )
    answer.set_cookie(VISIT_COOKIE, visit, httponly=True, samesite="strict", secure=is_https(request), path="/")
    return answer


@router.delete(
    "/v1/uploads/{upload_id}",
    summary="Delete an upload",
    status_code=204,
    response_model=None,
    responses={**errors("upload_not_found", "invalid_request", body=False)},
)
async def delete(request: Request, upload_id: UploadId) -> Response:
    """A request that reads the video goes on."""
    state = state_of(request)
    state.visits.remove(state.visits.get(upload_id))
    return Response(status_code=204)


@router.post(
    "/v1/uploads/{upload_id}/keep",
    summary="Add an upload to the collection",
    status_code=201,
    response_model=None,
    responses={
        201: {"model": VideoItem},
        **errors("upload_not_found", "invalid_request", *KEEP_CODES, *ENGINE_CODES, body=False),
    },
)
async def keep_upload(request: Request, upload_id: UploadId) -> Response:
    """The file moves to the collection, and the upload ends. It isn't indexed yet: see POST /v1/index."""
    state = state_of(request)
    found = state.visits.get(upload_id)
    await check_readable(state, found)
    item = await keep(state, found)
    return json_answer(as_item(item), 201)


@router.post(
    "/v1/visits/end",
    summary="Say that the page was closed",
    status_code=204,
    response_model=None,
    responses={**errors(body=False)},
)
async def end_visit(request: Request) -> Response:
    """The uploads of the visit are deleted after a minute, unless another request of it comes."""
    cookie = request.cookies.get(VISIT_COOKIE)
    if cookie:
        state_of(request).visits.say_goodbye(cookie)
    return Response(status_code=204)


async def check_readable(state: ServerState, upload: Upload) -> None:
    """Refuse an upload that isn't a video, which the collection could not show.

    Raises:
        ApiError: it can't be read.
    """
    report = await state.media.report(upload.path, upload.name)
    if report.get("error"):
        raise ApiError(
            "video_unreadable", f"{upload.name}: {report['error']}", "Only what can be read is added to the collection."
        )


async def keep(state: ServerState, upload: Upload) -> Item:
    """Move an upload to the collection, under its name, or "name (2)" if there is one."""
    moved = await anyio.to_thread.run_sync(_move, upload.path, state.settings.collection, upload.name)
    state.visits.forget(upload)
    state.collection.refresh()
    status = moved.stat()
    return Item(f"collection/{moved.name}", moved, status.st_size, status.st_mtime)


def _move(path: FilePath, folder: FilePath, name: str) -> FilePath:
    """Move a file into a folder without replacing another; it is on the disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = FilePath(clean_name(name))
    stem, suffix = wanted.stem.lstrip(".") or "video", wanted.suffix or path.suffix
    with path.open("rb") as file:
        os.fsync(file.fileno())
    for number in itertools.count(1):
        target = folder / (f"{stem}{suffix}" if number == 1 else f"{stem} ({number}){suffix}")
        try:
            os.link(path, target)  # fails if the name is taken, unlike a rename
            break
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK):
                raise
            if not target.exists():  # a file system without links
                path.replace(target)
                break
    path.unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return target


def as_item(item: Item) -> dict[str, object]:
    """Return a video of the collection as JSON values."""
    return {"id": item.id, "name": item.name, "root": item.root, "size": item.size, "modified": item.modified}


def is_https(request: Request) -> bool:
    """Return whether the client's connection is encrypted, also if a proxy ends it."""
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    return request.url.scheme == "https" or forwarded == "https"
