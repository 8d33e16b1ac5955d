"""What a classification tells about a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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

    def to_dict(self) -> dict[str, Any]:
        """Return the classification as plain values, as a line of `openxclip classify --format jsonl`.

        A video that could not be read has only `path` and `error`.
        """
        if self.error is not None:
            return {"path": self.path, "error": self.error.reason}
        return {
            "path": self.path,
            "outcome": self.outcome,
            "labels": [
                {"label": row.label, "probability": round(row.probability, 6), "score": round(row.score, 6)}
                for row in self.labels
            ],
            "none_of_these": None if self.none_of_these is None else round(self.none_of_these, 6),
            "times": [[round(time, 3) for time in clip] for clip in self.times],
        }
