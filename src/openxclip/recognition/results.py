"""What a classification tells about a video."""

from __future__ import annotations

from dataclasses import dataclass

from openxclip.errors import VideoError

NONE_OF_THESE = "none of these"


@dataclass(frozen=True)
class LabelScore:
    """How well one label fits a video.

    Attributes:
        label: the label, without surrounding white space.
        probability: softmax over the labels, averaged over clips. Probabilities sum to 1 even if no label fits: a
            single label has 1 for every video.
        score: softmax over this label and the model's neutral texts only, averaged over clips. Above 0.5, the label
            fits better than all of these together. It doesn't depend on the other labels.
    """

    label: str
    probability: float
    score: float


@dataclass(frozen=True)
class Classification:
    """What a video shows, or why it could not be read.

    Attributes:
        path: the name of the video as it was given; frames in memory are "frames 1", "frames 2", ….
        labels: the best labels, highest probability first; empty if the video could not be read.
        outcome: the best label, or "none of these" if its score is too low (see `Classifier`); None if there is an
            error.
        none_of_these: 1 minus the score of the best label. It doesn't shrink as labels are added.
        times: times of each clip's frames, in seconds.
        error: why the video could not be read; None if it could.
    """

    path: str
    labels: tuple[LabelScore, ...] = ()
    outcome: str | None = None
    none_of_these: float | None = None
    times: tuple[tuple[float, ...], ...] = ()
    error: VideoError | None = None
