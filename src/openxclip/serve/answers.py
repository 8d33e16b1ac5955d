"""What answers contain, as the OpenAPI schema describes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class AnswerModel(BaseModel):
    """Base of answers: later versions may add fields."""

    model_config = ConfigDict(extra="allow")


class ErrorInfo(BaseModel):
    """What is wrong and what to do."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(description="A word for programs, such as `video_unreadable`.", pattern="^[a-z][a-z0-9_]*$")
    message: str = Field(description="What is wrong, with the value.")
    hint: str | None = Field(description="What to do, if there is more to say than the message says.")


class ErrorAnswer(BaseModel):
    """The body of every answer whose status is 400 or more."""

    model_config = ConfigDict(extra="forbid")

    error: ErrorInfo


class LabelResult(AnswerModel):
    """How well a label fits."""

    label: str
    probability: float = Field(description="Compared with the other labels; all of them sum to 1.")
    score: float | None = Field(description="Share against neutral texts, from 0 to 1; null with a head.")


class ClassificationResult(AnswerModel):
    """As `openxclip classify --json` prints it, see docs/json.md."""

    path: str = Field(description="Name of the video, as the client gave it.")
    outcome: str = Field(description='The best label, or "none of these".')
    labels: list[LabelResult]
    none_of_these: float | None
    times: list[list[float | None]] = Field(description="For each clip, the times of its frames in seconds.")


class ClassifyAnswer(AnswerModel):
    """Answer of POST /v1/classify."""

    model: str
    result: ClassificationResult
    notes: list[str] = Field(default_factory=list, description="What was assumed or left out.")


class TimelineLabel(AnswerModel):
    """The best score of a label."""

    label: str
    threshold: float | None
    best: float | None
    best_time: float | None


class TimelineSegment(AnswerModel):
    """When a label is seen."""

    label: str
    start: float
    end: float
    score: float | None
    peak: float | None


class TimelineScores(AnswerModel):
    """The score of each label in each window."""

    start: list[float]
    end: list[float]
    labels: dict[str, list[float | None]]


class TimelineResult(AnswerModel):
    """As `openxclip timeline --json --scores` prints it, see docs/json.md."""

    path: str
    duration: float | None
    fps: float | None
    size: list[int] | None
    window: float | None
    stride: float | None
    windows: int
    reused: int | None = None
    labels: list[TimelineLabel]
    segments: list[TimelineSegment]
    notes: list[str]
    cuts: list[float] | None = None
    scores: TimelineScores | None = None
    error: str | None = Field(None, description="Why the video could not be read to its end.")


class TimelineAnswer(AnswerModel):
    """Answer of POST /v1/timeline, and data of its event `result`."""

    model: str
    result: TimelineResult
    notes: list[str] = Field(default_factory=list, description="What was assumed or left out.")


class Embedding(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(
        description="Of length 1: a list, or the base64 of its little-endian float32 values."
    )


class Usage(BaseModel):
    """Tokens of the texts; 0 for videos."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """OpenAI's list of embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class SearchHit(AnswerModel):
    """As `openxclip search --json` prints it, see docs/json.md, with addresses for a page."""

    id: str = Field(description="Identifies the moment: the video and the times.")
    path: str = Field(description="Path of the video in the index.")
    start: float
    end: float
    best_start: float
    best_end: float
    windows: int
    duration: float | None
    score: float | None
    similarity: float
    reranked: bool
    video: str | None = Field(description="Id of the video in the collection; null if it is below no root.")
    thumbnail: str | None = Field(description="Address of a JPEG of the best window; null if it is below no root.")
    preview: str | None = Field(description="Address of the playing video; null if it is below no root.")


class SearchAnswer(AnswerModel):
    """Answer of POST /v1/search, the best moment first."""

    hits: list[SearchHit]
    left_out: int = Field(0, description="Number of moments that were left out because their files are gone.")
    notes: list[str] = Field(default_factory=list, description="What was assumed or left out.")


class IndexAnswer(AnswerModel):
    """What the index holds."""

    videos: int
    windows: int
    model: str | None
    window: float | None = None
    stride: float | None = None


class JobError(AnswerModel):
    """Why a job failed."""

    code: str
    message: str
    hint: str | None = None


class JobAnswer(AnswerModel):
    """A job; times in seconds since 1970."""

    id: str
    kind: str = Field(description='"index" or "train".')
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    created: float
    started: float | None = None
    finished: float | None = None
    progress: dict[str, Any] | None = Field(None, description="`done`, `total` and what is done now.")
    result: dict[str, Any] | None = None
    error: JobError | None = None


class JobList(AnswerModel):
    """Jobs, the newest first."""

    jobs: list[JobAnswer]


class ModelInfo(AnswerModel):
    """A model, in OpenAI's shape with more fields."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    precision: str | None
    device: str | None
    state: Literal["unloaded", "loading", "ready", "failed"]


class ModelList(BaseModel):
    """OpenAI's list of models."""

    object: Literal["list"]
    data: list[ModelInfo]


class HealthAnswer(BaseModel):
    """The server answers."""

    status: Literal["ok"]


class ReadyAnswer(AnswerModel):
    """Whether requests are answered at once."""

    status: Literal["ready", "idle", "loading"]
    model: str
    queue: int
    running: int
    problem: str | None = Field(
        None, description="Why the index can't be searched, although the model is loaded; only with the token."
    )


class UploadAnswer(AnswerModel):
    """An upload, which is deleted when its visit ends."""

    id: str
    name: str
    size: int = Field(description="Bytes.")
    expires: float = Field(description="Seconds until it is deleted if no further request comes.")
    duration: float | None = Field(None, description="Seconds; null if it isn't known yet.")


class VideoItem(AnswerModel):
    """A video of the collection."""

    id: str = Field(description="Name of the root and path below it.")
    name: str
    root: str
    size: int
    modified: float


class VideoList(AnswerModel):
    """A page of the collection."""

    videos: list[VideoItem]
    total: int
    next: int | None = Field(description="`offset` of the next page; null at the end.")
    roots: list[str]


class VideoInfo(AnswerModel):
    """As `openxclip check --json` prints it, see docs/json.md."""

    path: str
    plays: bool = Field(description="Whether browsers play the file itself; otherwise a preview is made.")


class SessionAnswer(BaseModel):
    """Whether a token is needed, and whether this client has shown it."""

    required: bool
    authenticated: bool


class PreparingAnswer(AnswerModel):
    """A preview is being made; ask again after `Retry-After` seconds."""

    status: Literal["preparing"]
    progress: float | None = Field(description="Share that is done, from 0 to 1.")
