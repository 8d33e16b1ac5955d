"""Whether the server answers, what it serves, its counters, and the session of a page."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from openxclip.serve.answers import HealthAnswer, ModelList, ReadyAnswer, SessionAnswer
from openxclip.serve.bodies import read_json
from openxclip.serve.engine.metrics import CONTENT_TYPE
from openxclip.serve.engine.tasks import ModelInfoTask
from openxclip.serve.errors import ApiError
from openxclip.serve.openapi import errors, json_body
from openxclip.serve.routes.uploads import is_https
from openxclip.serve.schemas import SessionRequest
from openxclip.serve.security import SESSION_COOKIE, SESSION_SECONDS
from openxclip.serve.state import json_answer, state_of

router = APIRouter()

_STARTED = int(time.time())


@router.get(
    "/healthz",
    tags=["status"],
    summary="Whether the server answers",
    response_model=None,
    responses={200: {"model": HealthAnswer}, **errors(body=False)},
)
async def health(request: Request) -> Response:
    """For a monitor that restarts the server if it hangs."""
    return json_answer({"status": "ok"})


@router.get(
    "/readyz",
    tags=["status"],
    summary="Whether requests are answered",
    response_model=None,
    responses={200: {"model": ReadyAnswer}, **errors("model_not_loaded", "stopping", body=False)},
)
async def ready(request: Request) -> Response:
    """`ready`; `loading`: requests wait for the model; or `idle`: the next request loads it."""
    state = state_of(request)
    found = state.engine.state
    if state.stopping.is_set():
        raise ApiError("stopping", "the server is stopping.")
    may_know = state.tokens.is_known(request.headers)  # reasons may have a path of the server
    if found.state == "failed":
        reason = found.error if may_know and found.error else "the model can't be loaded."
        raise ApiError("model_not_loaded", reason, "The server's log says more.")
    status = "idle" if found.state == "unloaded" else found.state
    answer = {"status": status, "model": state.model_id, "queue": found.queue, "running": found.running}
    return json_answer({**answer, "problem": found.problem if may_know else None})


@router.get(
    "/metrics",
    tags=["status"],
    summary="Counters for Prometheus",
    response_model=None,
    responses={
        200: {"description": "Prometheus's text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **errors(body=False),
    },
)
async def metrics(request: Request) -> Response:
    """Requests, queue, times, crashes, restarts and memory."""
    return Response(request.app.state.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


@router.get(
    "/v1/models",
    tags=["status"],
    summary="The model",
    response_model=None,
    responses={200: {"model": ModelList}, **errors(body=False)},
)
async def models(request: Request) -> Response:
    """As OpenAI's list, with precision, device, state and, once it is loaded, the contract of time."""
    state = state_of(request)
    found = state.engine.state
    if found.state == "ready" and state.model_info is None:
        state.model_info = await state.engine.run(ModelInfoTask())
    model = {
        **(state.model_info or {}),
        "id": state.model_id,
        "object": "model",
        "created": _STARTED,
        "owned_by": "openxclip",
        "precision": found.precision,
        "device": found.device,
        "state": found.state,
        "queue": found.queue,
        "running": found.running,
    }
    model.pop("model", None)
    return json_answer({"object": "list", "data": [model]})


@router.get(
    "/v1/session",
    tags=["session"],
    summary="Whether a token is needed",
    response_model=None,
    responses={200: {"model": SessionAnswer}, **errors(body=False)},
)
async def session(request: Request) -> Response:
    """Needs no token."""
    tokens = state_of(request).tokens
    return json_answer({"required": tokens.required, "authenticated": tokens.is_known(request.headers)})


@router.post(
    "/v1/session",
    tags=["session"],
    summary="Show the token once",
    response_model=None,
    responses={200: {"model": SessionAnswer}, **errors("unauthorized")},
    openapi_extra=json_body(SessionRequest),
)
async def log_in(request: Request) -> Response:
    """Sets a cookie that scripts can't read, for requests without the header: videos and events of a page."""
    tokens = state_of(request).tokens
    given = await read_json(request, SessionRequest)
    answer = json_answer({"required": tokens.required, "authenticated": True})
    if tokens.required:
        if not tokens.is_token(given.token):
            raise ApiError(
                "unauthorized", "the token is wrong.", headers={"WWW-Authenticate": 'Bearer realm="openxclip"'}
            )
        answer.set_cookie(
            SESSION_COOKIE,
            tokens.new_session(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=is_https(request),
            path="/",
        )
    return answer


@router.delete(
    "/v1/session",
    tags=["session"],
    summary="Log out",
    response_model=None,
    responses={200: {"model": SessionAnswer}, **errors(body=False)},
)
async def log_out(request: Request) -> Response:
    """Deletes the cookie."""
    tokens = state_of(request).tokens
    answer = json_answer({"required": tokens.required, "authenticated": not tokens.required})
    answer.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict", secure=is_https(request), path="/")
    return answer
