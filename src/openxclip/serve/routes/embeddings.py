"""POST /v1/embeddings, in OpenAI's shape."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from openxclip.serve.answers import EmbeddingsAnswer
from openxclip.serve.bodies import media_type, parse_json, unsupported
from openxclip.serve.engine.tasks import EmbedTextsTask, EmbedVideoTask
from openxclip.serve.errors import ApiError
from openxclip.serve.openapi import ENGINE_CODES, VIDEO_CODES, errors, json_body
from openxclip.serve.schemas import EmbeddingsRequest, TextPart
from openxclip.serve.sources import url_source
from openxclip.serve.state import ServerState, json_answer, state_of

router = APIRouter(tags=["embeddings"])


@router.post(
    "/v1/embeddings",
    summary="Compute the features of texts or of a video",
    response_model=None,
    responses={200: {"model": EmbeddingsAnswer}, **errors("model_not_found", *VIDEO_CODES, *ENGINE_CODES)},
    openapi_extra=json_body(EmbeddingsRequest),
)
async def embeddings(request: Request) -> Response:
    """As OpenAI's for texts, and as vLLM's for a video. Vectors have length 1, so a dot product is a cosine."""
    state = state_of(request)
    kind = media_type(request.headers)
    if kind != "application/json":
        raise unsupported(kind, "application/json")
    body = await request.body()
    given = parse_json(body, EmbeddingsRequest)
    check_model(state, given.model)
    result, tokens = await _run(state, given)
    rows = result["embeddings"]
    width = int(rows.shape[1])
    if given.dimensions not in (None, width):
        raise ApiError(
            "invalid_request",
            f"dimensions={given.dimensions}: the vectors of this model have {width} values and can't be shortened.",
            "Leave dimensions out.",
        )
    data = [
        {"object": "embedding", "index": number, "embedding": _as_asked(row, given.encoding_format)}
        for number, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_answer({"object": "list", "data": data, "model": state.model_id, "usage": usage})


async def _run(state: ServerState, given: EmbeddingsRequest) -> tuple[dict[str, Any], int]:
    if given.input is not None:
        texts = (given.input,) if isinstance(given.input, str) else tuple(given.input)
        return await _run_texts(state, texts)
    assert given.messages is not None  # one of both is given
    content = given.messages[0].content
    part = TextPart(type="text", text=content) if isinstance(content, str) else content[0]
    if isinstance(part, TextPart):
        return await _run_texts(state, (part.text,))
    async with url_source(state, part.video_url.url) as source:
        return await state.engine.run(EmbedVideoTask(path=source.path, name=source.name)), 0


async def _run_texts(state: ServerState, texts: tuple[str, ...]) -> tuple[dict[str, Any], int]:
    result = await state.engine.run(EmbedTextsTask(texts=texts))
    return result, int(result["tokens"])


def _as_asked(row: Any, encoding: str) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    values: list[float] = row.tolist()
    return values


def check_model(state: ServerState, name: str | None) -> None:
    """Refuse a model that this server doesn't serve.

    Raises:
        ApiError: it is another one.
    """
    if name not in (None, state.model_id, state.settings.model):
        raise ApiError(
            "model_not_found",
            f"model {name!r:.100}: this server has {state.model_id!r}.",
            "Leave model out, or use it.",
        )
