"""What each operation sends and what it makes of the answer, for both clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from openxclip.client import answers
from openxclip.client.answers import FoundMoment, Job, ServedIndex, ServedModel
from openxclip.client.errors import told_error
from openxclip.client.sending import Call, Event, Steps, form_fields, without_none
from openxclip.client.sources import ClientVideo, ServerVideo, as_data_url, video_name
from openxclip.errors import VideoError
from openxclip.recognition.results import Classification

if TYPE_CHECKING:
    from openxclip.timelines.timeline import Timeline

OnProgress = Callable[[float, float], object]
TEXTS_AT_ONCE = 256  # in one request for embeddings


def check_texts(texts: Sequence[str], what: str) -> list[str]:
    """Return texts as a list.

    Raises:
        TypeError: `texts` is one text, or has something else.
        ValueError: there are none.
    """
    if isinstance(texts, str):
        raise TypeError(f"{what} must be a list of texts, not one text: did you mean [{texts!r}]?")
    given = list(texts)
    wrong = next((text for text in given if not isinstance(text, str)), None)
    if wrong is not None:
        raise TypeError(f"{what} must be texts, not {type(wrong).__name__}: {wrong!r:.80}.")
    if not given:
        raise ValueError(f"there are no {what}.")
    return given


def with_video(path: str, video: ClientVideo, options: Mapping[str, Any], **more: Any) -> Call:
    """Return a request about one video: JSON for a video of the server, else a form with the file."""
    if isinstance(video, ServerVideo):
        return Call("POST", path, json={**video.as_json(), **without_none(options)}, **more)
    return Call("POST", path, fields=form_fields(options), video=video, **more)


def classify_one(video: ClientVideo, options: Mapping[str, Any]) -> Steps[Classification]:
    """Classify one video; if it can't be read, the result has `error`."""
    name = video_name(video)
    try:
        response = yield with_video("/v1/classify", video, options)
    except VideoError as error:
        return Classification(name, error=error)
    return answers.classification_of(response.json(), name)


def timeline_of_one(video: ClientVideo, options: Mapping[str, Any], on_progress: OnProgress | None) -> Steps[Timeline]:
    """Find when labels are seen in one video; if it can't be read at all, VideoError is raised."""
    name = video_name(video)
    if on_progress is None:
        response = yield with_video("/v1/timeline", video, options)
        return answers.timeline_of(response.json(), name)
    ends: list[Event] = []

    def on_event(event: Event) -> None:
        if event.name == "progress":
            on_progress(float(event.data["done"]), float(event.data["duration"] or "nan"))
        elif event.name in ("result", "error"):
            ends.append(event)

    yield with_video("/v1/timeline", video, options, on_event=on_event, headers={"Accept": "text/event-stream"})
    if not ends:
        raise told_error("connection_lost", "the server ended the stream of events before the result.", "Ask again.")
    told = ends[-1].data
    if ends[-1].name == "error":
        told = told.get("error", told)
        raise told_error(told["code"], told["message"], told.get("hint"), video=name)
    return answers.timeline_of(told, name)


def embed_texts(texts: Sequence[str], model: str | None) -> Steps[NDArray[np.float32]]:
    """Embed texts, some at a time."""
    given = check_texts(texts, "texts")
    parts = []
    for first in range(0, len(given), TEXTS_AT_ONCE):
        body = {"input": given[first : first + TEXTS_AT_ONCE], "encoding_format": "base64", "model": model}
        response = yield Call("POST", "/v1/embeddings", json=without_none(body))
        parts.append(answers.vectors_of(response.json()))
    return np.concatenate(parts)


def embed_video(video: ClientVideo, model: str | None) -> Steps[NDArray[np.float32]]:
    """Embed one video, as one row."""
    url = str(video) if isinstance(video, ServerVideo) and video.url is not None else None
    if isinstance(video, ServerVideo) and url is None:
        raise ValueError(f"{video}: /v1/embeddings takes the content of a video: pass a file, bytes or an address.")
    content = [{"type": "video_url", "video_url": {"url": url or as_data_url(video)}}]
    body = {"messages": [{"role": "user", "content": content}], "encoding_format": "base64", "model": model}
    response = yield Call("POST", "/v1/embeddings", json=without_none(body), video_name=video_name(video))
    return answers.vectors_of(response.json())


