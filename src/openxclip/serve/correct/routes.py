"""Routes of corrections: labels of windows, what to label next, and what is learned from the labels.

The labels are read and written in threads. Everything with numbers of the model runs in the model's process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from openxclip.common.counting import counted
from openxclip.common.files import atomic_file
from openxclip.serve.answers import JobAnswer
from openxclip.serve.bodies import parse_fields, read_json
from openxclip.serve.correct.labels import LabelStore, WindowLabel, as_csv
from openxclip.serve.correct.schemas import (
    ChangeAnswer,
    LabelRequest,
    LabelsAnswer,
    ProposalsAnswer,
    ProposalsQuery,
    RetrainAnswer,
    RetrainRequest,
    TrainRequest,
    WindowRequest,
    body_of,
    query_of,
)
from openxclip.serve.engine.tasks import CallTask
from openxclip.serve.errors import ApiError
from openxclip.serve.openapi import ENGINE_CODES, errors
from openxclip.serve.state import ServerState, json_answer, state_of

router = APIRouter(tags=["corrections"])

#: How windows are proposed unless the request says otherwise: the best in benchmarks/corrections.py.
DEFAULT_ORDER = "typical, then margin"

_PATH_CODES = ("path_not_allowed", "video_not_found", "ambiguous_path")
_END_SLACK_S = 0.1  # by which a window may end after its video, because clients round times
_READ_CODES = ("video_unreadable", "video_too_long", "video_crashed_decoder")
_INDEX_CODES = ("no_index", "wrong_index", "index_error", *ENGINE_CODES)


@router.get(
    "/v1/labels",
    summary="List the labels of windows",
    response_model=None,
    responses={200: {"model": LabelsAnswer}, **errors(body=False)},
)
async def list_labels(request: Request) -> Response:
    """All labels, in the order in which the windows were first labelled."""
    state = state_of(request)
    labels = await _in_thread(_store(state).all)
    counts = dict.fromkeys((label.label for label in labels), 0)
    for label in labels:
        counts[label.label] += 1
    return json_answer({"labels": [_shown(state, label) for label in labels], "counts": counts})


@router.get(
    "/v1/labels.csv",
    summary="Download the labels as a list for openxclip train and eval",
    response_model=None,
    responses={
        200: {"description": "CSV", "content": {"text/csv": {"schema": {"type": "string"}}}},
        **errors(body=False),
    },
)
async def download_labels(request: Request) -> Response:
    """A CSV with the columns path, label, start and end, as docs/datasets.md describes lists."""
    labels = await _in_thread(_store(state_of(request)).all)
    headers = {"Content-Disposition": 'attachment; filename="labels.csv"', "Cache-Control": "no-store"}
    return Response(as_csv(labels), media_type="text/csv", headers=headers)


@router.put(
    "/v1/labels",
    summary="Label a window",
    response_model=None,
    responses={200: {"model": ChangeAnswer}, **errors(*_PATH_CODES, *_READ_CODES, *ENGINE_CODES, "disk_full")},
    openapi_extra=body_of(LabelRequest),
)
async def put_label(request: Request) -> Response:
    """Replaces the label that the window has, if any. Another spelling of a label in use becomes that label.

    The window must lie within the video.
    """
    state, wanted = state_of(request), await read_json(request, LabelRequest)
    path = await _in_thread(partial(_path_of, state, wanted.path))
    await _check_window(state, path, wanted)
    label = WindowLabel(path, wanted.label, wanted.start, wanted.end)
    before, after = await _in_thread(partial(_store(state).put, label))
    return json_answer({"before": _shown(state, before), "after": _shown(state, after)})


@router.delete(
    "/v1/labels",
    summary="Remove the label of a window",
    response_model=None,
    responses={200: {"model": ChangeAnswer}, **errors(*_PATH_CODES, "disk_full")},
    openapi_extra=body_of(WindowRequest),
)
async def delete_label(request: Request) -> Response:
    """A window without a label is no error."""
    state, wanted = state_of(request), await read_json(request, WindowRequest)
    path = await _in_thread(partial(_path_of, state, wanted.path))
    before = await _in_thread(partial(_store(state).remove, path, wanted.start, wanted.end))
    return json_answer({"before": _shown(state, before), "after": None})


@router.post(
    "/v1/labels/undo",
    summary="Take back the last change of a label",
    response_model=None,
    responses={200: {"model": ChangeAnswer}, **errors("disk_full", body=False)},
)
async def undo(request: Request) -> Response:
    """Called again, it takes back the change before. Both values are null if no change is left."""
    state = state_of(request)
    before, after = await _in_thread(_store(state).undo) or (None, None)
    return json_answer({"before": _shown(state, before), "after": _shown(state, after)})


@router.get(
    "/v1/labels/proposals",
    summary="Propose windows to label",
    response_model=None,
    responses={200: {"model": ProposalsAnswer}, **errors("invalid_request", *_INDEX_CODES, body=False)},
    openapi_extra=query_of(ProposalsQuery),
)
async def proposals(request: Request) -> Response:
    """Windows of the index without a label whose labels would teach most, with a guess by all labels so far."""
    state = state_of(request)
    query = parse_fields(request.query_params.multi_items(), ProposalsQuery, "query")
    labels = await _in_thread(_store(state).all)
    found = await _call(
        state,
        "propose_windows",
        labels=labels,
        classes=query.labels,
        count=query.n,
        order=DEFAULT_ORDER if query.order == "default" else query.order,
        seed=0,
    )
    shown = [
        {**each, "path": state.collection.shown(each["path"]), "video": state.collection.id_of(each["path"])}
        for each in found["proposals"]
    ]
    kept = [each for each in shown if each["video"] is not None]
    notes = list(found["notes"])
    if len(kept) < len(shown):
        notes.append(
            f"Left out, because their videos are below no root: {len(shown) - len(kept)} of {len(shown)} windows."
        )
    return json_answer({**found, "proposals": kept, "notes": notes})


@router.post(
    "/v1/labels/retrain",
    summary="Train a head on the labels",
    response_model=None,
    responses={200: {"model": RetrainAnswer}, **errors("disk_full", *_INDEX_CODES)},
    openapi_extra=body_of(RetrainRequest),
)
async def retrain(request: Request) -> Response:
    """Takes seconds: only a linear classifier of the stored features is trained, from the texts' features on.

    Accuracy before and after is that on labels that were held out in turns, not that on the whole collection: windows
    are labelled because they are typical or hard.
    """
    state, wanted = state_of(request), await read_json(request, RetrainRequest)
    labels = await _in_thread(_store(state).all)
    path = state.settings.data / "heads" / f"{wanted.name}.safetensors"
    result = await _call(state, "retrain", labels=labels, classes=wanted.labels, path=path, name=wanted.name)
    return json_answer(result)


@router.post(
    "/v1/labels/train",
    summary="Train a whole model on the labels, as a job",
    status_code=202,
    response_model=None,
    responses={202: {"model": JobAnswer}, **errors("job_not_possible", "disk_full", "stopping")},
    openapi_extra=body_of(TrainRequest),
)
async def train(request: Request) -> Response:
    """As `openxclip train my-videos` on a copy of the labels. Takes minutes or hours; see GET /v1/jobs."""
    state, wanted = state_of(request), await read_json(request, TrainRequest)
    labels = await _in_thread(_store(state).all)
    classes = {label.label for label in labels}
    if len(classes) < 2:
        raise ApiError(
            "job_not_possible",
            f"{counted(len(labels), 'window')} with {counted(len(classes), 'different label')}: two or more labels are "
            "needed to train.",
            "Label more windows.",
        )
    name = wanted.name or time.strftime("corrected-%Y%m%d-%H%M%S")
    copy = state.settings.data / "trained-labels" / f"{name}.csv"
    await _in_thread(partial(_write, copy, as_csv(labels)))
    job = await state.jobs.submit("train", {"labels": str(copy), "name": name, "names": state.collection.names})
    return json_answer(job.as_dict(), 202, {"Location": f"/v1/jobs/{job.id}"})


async def _call(state: ServerState, function: str, **arguments: Any) -> Any:
    return await state.engine.run(CallTask(function=f"windows:{function}", arguments=arguments))


async def _in_thread(function: Callable[[], Any]) -> Any:
    return await to_thread.run_sync(function)


def _store(state: ServerState) -> LabelStore:
    return LabelStore.of(state.settings.data)


def _path_of(state: ServerState, name: str) -> str:
    """Return the path by which labels name a video that a client names by this path or by its id.

    Links below a root are not resolved, because the index has such paths as they are. The file need not exist.
    """
    path = state.collection.spelled(name)
    if os.path.isabs(path) and ".." not in path.split("/") and state.collection.id_of(path) is not None:  # noqa: PTH117
        return path
    return str(state.collection.file(name).path)


async def _check_window(state: ServerState, path: str, window: WindowRequest) -> None:
    """Refuse a window that doesn't lie within its video, which training could not read."""
    name = state.collection.shown(path)
    if not await _in_thread(partial(os.path.exists, path)):
        raise ApiError("video_not_found", f"{name!r:.200}: there is no such file.", "GET /v1/videos lists the videos.")
    report = await state.media.report(Path(path), name)
    if report.get("error"):
        raise ApiError("video_unreadable", f"{name}: {report['error']}", "`openxclip check` says more about a file.")
    duration = report.get("duration")
    if duration is not None and (window.start >= duration or window.end > duration + _END_SLACK_S):
        raise ApiError(
            "invalid_request",
            f"start={window.start:g}, end={window.end:g}: the window must lie within the video, which lasts "
            f"{duration:.3f} s.",
        )


def _shown(state: ServerState, label: WindowLabel | None) -> dict[str, Any] | None:
    if label is None:
        return None
    names = {"path": state.collection.shown(label.path), "video": state.collection.id_of(label.path)}
    return {**vars(label), **names}


def _write(path: Any, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial_path:
        partial_path.write_text(text, encoding="utf-8")
