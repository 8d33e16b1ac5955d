"""Make the library's results of what a server answers."""

from __future__ import annotations

import base64
import math
import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openxclip.client.errors import told_error
from openxclip.errors import OpenXCLIPError, VideoError
from openxclip.recognition.results import Classification, LabelScore
from openxclip.search.results import Hit

if TYPE_CHECKING:
    from openxclip.timelines.timeline import Timeline


@dataclass(frozen=True, kw_only=True)
class FoundMoment(Hit):
    """A hit of a search on a server, with its addresses there; `Hit` describes the other attributes.

    `path` is the id of the video if it is below a root of the server.

    Attributes:
        id: identifies the moment: the video and the times.
        video: id of the video in the server's collection, as `ServerVideo(video=…)` takes it; None if the file is below
            none of the server's roots.
        thumbnail: address of a JPEG of the best window on the server, such as "/v1/videos/…"; None as for `video`.
        preview: address of the playing video; None as for `video`.
    """

    id: str = ""
    video: str | None = None
    thumbnail: str | None = None
    preview: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model of a server.

    Attributes:
        id: name of the model.
        precision: "fp32", "bf16" or "fp16"; None if it isn't loaded.
        device: "cpu", "cuda", …; None if it isn't loaded.
        state: "unloaded", "loading", "ready" or "failed".
        contract: the model's contract of time as a dict; None if it has none, or isn't loaded.
    """

    id: str
    precision: str | None = None
    device: str | None = None
    state: str = "unloaded"
    contract: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ServedIndex:
    """The index of a server.

    Attributes:
        videos, windows: numbers of searchable videos and windows.
        model: name of the model that made it.
        window, stride: length of a window, and the time from one window to the next, in seconds.
    """

    videos: int
    windows: int
    model: str | None = None
    window: float | None = None
    stride: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work that the server does in a process of its own, and goes on with after a restart.

    Attributes:
        id: identifies the job.
        kind: "index" or "train".
        state: "queued", "running", "done", "failed" or "cancelled".
        created, started, finished: times in seconds since 1970; None if it isn't there yet.
        progress: what is done and how much there is, as a dict; None before the start.
        result: what the job gave, as a dict; None until it is done.
        error: why it failed; None if it didn't.
    """

    id: str
    kind: str
    state: str
    created: float = math.nan
    started: float | None = None
    finished: float | None = None
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: OpenXCLIPError | None = None

    @property
    def is_over(self) -> bool:
        """Whether the job is done, failed or cancelled."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """An event of a job.

    Attributes:
        id: number of the event, from which a listener can go on.
        kind: what it is about, such as "progress" or "state".
        data: the values, as a dict.
    """

    id: str
    kind: str
    data: dict[str, Any]


def classification_of(answer: dict[str, Any], name: str) -> Classification:
    """Return the result of /v1/classify; `name` is what the caller called the video."""
    told = answer["result"]
    warn_of(answer)
    labels = tuple(LabelScore(row["label"], row["probability"], _number(row["score"])) for row in told["labels"])
    times = tuple(tuple(_number(time) for time in clip) for clip in told["times"])
    return Classification(name, labels, told["outcome"], told["none_of_these"], times)


def timeline_of(answer: dict[str, Any], name: str) -> Timeline:
    """Return the result of /v1/timeline, with the scores of its windows if they were asked for."""
    from openxclip.timelines.results import Segment
    from openxclip.timelines.timeline import Timeline  # imports PyAV, which other results don't need

    told = answer["result"]
    labels = tuple(row["label"] for row in told["labels"])
    windows = told.get("scores") or {"start": [], "end": [], "labels": {}}
    columns = [[_number(score) for score in windows["labels"].get(label, ())] for label in labels]
    scores_WK = np.array(columns, np.float32).reshape(len(labels), len(windows["start"])).T
    segments = tuple(
        Segment(**_known(Segment, {**row, "score": _number(row["score"]), "peak": _number(row["peak"])}))
        for row in told["segments"]
    )
    cuts, error = told.get("cuts"), told.get("error")
    return Timeline(
        path=name,
        labels=labels,
        starts=np.array(windows["start"], np.float64),
        ends=np.array(windows["end"], np.float64),
        scores=np.ascontiguousarray(scores_WK),
        window=_number(told["window"]),
        stride=_number(told["stride"]),
        segments=segments,
        thresholds={row["label"]: row["threshold"] for row in told["labels"] if row["threshold"] is not None},
        duration=_number(told["duration"]),
        fps=_number(told["fps"]),
        size=tuple(told["size"] or (0, 0)),
        cuts=None if cuts is None else tuple(cuts),
        reused=told.get("reused") or 0,
        notes=tuple(told["notes"]),
        error=None if error is None else VideoError(name, error),
    )


def vectors_of(answer: dict[str, Any]) -> NDArray[np.float32]:
    """Return the vectors of /v1/embeddings in base64, in the order of their index, of shape (N, E)."""
    rows = sorted(answer["data"], key=lambda row: int(row["index"]))
    return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in rows]).astype(np.float32)


def hits_of(answer: dict[str, Any]) -> list[FoundMoment]:
    """Return the result of /v1/search."""
    warn_of(answer)
    return [FoundMoment(**_known(FoundMoment, {**row, "duration": _number(row["duration"])})) for row in answer["hits"]]


def models_of(answer: dict[str, Any]) -> list[ServedModel]:
    """Return the result of /v1/models."""
    return [ServedModel(**_known(ServedModel, row)) for row in answer["data"]]


def index_of(answer: dict[str, Any]) -> ServedIndex:
    """Return the description of the index."""
    return ServedIndex(**_known(ServedIndex, answer))


def job_of(answer: dict[str, Any]) -> Job:
    """Return a job as the server tells it."""
    told = answer.get("error")
    error = None if told is None else told_error(told["code"], told["message"], told.get("hint"))
    return Job(**_known(Job, {**answer, "error": error}))


def warn_of(answer: dict[str, Any]) -> None:
    """Warn of what the server cut or assumed, as the library does."""
    for note in answer.get("notes", ()):
        warnings.warn(str(note), stacklevel=2)


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Leave out fields of a later version."""
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