def search(
    text: str | None,
    video: ClientVideo | None,
    moment: FoundMoment | None,
    options: Mapping[str, Any],
) -> Steps[list[FoundMoment]]:
    """Search by a text, a video, or a moment of an earlier search."""
    if sum(given is not None for given in (text, video, moment)) != 1:
        raise ValueError("give a text, a video= or a moment=: exactly one of them.")
    if text is not None and not isinstance(text, str):
        raise TypeError(f"text must be a text, not {type(text).__name__}: give a video as video=, a hit as moment=.")
    if video is not None:
        call = with_video("/v1/search", video, options)
    elif moment is not None:
        name = moment.video or moment.path
        part = {"video": name, "start": moment.best_start, "end": moment.best_end}
        call = Call("POST", "/v1/search", json={"moment": part, **without_none(options)})
    else:
        call = Call("POST", "/v1/search", json={"query": text, **without_none(options)})
    response = yield call
    return answers.hits_of(response.json())


def upload(video: ClientVideo) -> Steps[str]:
    """Send a file to be kept for this client's visit, and return the upload's id."""
    if isinstance(video, ServerVideo):
        raise ValueError(f"{video}: the server has it already: name it in paths.")
    response = yield Call("POST", "/v1/uploads", video=video)
    return str(response.json()["id"])


def add_to_index(paths: str | Sequence[str], uploads: Sequence[ClientVideo]) -> Steps[Job]:
    """Start a job that adds videos of the server, and files of this machine, to the index."""
    names = [paths] if isinstance(paths, str) else [str(path) for path in paths]
    if not names and not uploads:
        raise ValueError("there are no videos to add: give paths on the server, or uploads= of this machine.")
    ids: list[str] = []
    for video in uploads:
        name = yield from upload(video)
        ids.append(name)
    response = yield Call("POST", "/v1/index", json={"paths": names, "uploads": ids})
    return answers.job_of(response.json())


def index_info() -> Steps[ServedIndex]:
    """Return what the index holds."""
    response = yield Call("GET", "/v1/index")
    return answers.index_of(response.json())


def models() -> Steps[list[ServedModel]]:
    """Return the models of the server."""
    response = yield Call("GET", "/v1/models")
    return answers.models_of(response.json())


def jobs() -> Steps[list[Job]]:
    """Return the jobs, the newest first."""
    response = yield Call("GET", "/v1/jobs")
    return [answers.job_of(row) for row in response.json()["jobs"]]


def job(job: Job | str, method: Literal["GET", "DELETE"] = "GET") -> Steps[Job]:
    """Return a job as it is now, or cancel it."""
    response = yield Call(method, f"/v1/jobs/{job_id(job)}")
    return answers.job_of(response.json())


def job_id(job: Job | str) -> str:
    """Return the id of a job, for an address.

    Raises:
        ValueError: it is no id.
    """
    name = job.id if isinstance(job, Job) else str(job)
    if not name or not all(letter.isalnum() or letter in "-_" for letter in name):
        raise ValueError(f"job {name!r}: is no id of a job.")
    return name


def classify_options(
    labels: Sequence[str], top_k: int, min_score: float | None, template: str, head: str | None
) -> dict[str, Any]:
    """Return the fields of /v1/classify."""
    return {
        "labels": check_texts(labels, "labels"), "top": top_k, "min_score": min_score, "head": head,
        "template": None if template == "{}" else template,
    }  # fmt: skip


def timeline_options(
    labels: Sequence[str], *, min_duration: float | None, template: str, **options: Any
) -> dict[str, Any]:
    """Return the fields of /v1/timeline."""
    return {
        "labels": check_texts(labels, "labels"), "min_length": min_duration, "scores": True, **options,
        "template": None if template == "{}" else template,
    }  # fmt: skip
