"""`create_app`: the API and the page as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from openxclip.common.counting import counted
from openxclip.errors import needs_package

with needs_package("openxclip serve", "fastapi", "serve"):
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from openxclip.serve import openapi
from openxclip.serve.access import Access, Leaving, Visits
from openxclip.serve.bodies import BodyLimits
from openxclip.serve.collection import Collection
from openxclip.serve.correct import routes as corrections
from openxclip.serve.engine.metrics import Metrics
from openxclip.serve.errors import ApiError, as_api_error, validation_error
from openxclip.serve.media import Media
from openxclip.serve.routes import embeddings, jobs, pages, recognition, search, status, uploads, videos
from openxclip.serve.security import Guard, SecurityHeaders, Tokens
from openxclip.serve.settings import ServeSettings
from openxclip.serve.state import ServerState
from openxclip.serve.visits import VisitStore

logger = logging.getLogger("openxclip.serve")


def create_app(settings: ServeSettings, engine: Any = None, jobs_runner: Any = None) -> FastAPI:
    """Return the application.

    Args:
        settings: settings of the server.
        engine: what runs tasks; default is an `Engine`, which the application starts and stops.
        jobs_runner: what runs jobs; default is a `JobRunner`, likewise.

    Raises:
        MissingPackageError: a package that the server needs isn't installed.
    """
    metrics = getattr(engine, "metrics", None) or Metrics()
    if engine is None:
        from openxclip.serve.engine.engine import Engine

        engine = Engine(settings, metrics=metrics)
    if jobs_runner is None:
        from openxclip.serve.engine.jobs import JobRunner

        jobs_runner = JobRunner(settings, metrics=metrics)
    media = Media(engine, settings.previews)
    visits = VisitStore(settings.uploads, on_delete=lambda upload: media.forget(upload.path))
    state = ServerState(
        settings=settings,
        engine=engine,
        jobs=jobs_runner,
        visits=visits,
        collection=Collection(settings),
        tokens=Tokens(settings.token),
        media=media,
    )

    def note(method: str, route: str, code: int, seconds: float) -> None:
        metrics.requests.labels(method, route, str(code)).inc()
        metrics.request_seconds.labels(route).observe(seconds)

    app = FastAPI(
        title="openxclip",
        openapi_url="/openapi.json",
        docs_url=None,  # FastAPI's pages load their scripts from another host
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        middleware=[  # the outermost first
            Middleware(SecurityHeaders),
            Middleware(Access, on_request=note),
            Middleware(Guard, settings=settings, tokens=state.tokens),
            Middleware(Visits, on_visit=visits.touch),
            Middleware(BodyLimits, settings=settings),
            Middleware(Leaving),
        ],
        exception_handlers={
            HTTPException: _answer_http_error,
            RequestValidationError: _answer_validation_error,
        },
    )
    app.state.server, app.state.settings, app.state.engine, app.state.jobs = state, settings, engine, jobs_runner
    app.state.visits, app.state.metrics = visits, metrics
    app.state.static, app.state.apidocs = pages.Files(pages.STATIC), pages.Files(pages.APIDOCS)
    routers = [part.router for part in (recognition, embeddings, search, jobs, uploads, videos, status, corrections)]
    for router in (*routers, pages.router):
        app.include_router(router)
    pages.add_files(app)
    app.state.all_routes = [route for router in (*routers, pages.router, app.router) for route in router.routes]
    openapi.install(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start what the routes use, and stop it in the reverse order."""
    state: ServerState = app.state.server
    left = await asyncio.to_thread(state.visits.prepare)
    if left:
        logger.info("deleted %s that an earlier server left", counted(left, "upload"))
    state.settings.collection.mkdir(parents=True, exist_ok=True)
    await state.jobs.start()
    await state.engine.start()
    watch = asyncio.create_task(state.visits.watch())
    try:
        yield
    finally:
        state.stopping.set()
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await state.media.stop()
        await state.engine.stop()
        await state.jobs.stop()
        state.visits.end_all()


async def _answer_http_error(request: Request, error: Exception) -> Response:
    found = as_api_error(error)
    if found.code == "not_found":
        found = ApiError("not_found", f"{request.url.path[:200]}: there is no such address.", "See GET /docs.")
    elif found.code == "method_not_allowed":
        allowed = _methods_of(request)
        message = f"{request.method} {request.url.path[:200]}: there is no such method here."
        found = ApiError(found.code, message, f"Use {' or '.join(allowed)}.", headers={"Allow": ", ".join(allowed)})
    return found.response()


def _methods_of(request: Request) -> list[str]:
    """Return all methods that routes of this address have; Starlette's own answer has those of the first route."""
    found: set[str] = set()
    for route in request.app.state.all_routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        reason = found[0].get("ctx", {}).get("error", "")
        return ApiError("invalid_json", f"the body is not JSON: {reason}.").response()
    where = str(found[0]["loc"][0])  # "body", "query", "path", … stand before the field
    fields = [{**each, "loc": each["loc"][1:]} for each in found]
    return validation_error(fields, where="" if where == "body" else where).response()
