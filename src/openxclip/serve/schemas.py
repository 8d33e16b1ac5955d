"""What requests contain: checked at run time, and described in the OpenAPI schema. `answers` has what comes back."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

MAX_TEXT = 2000  # characters of a label, a query or a condition
MAX_TEXTS = 2048  # texts of one request for embeddings, OpenAI's limit
MAX_TOP = 1000
HEAD_NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"


def _as_whole(value: Any) -> Any:
    """Let 5.0 be the integer 5, as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_as_whole)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000), BeforeValidator(_as_whole)]
Candidates = Annotated[int, Field(ge=0, le=10_000), BeforeValidator(_as_whole)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e7)]
Length = Annotated[float, Field(gt=0, le=1e7)]


def _only_if_given(value: Any) -> Any:
    """Refuse null where leaving the field out is what is meant, so that "exactly one of" is what the schema says."""
    if value is None:
        raise ValueError("must not be null: leave it out.")
    return value


#: A text that may be left out, but not be null.
Given = Annotated[Text | SkipJsonSchema[None], BeforeValidator(_only_if_given)]
GivenUrl = Annotated[
    Annotated[str, StringConstraints(min_length=5)] | SkipJsonSchema[None], BeforeValidator(_only_if_given)
]
SOURCES = ("path", "url", "upload", "video")


class RequestModel(BaseModel):
    """Base of requests: unknown fields are refused, and values have the type that the schema states."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def _checked_labels(labels: list[str]) -> list[str]:
    """Return labels without spaces at their ends; refuse empty and repeated ones before they wait in a queue."""
    stripped = [label.strip() for label in labels]
    if "" in stripped:
        raise ValueError(f"label {stripped.index('') + 1} of {len(stripped)} is empty.")
    repeated = [label for label, count in Counter(stripped).items() if count > 1]
    if repeated:
        raise ValueError(f"label {repeated[0]!r:.100} is given twice.")
    return stripped


def _checked_template(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError("must have {} once, where the label goes.")
    return template


Labels = Annotated[list[Text], Field(min_length=1), AfterValidator(_checked_labels)]
Template = Annotated[Text, AfterValidator(_checked_template)]


def _exactly_one(names: tuple[str, ...]) -> ConfigDict:
    """Return the part of a model's configuration that states in its schema what `_check_one` checks."""

    def state(schema: dict[str, Any]) -> None:
        schema["oneOf"] = [{"required": [name]} for name in names]
        for name in names:
            schema["properties"][name].pop("default", None)  # null, which is refused

    return ConfigDict(json_schema_extra=state)


def _check_one(model: BaseModel, names: tuple[str, ...]) -> None:
    given = [name for name in names if name in model.model_fields_set]
    if len(given) != 1:
        what = f"{' and '.join(given)} are given" if given else "none is given"
        raise ValueError(f"exactly one of {', '.join(names)} is needed, but {what}.")


class Moment(RequestModel):
    """A part of a video of the collection."""

    video: Text = Field(description="Id of a video of the collection, or the path of a search hit.")
    start: Seconds | None = Field(None, description="Start of the part in seconds.")
    end: Length | None = Field(None, description="End of the part in seconds.")


class SourceFields(RequestModel):
    """A video in a JSON body: one of these fields."""

    path: Given = Field(None, description="Path of a file below a root: absolute, or relative to a root.")
    url: GivenUrl = Field(
        None,
        description="`data:video/mp4;base64,…`; or http and https addresses, if the server allows them.",
    )
    upload: Given = Field(None, description="Id of an upload, from POST /v1/uploads.")
    video: Given = Field(None, description="Id of a video of the collection, from GET /v1/videos.")


class ClassifyOptions(RequestModel):
    """Options of POST /v1/classify."""

    labels: Labels = Field(description="Labels to choose from. In a query or form, repeat the field for each label.")
    top: Whole = Field(5, ge=1, le=MAX_TOP, description="The number of labels in the answer.")
    min_score: Share | None = Field(
        None, description="Score that the best label needs to be the outcome; null is the model's threshold."
    )
    template: Template = Field("{}", description="Text that is encoded for a label, with `{}` for the label.")
    head: Annotated[str, StringConstraints(pattern=HEAD_NAME)] | None = Field(
        None,
        description="Name of a head that was trained by corrections, see POST /v1/labels/retrain. The answer has the "
        "labels of the head; `notes` say which of `labels` it doesn't know. Without `min_score` and `template`.",
    )


class ClassifyRequest(SourceFields, ClassifyOptions):
    """A video by name or as a data URL, and the options."""

    model_config = _exactly_one(SOURCES)

    @model_validator(mode="after")
    def _has_one_source(self) -> ClassifyRequest:
        _check_one(self, SOURCES)
        return self


