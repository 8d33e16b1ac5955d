"""What requests about corrections contain, and what comes back, as the OpenAPI schema describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from openxclip.serve.answers import AnswerModel
from openxclip.serve.correct.labels import MAX_LABEL
from openxclip.serve.schemas import Length, RequestModel, Seconds, Text

MAX_PROPOSALS = 100
HEAD_NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"

Label = Annotated[str, StringConstraints(min_length=1, max_length=MAX_LABEL)]
HeadName = Annotated[str, StringConstraints(pattern=HEAD_NAME)]


class WindowRequest(RequestModel):
    """A window of a video of the collection."""

    path: Text = Field(description="Name of the video as in a proposal, or the id of a video of the collection.")
    start: Seconds = Field(description="Start of the window in seconds.")
    end: Length = Field(description="End of the window in seconds.")


class LabelRequest(WindowRequest):
    """A label for a window."""

    label: Label = Field(description="What the window shows. Not a number.")


class RetrainRequest(RequestModel):
    """What to train a head on: all labels of the server."""

    name: HeadName = Field("default", description="Name of the head, which replaces an earlier one of this name.")
    labels: list[Label] = Field(
        default_factory=list, max_length=1000, description="Labels to tell apart beside those that windows have."
    )


class TrainRequest(RequestModel):
    """What to train a model on: all labels of the server."""

    name: HeadName | None = Field(None, description="Name of the new model; null is a name with the time.")


class ProposalsQuery(RequestModel):
    """The query of GET /v1/labels/proposals."""

    n: Annotated[int, Field(ge=1, le=MAX_PROPOSALS)] = Field(12, description="Most windows in the answer.")
    labels: list[Label] = Field(
        default_factory=list,
        max_length=1000,
        description="Labels to guess from beside those that windows have. Repeat the field for each label.",
    )
    order: Literal["default", "typical", "margin", "random"] = Field(
        "default", description="How windows are chosen; docs/serve.md says how the default does."
    )


class LabelledWindow(AnswerModel):
    """A label of a window."""

    path: str = Field(description="Name of the video: the name of a root and the path below it.")
    video: str | None = Field(description="Id of the video; null if it is below no root any more.")
    label: str
    start: float = Field(description="Seconds.")
    end: float = Field(description="Seconds.")


class LabelsAnswer(AnswerModel):
    """Answer of GET /v1/labels."""

    labels: list[LabelledWindow] = Field(description="In the order in which the windows were first labelled.")
    counts: dict[str, int] = Field(description="Number of windows by label.")


class ChangeAnswer(AnswerModel):
    """Answer of a change of one label."""

    before: LabelledWindow | None = Field(description="The label that the window had; null if it had none.")
    after: LabelledWindow | None = Field(description="The label that the window has now; null if it has none.")


class Proposal(AnswerModel):
    """A window that is worth a label."""

    path: str = Field(description="Name of the video: the name of a root and the path below it.")
    video: str = Field(description="Id of the video.")
    start: float = Field(description="Seconds.")
    end: float = Field(description="Seconds.")
    label: str | None = Field(description="The best guess; null if there are no labels to guess from.")
    probability: float | None = Field(description="Probability of the guess, compared with the other labels.")


class ProposalsAnswer(AnswerModel):
    """Answer of GET /v1/labels/proposals."""

    order: Literal["typical", "margin", "random"] = Field(description="How the windows were chosen.")
    proposals: list[Proposal] = Field(description="The most useful first.")
    windows: int = Field(description="Number of windows in the index.")
    notes: list[str] = Field(description="What was left out, and why.")


class RetrainAnswer(AnswerModel):
    """Answer of POST /v1/labels/retrain."""

    before: float | None = Field(
        description="Accuracy of the model alone on held-out labels; null if none was held out."
    )
    after: float | None = Field(description="Accuracy of heads that were trained without the held-out labels.")
    held_out: int = Field(description="Number of labels that were held out, each once.")
    left_out: int = Field(description="Number of labels that could not be held out.")
    groups: Literal["video", "moment", "none"] = Field(description="What was held out together.")
    p: float | None = Field(description="Probability of so large a difference by chance (McNemar's exact test).")
    outcome: Literal["better", "worse", "unclear"] = Field(description='"unclear" unless p is below 0.05.')
    verdict: str = Field(description="The outcome as a sentence.")
    head: str = Field(description="Name of the head, for `head` of POST /v1/classify.")
    classes: list[str] = Field(description="The labels that the head tells apart.")
    labels: int = Field(description="Number of labels that it was trained on.")
    seconds: float
    notes: list[str] = Field(description="What was left out, and why.")


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return `openapi_extra` of a route whose body is JSON of this model, which must not have models in it."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def query_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return `openapi_extra` of a route whose query has the fields of this model, all of which may be left out."""
    fields = model.model_json_schema()["properties"]
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "description": schema.pop("description"), "schema": schema}
            for name, schema in fields.items()
        ]
    }
