"""The videos of the collection and uploads, for a page: lists, playing files, frames and reports."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.responses import Response

from openxclip.serve.answers import PreparingAnswer, VideoInfo, VideoList
from openxclip.serve.media import MediaResponse
from openxclip.serve.openapi import ENGINE_CODES, errors
from openxclip.serve.routes.uploads import UploadId, as_item
from openxclip.serve.sources import Source
from openxclip.serve.state import ServerState, json_answer, state_of

router = APIRouter(tags=["videos"])


class _FilePath(PathConvertor):
    """The end of an address that names a file: with slashes, and with line breaks, which names of files may have."""

    regex = "(?s:.*)"


register_url_convertor("file", _FilePath())

VideoId = Annotated[str, Path(description="Id of the video; its slashes may be sent as %2F.", min_length=1)]
Time = Annotated[float, Query(description="Time in seconds.", ge=0, le=1e7, allow_inf_nan=False)]
Width = Annotated[int, Query(description="Most pixels of the picture's width.", ge=16, le=1920)]

_VIDEO = ("video_not_found", "path_not_allowed", "video_unreadable", "invalid_request", "video_crashed_decoder")
_UPLOAD = ("upload_not_found", "video_unreadable", "invalid_request", "video_crashed_decoder")
_MP4: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "content": {"video/mp4": _MP4, "video/webm": _MP4}},
    202: {"model": PreparingAnswer, "description": "A preview is being made: ask again after `Retry-After` seconds."},
    206: {
        "description": "The part of the file that `Range` names; several parts as multipart/byteranges.",
        "content": {"video/mp4": _MP4, "video/webm": _MP4, "multipart/byteranges": _MP4},
    },
}
_RANGE = {
    "parameters": [
        {
            "name": "Range",
            "in": "header",
            "required": False,
            "description": "A part of the file: bytes=0-1023. Other units and forms are ignored.",
            "schema": {"type": "string"},
        }
    ]
}
_FRAME: dict[int | str, dict[str, Any]] = {200: {"description": "A JPEG.", "content": {"image/jpeg": _MP4}}}


@router.get(
    "/v1/videos",
    summary="The videos of the collection",
    response_model=None,
    responses={200: {"model": VideoList}, **errors("invalid_request", body=False)},
)
async def videos(
    request: Request,
    q: Annotated[str, Query(description="Words that the id must have.", max_length=200)] = "",
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Files below the roots whose suffix is that of a video, by id; hidden ones are left out."""
    state = state_of(request)
    items, left_out = await anyio.to_thread.run_sync(state.collection.videos)
    words = q.casefold().split()
    found = [item for item in items if all(word in item.id.casefold() for word in words)] if words else items
    end = offset + limit
    return json_answer(
        {
            "videos": [as_item(item) for item in found[offset:end]],
            "total": len(found),
            "next": end if end < len(found) else None,
            "roots": list(state.collection.roots),
            "left_out": left_out,
        }
    )


async def _stream(request: Request, source: Source) -> Response:
    state = state_of(request)
    ready = await state.media.playing(source.path, source.name)
    if isinstance(ready, tuple):
        path, kind = ready
        return MediaResponse(path, media_type=kind, headers={"Cache-Control": "private, max-age=0, must-revalidate"})
    return json_answer({"status": "preparing", "progress": ready}, 202, {"Retry-After": "1"})


async def _frame(request: Request, source: Source, at: float, width: int) -> Response:
    jpeg = await state_of(request).media.frame(source.path, source.name, at, width)
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


async def _info(state: ServerState, source: Source) -> Response:
    return json_answer(await state.media.report(source.path, source.name))


def _video(request: Request, name: str) -> Source:
    item = state_of(request).collection.video(name)
    return Source(item.path, item.id)


def _upload(request: Request, name: str) -> Source:
    upload = state_of(request).visits.get(name)
    return Source(upload.path, upload.name)


@router.get(
    "/v1/videos/{video_id:file}/stream",
    summary="A video of the collection as browsers play it",
    response_model=None,
    responses={**_STREAM, **errors(*_VIDEO, *ENGINE_CODES, "range_not_satisfiable", "disk_full", body=False)},
    openapi_extra=_RANGE,
)
async def stream_video(request: Request, video_id: VideoId) -> Response:
    """The file itself if browsers play its codecs, otherwise a preview in H.264 without sound, made once."""
    return await _stream(request, _video(request, video_id))


@router.get(
    "/v1/videos/{video_id:file}/frame",
    summary="A frame of a video of the collection",
    response_model=None,
    responses={**_FRAME, **errors(*_VIDEO, *ENGINE_CODES, body=False)},
)
async def frame_of_video(request: Request, video_id: VideoId, t: Time = 0.0, width: Width = 320) -> Response:
    """The frame that is shown at time `t`, as JPEG."""
    return await _frame(request, _video(request, video_id), t, width)


@router.get(
    "/v1/videos/{video_id:file}/info",
    summary="What a video of the collection is",
    response_model=None,
    responses={200: {"model": VideoInfo}, **errors(*_VIDEO, *ENGINE_CODES, body=False)},
)
async def info_of_video(request: Request, video_id: VideoId) -> Response:
    """Container, codec, size, duration and problems, as `openxclip check --json`."""
    return await _info(state_of(request), _video(request, video_id))


@router.get(
    "/v1/uploads/{upload_id}/stream",
    summary="An upload as browsers play it",
    response_model=None,
    responses={**_STREAM, **errors(*_UPLOAD, *ENGINE_CODES, "range_not_satisfiable", "disk_full", body=False)},
    openapi_extra=_RANGE,
)
async def stream_upload(request: Request, upload_id: UploadId) -> Response:
    """The file itself if browsers play its codecs, otherwise a preview in H.264 without sound, made once."""
    return await _stream(request, _upload(request, upload_id))


@router.get(
    "/v1/uploads/{upload_id}/frame",
    summary="A frame of an upload",
    response_model=None,
    responses={**_FRAME, **errors(*_UPLOAD, *ENGINE_CODES, body=False)},
)
async def frame_of_upload(request: Request, upload_id: UploadId, t: Time = 0.0, width: Width = 320) -> Response:
    """The frame that is shown at time `t`, as JPEG."""
    return await _frame(request, _upload(request, upload_id), t, width)


@router.get(
    "/v1/uploads/{upload_id}/info",
    summary="What an upload is",
    response_model=None,
    responses={200: {"model": VideoInfo}, **errors(*_UPLOAD, *ENGINE_CODES, body=False)},
)
async def info_of_upload(request: Request, upload_id: UploadId) -> Response:
    """Container, codec, size, duration and problems, as `openxclip check --json`."""
    return await _info(state_of(request), _upload(request, upload_id))
