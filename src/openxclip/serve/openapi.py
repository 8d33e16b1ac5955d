"""Parts of the OpenAPI schema that FastAPI can't derive: bodies that are videos, and the one form of errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from openxclip._version import __version__
from openxclip.serve import schemas
from openxclip.serve.answers import ErrorAnswer
from openxclip.serve.errors import CODES
from openxclip.serve.sources import RAW_TYPES

_REF = "#/components/schemas/{model}"
_ALWAYS = ("bad_request", "unauthorized", "host_not_allowed", "origin_not_allowed", "internal_error")
_WITH_BODY = (
    *("invalid_json", "unsupported_media_type", "invalid_request"),
    *("body_too_slow", "body_too_large", "too_many_bodies"),
)
#: Codes of routes that take a video.
VIDEO_CODES = (
    *("invalid_form", "path_not_allowed", "urls_not_allowed", "video_not_found", "upload_not_found", "ambiguous_path"),
    *("video_unreadable", "video_too_long", "video_crashed_decoder", "url_not_fetched", "disk_full"),
)
#: Codes of routes that wait for a process.
ENGINE_CODES = (
    *("queue_full", "not_installed", "model_gone", "model_not_loaded", "out_of_memory", "stopping", "timed_out"),
)
_RETRY = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}

_MODELS = (
    schemas.Moment,
    schemas.ClassifyRequest,
    schemas.TimelineRequest,
    schemas.SearchRequest,
    schemas.EmbeddingsRequest,
    schemas.IndexRequest,
    schemas.SessionRequest,
)


def errors(*codes: str, body: bool = True) -> dict[int | str, dict[str, Any]]:
    """Return the answers with errors that a route can give, by status, with their codes.

    Args:
        codes: codes beside those that every route has.
        body: whether the route reads a body.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for code in dict.fromkeys((*_ALWAYS, *(_WITH_BODY if body else ()), *codes)):
        status, meaning = CODES[code]
        answer = found.setdefault(status, {"model": ErrorAnswer, "description": ""})
        answer["description"] = f"{answer['description']}\n- `{code}`: {meaning}".strip()
        if status == 429:
            answer["headers"] = _RETRY
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return `openapi_extra` of a route whose body is JSON."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def video_body(options: type[BaseModel] | None, body: type[BaseModel] | None) -> dict[str, Any]:
    """Return `openapi_extra` of a route that takes a video as it is, in a form, or by name in JSON.

    Args:
        options: model of the options, which a query has with a video as it is, and a form beside its file.
        body: model of the JSON body; None if there is none.
    """
    schema = {} if options is None else options.model_json_schema(ref_template=_REF)
    fields = {name: _without_null(value) for name, value in schema.get("properties", {}).items()}
    name = {"type": "string", "maxLength": schemas.MAX_TEXT}
    note = "Only if the body is the video itself: other bodies hold the options."
    parameters = [
        {"name": key, "in": "query", "required": False, "description": note, "schema": value}
        for key, value in {"name": {**name, "description": "What to call the video."}, **fields}.items()
    ]
    form = {
        "type": "object",
        "properties": {"file": {"type": "string", "format": "binary"}, **fields},
        "required": ["file", *schema.get("required", [])],
        "additionalProperties": False,
    }
    binary = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = dict.fromkeys(RAW_TYPES, binary)
    content["multipart/form-data"] = {"schema": form}
    if body is not None:
        content["application/json"] = {"schema": {"$ref": _REF.format(model=body.__name__)}}
    return {"requestBody": {"required": True, "content": content}, "parameters": parameters}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field as a text of a query or form, which can't be null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    if not kinds:
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**(kinds[0] if len(kinds) == 1 else {"anyOf": kinds}), **rest}


# What granian answers by itself, before the application sees the request.
_OF_THE_SERVER = {
    "414": {"description": "The address with its query is longer than 64 KiB. The answer has no body."},
    "431": {"description": "The headers are longer than 64 KiB. The answer has no body."},
}


def stream_of_events(description: str) -> dict[str, Any]:
    """Return the description of an answer that is a stream of server-sent events."""
    return {"description": description, "content": {"text/event-stream": {}}}  # a schema would be that of one event


def install(app: FastAPI) -> None:
    """Make the app describe itself with the models of `schemas`, which its routes read by themselves."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title="openxclip",
                version=__version__,
                description="Recognise, search and learn what happens in videos, by words.",
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _, own = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REF)
            components = found.setdefault("components", {})
            known = components.setdefault("schemas", {})
            for name, schema in own.get("$defs", {}).items():
                known.setdefault(name, schema)
            known.pop("HTTPValidationError", None)
            known.pop("ValidationError", None)
            for methods in found["paths"].values():
                for operation in methods.values():
                    operation["responses"] |= _OF_THE_SERVER
            components["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "openxclip_session"},
            }
            if app.state.server.tokens.required:
                found["security"] = [{"token": []}, {"session": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