class TimelineOptions(RequestModel):
    """Options of POST /v1/timeline; times in seconds."""

    labels: Labels = Field(description="Labels to find. In a query or form, repeat the field for each label.")
    window: Length | None = Field(None, description="Length of a window; null is the model's, or 10.")
    stride: Length | None = Field(None, description="Time from one window to the next; null is the model's.")
    threshold: Share | None = Field(None, description="Score from which a segment begins; null is the label's own.")
    stop: Share | None = Field(None, description="Score below which a segment ends; null is 0.1 of the threshold.")
    smooth: Seconds | None = Field(None, description="Average scores this far; null is two strides.")
    min_length: Seconds | None = Field(None, description="Leave out shorter segments; null is one stride.")
    merge_gap: Seconds | None = Field(None, description="Join segments this close; null is one stride.")
    shots: Literal["sampled", "exact"] | None = Field(None, description="Let windows follow the cuts.")
    template: Template = Field("{}", description="Text that is encoded for a label, with `{}` for the label.")
    scores: bool = Field(True, description="Also return the score of each label in each window.")


class TimelineRequest(SourceFields, TimelineOptions):
    """A video by name or as a data URL, and the options."""

    model_config = _exactly_one(SOURCES)

    @model_validator(mode="after")
    def _has_one_source(self) -> TimelineRequest:
        _check_one(self, SOURCES)
        return self


class VideoUrl(RequestModel):
    """A video of a message."""

    url: str = Field(min_length=5, description="`data:video/mp4;base64,…`; or an address, if the server allows it.")


class VideoPart(RequestModel):
    """A video in a message, in vLLM's form."""

    type: Literal["video_url"]
    video_url: VideoUrl


class TextPart(RequestModel):
    """A text in a message."""

    type: Literal["text"]
    text: Text


class Message(RequestModel):
    """A message with exactly one video or text."""

    role: Literal["user"]
    content: Text | Annotated[list[VideoPart | TextPart], Field(min_length=1, max_length=1)]


def _no_tokens(value: Any) -> Any:
    """Refuse lists of tokens with the reason."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int | list):
        raise ValueError("lists of tokens are not taken, because token ids belong to one model: send texts.")
    return _only_if_given(value)


class EmbeddingsRequest(RequestModel):
    """Texts in `input`, or a video in `messages`: exactly one of them."""

    model_config = _exactly_one(("input", "messages"))

    input: Annotated[
        Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)] | SkipJsonSchema[None],
        BeforeValidator(_no_tokens),
    ] = Field(None, description="A text or several. Lists of tokens are refused: token ids belong to one model.")
    messages: Annotated[
        Annotated[list[Message], Field(min_length=1, max_length=1)] | SkipJsonSchema[None],
        BeforeValidator(_only_if_given),
    ] = Field(None, description="One message with a video, as vLLM takes it.")
    model: Text | None = Field(None, description="Name of the model, from GET /v1/models.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = Field(None, description="Only the model's own width.")
    user: str | None = Field(None, max_length=MAX_TEXT, description="Ignored, as by OpenAI for embeddings.")

    @model_validator(mode="after")
    def _has_one_input(self) -> EmbeddingsRequest:
        _check_one(self, ("input", "messages"))
        return self


class SearchOptions(RequestModel):
    """Options of POST /v1/search."""

    k: Whole = Field(10, ge=1, le=MAX_TOP, description="The number of moments.")
    per_video: Count | None = Field(None, description="Most moments of one video.")
    min_score: Share | Literal["auto"] | None = Field(
        None, description="Lowest score, for a query only; auto is the model's threshold."
    )
    min_similarity: Annotated[float, Field(ge=-1, le=1)] | None = Field(None, description="Lowest similarity.")
    where: Text | None = Field(None, description="SQL on path, start, end, duration, size and modified.")
    rerank: Candidates | None = Field(None, description="Candidates to rerank with prompts; 0 for none.")
    merge: bool = Field(True, description="Merge neighbouring windows to one moment.")
    start: Seconds | None = Field(None, description="Search by the part of the video from this time.")
    end: Length | None = Field(None, description="Search by the part of the video up to this time.")


class SearchRequest(SourceFields, SearchOptions):
    """A sentence in `query`, a moment, or a video: exactly one of them."""

    model_config = _exactly_one(("query", "moment", *SOURCES))

    query: Given = Field(None, description="A sentence to search for.")
    moment: Annotated[Moment | SkipJsonSchema[None], BeforeValidator(_only_if_given)] = Field(
        None, description="A part of a video of the collection: more like this."
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> SearchRequest:
        _check_one(self, ("query", "moment", *SOURCES))
        if self.query is None and self.min_score is not None:
            raise ValueError("min_score goes with query: a search by video has no score; use min_similarity.")
        return self


class IndexRequest(RequestModel):
    """Videos to add to the index, or to update: at least one path or upload."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [name], "properties": {name: {"minItems": 1}}} for name in ("paths", "uploads")]
        }
    )

    paths: list[Text] = Field(
        default_factory=list, max_length=10_000, description="Files and folders below a root, or names of roots."
    )
    uploads: list[Text] = Field(
        default_factory=list, max_length=1000, description="Uploads, which are moved to the collection."
    )

    @model_validator(mode="after")
    def _is_not_empty(self) -> IndexRequest:
        if not self.paths and not self.uploads:
            raise ValueError("paths and uploads are both empty: name what to add.")
        return self


class SessionRequest(RequestModel):
    """The token that the server was started with."""

    token: str = Field(max_length=1000)
