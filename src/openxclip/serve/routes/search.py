"""POST /v1/search."""

from __future__ import annotations

import os
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from openxclip.common.counting import counted
from openxclip.serve.answers import SearchAnswer
from openxclip.serve.collection import address
from openxclip.serve.engine.tasks import SearchTask
from openxclip.serve.openapi import ENGINE_CODES, VIDEO_CODES, errors, video_body
from openxclip.serve.schemas import SearchOptions, SearchRequest
from openxclip.serve.sources import Source, open_source
from openxclip.serve.state import ServerState, json_answer, state_of

router = APIRouter(tags=["search"])

_INDEX_CODES = ("no_index", "wrong_index", "index_error")


@router.post(
    "/v1/search",
    summary="Find moments of the collection by a sentence, a video or a moment",
    response_model=None,
    responses={200: {"model": SearchAnswer}, **errors(*_INDEX_CODES, *VIDEO_CODES, *ENGINE_CODES)},
    openapi_extra=video_body(SearchOptions, SearchRequest),
)
async def search(request: Request) -> Response:
    """A sentence and a moment are named in JSON; a video as for /v1/classify."""
    state = state_of(request)
    async with open_source(request, SearchOptions, SearchRequest) as (source, options):
        text = options.query if isinstance(options, SearchRequest) else None
        start, end = options.start, options.end
        moment = options.moment if isinstance(options, SearchRequest) else None
        if moment is not None:
            item = state.collection.file(moment.video)
            source, start, end = Source(item.path, item.id), moment.start, moment.end
        task = SearchTask(
            text=text,
            path=None if source is None else source.path,
            name="" if source is None else source.name,
            start=start,
            end=end,
            k=options.k,
            where=options.where,
            per_video=options.per_video,
            min_score=options.min_score,
            min_similarity=options.min_similarity,
            rerank=options.rerank,
            merge=options.merge,
        )
        result = await state.engine.run(task)
    hits = await to_thread.run_sync(_without_deleted, result["hits"])
    notes, left_out = list(result.get("notes", [])), len(result["hits"]) - len(hits)
    if left_out:
        notes.append(
            f"{left_out} of {counted(len(result['hits']), 'moment')} left out: their files were deleted or moved. "
            "Index the folder again to remove them from the index."
        )
    shown = [_as_hit(state, hit) for hit in hits]
    return json_answer({**result, "model": state.model_id, "hits": shown, "left_out": left_out, "notes": notes})


def _without_deleted(hits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return hits without those of files that are certainly gone; what can't be examined, and addresses, stay."""
    there: dict[str, bool] = {}
    for hit in hits:
        path = hit["path"]
        if path not in there:
            there[path] = not os.path.isabs(path) or _exists(path)  # noqa: PTH117 (names of frames and addresses)
    return [hit for hit in hits if there[hit["path"]]]


def _exists(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _as_hit(state: ServerState, hit: dict[str, Any]) -> dict[str, Any]:
    """Return a hit with the id of its video in place of the path, and with addresses for a page."""
    video = state.collection.id_of(hit["path"])
    shown = {**hit, "path": hit["path"] if video is None else video, "video": video}
    name = shown["path"]
    shown["id"] = f"{name}#t={hit['start']:.3f},{hit['end']:.3f}"
    middle = (hit["best_start"] + hit["best_end"]) / 2
    base = None if video is None else address("videos", video)
    shown["thumbnail"] = None if base is None else f"{base}/frame?t={middle:.3f}&width=320"
    shown["preview"] = None if base is None else f"{base}/stream#t={hit['start']:.3f},{hit['end']:.3f}"
    return shown
