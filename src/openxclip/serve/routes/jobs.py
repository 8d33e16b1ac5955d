"""The index and jobs: /v1/index and /v1/jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from openxclip.serve.answers import IndexAnswer, JobAnswer, JobList
from openxclip.serve.bodies import read_json
from openxclip.serve.engine.tasks import IndexInfoTask
from openxclip.serve.errors import ApiError
from openxclip.serve.events import EventResponse, as_event
from openxclip.serve.openapi import ENGINE_CODES, errors, json_body, stream_of_events
from openxclip.serve.routes.uploads import KEEP_CODES, check_readable, keep
from openxclip.serve.schemas import IndexRequest
from openxclip.serve.state import json_answer, state_of

router = APIRouter(tags=["index and jobs"])

JobId = Annotated[str, Path(description="Id of the job.", min_length=1, max_length=100)]
_PLACES = ("path_not_allowed", "video_not_found", "ambiguous_path", "upload_not_found", *KEEP_CODES)


@router.post(
    "/v1/index",
    summary="Add videos to the index, as a job",
    status_code=202,
    response_model=None,
    responses={202: {"model": JobAnswer}, **errors("job_not_possible", *_PLACES, *ENGINE_CODES)},
    openapi_extra=json_body(IndexRequest),
)
async def add(request: Request) -> Response:
    """Videos that the index has are read again only if they changed, and deleted ones of the folders are removed.

    The job goes on after a restart of the server.
    """
    state = state_of(request)
    given = await read_json(request, IndexRequest)
    places = [state.collection.place(path) for path in given.paths]
    uploads = [state.visits.get(name) for name in given.uploads]  # all are there before the first is moved
    for upload in uploads:
        await check_readable(state, upload)
    places += [(await keep(state, upload)).path for upload in uploads]
    paths = list(dict.fromkeys(str(place) for place in places))
    job = await state.jobs.submit("index", {"paths": paths, "names": state.collection.names})
    return json_answer(job.as_dict(), 202, {"Location": f"/v1/jobs/{job.id}"})


@router.get(
    "/v1/index",
    summary="What the index holds",
    response_model=None,
    responses={
        200: {"model": IndexAnswer},
        **errors("no_index", "wrong_index", "index_error", *ENGINE_CODES, body=False),
    },
)
async def info(request: Request) -> Response:
    """Numbers of videos and windows, and the model that made them."""
    return json_answer(await state_of(request).engine.run(IndexInfoTask()))


@router.get(
    "/v1/jobs",
    summary="The jobs, the newest first",
    response_model=None,
    responses={200: {"model": JobList}, **errors("invalid_request", body=False)},
)
async def jobs(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
    """Jobs stay in the list after their end."""
    found = await state_of(request).jobs.list(limit=limit)
    return json_answer({"jobs": [job.as_dict() for job in found]})


@router.get(
    "/v1/jobs/{job_id}",
    summary="A job",
    response_model=None,
    responses={200: {"model": JobAnswer}, **errors("job_not_found", "invalid_request", body=False)},
)
async def job(request: Request, job_id: JobId) -> Response:
    """State, progress and result of a job."""
    return json_answer((await state_of(request).jobs.get(job_id)).as_dict())


@router.delete(
    "/v1/jobs/{job_id}",
    summary="Cancel a job",
    response_model=None,
    responses={200: {"model": JobAnswer}, **errors("job_not_found", "invalid_request", body=False)},
)
async def cancel(request: Request, job_id: JobId) -> Response:
    """The answer comes once the job has ended; a finished job stays as it is. What it wrote stays valid."""
    return json_answer((await state_of(request).jobs.cancel(job_id)).as_dict())


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="Watch a job",
    response_model=None,
    responses={
        200: stream_of_events("Events `state` (the job), `progress` and `note`, each with a number as its id."),
        204: {"description": "The job has ended, and there are no events after `Last-Event-ID`."},
        **errors("job_not_found", "invalid_request", body=False),
    },
    openapi_extra={
        "parameters": [
            {
                "name": "Last-Event-ID",
                "in": "header",
                "required": False,
                "description": "Number of the last event that was received; those after it are sent.",
                "schema": {"type": "integer", "minimum": 0, "maximum": 2**53},
            }
        ]
    },
)
async def events(request: Request, job_id: JobId) -> Response:
    """Server-sent events until the job ends. A browser reconnects by itself."""
    state = state_of(request)
    text = request.headers.get("last-event-id", "0").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 16):
        raise ApiError("invalid_request", f"header Last-Event-ID={text!r:.40}: must be the number of an event.")
    after = int(text)
    found = await state.jobs.get(job_id)
    source = state.jobs.events(job_id, after=after)
    first = []
    if found.is_finished:
        first = [event async for event in source]
        if not first and after:
            return Response(status_code=204)

    async def lines() -> AsyncIterator[str]:
        for event in first:
            yield as_event(event.kind, event.data, event.number)
        if not found.is_finished:
            async for event in source:
                yield as_event(event.kind, event.data, event.number)

    return EventResponse(lines(), state.stopping)
