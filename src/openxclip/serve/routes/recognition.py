"""POST /v1/classify and POST /v1/timeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from openxclip.serve.answers import ClassifyAnswer, TimelineAnswer
from openxclip.serve.engine.tasks import CallTask, ClassifyTask, Task, TimelineTask
from openxclip.serve.errors import ApiError, as_api_error
from openxclip.serve.events import EventResponse, as_event
from openxclip.serve.openapi import ENGINE_CODES, VIDEO_CODES, errors, stream_of_events, video_body
from openxclip.serve.schemas import MAX_TOP, ClassifyOptions, ClassifyRequest, TimelineOptions, TimelineRequest
from openxclip.serve.sources import Source, open_source
from openxclip.serve.state import ServerState, json_answer, state_of

router = APIRouter(tags=["recognition"])

_AT_ONCE = 0.25  # seconds in which a refusal still becomes the status of the answer instead of an event


@router.post(
    "/v1/classify",
    summary="Choose the labels that fit a video",
    response_model=None,
    responses={
        200: {"model": ClassifyAnswer},
        **errors("too_many_labels", "head_not_found", *VIDEO_CODES, *ENGINE_CODES),
    },
    openapi_extra=video_body(ClassifyOptions, ClassifyRequest),
)
async def classify(request: Request) -> Response:
    """The video is the body itself (options in the query), the part `file` of a form, or named in JSON."""
    state = state_of(request)
    async with open_source(request, ClassifyOptions, ClassifyRequest) as (source, options):
        check_labels(state, options.labels)
        assert source is not None  # a ClassifyRequest names one
        if options.head is not None:
            return json_answer(await _classify_with_head(state, source, options, options.head))
        task = ClassifyTask(
            path=source.path,
            name=source.name,
            labels=tuple(options.labels),
            top=options.top,
            min_score=options.min_score,
            template=options.template,
        )
        return json_answer({**await state.engine.run(task), "model": state.model_id})


async def _classify_with_head(
    state: ServerState, source: Source, options: ClassifyOptions, head: str
) -> dict[str, Any]:
    """Classify by a head, which has its own labels."""
    if options.min_score is not None or options.template != "{}":
        raise ApiError("invalid_request", f"head {head!r}: min_score and template have no use with a head.")
    path = state.settings.data / "heads" / f"{head}.safetensors"
    if not path.is_file():
        raise ApiError("head_not_found", f"head {head!r}: there is none.", "Train it with POST /v1/labels/retrain.")
    arguments = {"head": path, "name": head, "top": MAX_TOP}
    task = CallTask(function="windows:classify", arguments=arguments, path=source.path, name=source.name)
    answer = await state.engine.run(task)
    rows = answer["result"]["labels"]
    known = {row["label"] for row in rows}
    unknown = [label for label in options.labels if label not in known]
    notes = list(answer.get("notes", []))
    if unknown:
        notes.append(f"the head {head!r} doesn't know {len(unknown)} of the labels: {', '.join(unknown)[:300]}.")
    result = {**answer["result"], "labels": rows[: options.top]}
    return {"model": state.model_id, "result": result, "notes": notes}


@router.post(
    "/v1/timeline",
    summary="Find when labels are seen in a video",
    response_model=None,
    responses={
        200: {
            "model": TimelineAnswer,
            **stream_of_events(
                "The timeline. With `Accept: text/event-stream` events: `progress` with `done` and `duration` in "
                "seconds, then `result` with the same JSON, or `error` in the form of errors."
            ),
        },
        **errors("too_many_labels", *VIDEO_CODES, *ENGINE_CODES),
    },
    openapi_extra=video_body(TimelineOptions, TimelineRequest),
)
async def timeline(request: Request) -> Response:
    """The video is the body itself (options in the query), the part `file` of a form, or named in JSON."""
    state = state_of(request)
    async with AsyncExitStack() as stack:
        source, options = await stack.enter_async_context(open_source(request, TimelineOptions, TimelineRequest))
        check_labels(state, options.labels)
        assert source is not None  # a TimelineRequest names one
        task = _timeline_task(source, options)
        if "text/event-stream" not in request.headers.get("accept", ""):
            return json_answer({**await state.engine.run(task), "model": state.model_id})
        work = _Work(state, task, stack.pop_all())
    await work.begin()
    return EventResponse(work.events(), state.stopping, on_end=work.end)


def _timeline_task(source: Source, options: TimelineOptions) -> TimelineTask:
    return TimelineTask(
        path=source.path,
        name=source.name,
        labels=tuple(options.labels),
        window=options.window,
        stride=options.stride,
        threshold=options.threshold,
        stop=options.stop,
        smooth=options.smooth,
        min_duration=options.min_length,
        merge_gap=options.merge_gap,
        template=options.template,
        shots=options.shots,
        scores=options.scores,
    )


class _Work:
    """A task whose progress is sent as events.

    Args:
        state: the state of the server.
        task: what to do.
        held: closed at the end: what the task needs, such as the file of the video.
    """

    def __init__(self, state: ServerState, task: Task, held: AsyncExitStack) -> None:
        self._state, self._held = state, held
        self._progress: tuple[float, float] | None = None
        self._news = asyncio.Event()
        self._task = asyncio.ensure_future(state.engine.run(task, on_progress=self._on_progress))
        self._task.add_done_callback(lambda _: self._news.set())

    def _on_progress(self, done: float, duration: float) -> None:
        self._progress = (done, duration)
        self._news.set()

    async def begin(self) -> None:
        """Wait a moment, so that a refusal is raised before the answer begins."""
        try:
            await asyncio.wait({self._task}, timeout=_AT_ONCE)
            if self._task.done():
                self._task.result()
        except BaseException:
            await self.end()
            raise

    async def events(self) -> AsyncIterator[str]:
        """Yield the events."""
        while not self._task.done():
            await self._news.wait()
            self._news.clear()
            if self._progress is not None:
                done, duration = self._progress
                self._progress = None
                yield as_event("progress", {"done": done, "duration": duration})
        yield self._last()

    def _last(self) -> str:
        error = self._task.exception()
        if error is not None:
            return as_event("error", as_api_error(error).body)
        return as_event("result", {**self._task.result(), "model": self._state.model_id})

    async def end(self) -> None:
        """Cancel the task if it still runs, and let go of the video."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._held.aclose()


def check_labels(state: ServerState, labels: list[str]) -> None:
    """Refuse more labels than the server takes.

    Raises:
        ApiError: there are too many.
    """
    limit = state.settings.max_labels
    if len(labels) > limit:
        raise ApiError(
            "too_many_labels",
            f"labels: there are {len(labels)}, but this server takes {limit}.",
            "Send some at a time: scores of labels don't depend on each other.",
        )
