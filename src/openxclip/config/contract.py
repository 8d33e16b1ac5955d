"""The settings with which a model finds moments in time: the key `openxclip` of its config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openxclip.config.base import Config

CONTRACT_KEY = "openxclip"

#: The texts that stand for "nothing in particular". A label's score is its share against them.
NEUTRAL_TEXTS = ("a video", "a video of something", "a scene", "an empty scene", "nothing happens")
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class LabelThreshold:
    """The score above which a label counts as seen, from footage without any events.

    Attributes:
        threshold: the score, from 0 to 1.
        false_alarms: the rate of false alarms for which it was chosen, per hour.
        is_extrapolated: whether the threshold was extrapolated, because the footage was too short for so low a rate.
    """

    threshold: float
    false_alarms: float
    is_extrapolated: bool = False

    def __post_init__(self) -> None:
        _check_share("threshold", self.threshold)
        if not _is_number(self.false_alarms) or not 0 < self.false_alarms < math.inf:
            raise ValueError(f"false_alarms={self.false_alarms!r}: must be a number above 0, per hour.")
        if not isinstance(self.is_extrapolated, bool):
            raise ValueError(f"is_extrapolated={self.is_extrapolated!r}: must be true or false.")


@dataclass(frozen=True, kw_only=True)
class TimeContract:
    """The settings with which a model finds moments, which are used where no option says otherwise.

    Attributes:
        window: length of a window, in seconds; None if the model states none.
        stride: seconds from the start of a window to the start of the next; None is half of `window`.
        num_frames: frames of a window; None is the number that the model was trained with.
        threshold: the score above which a label counts as seen, from 0 to 1.
        neutral_texts: the texts that a label's score compares it with.
        labels: thresholds of single labels, set by `openxclip timeline --calibrate`.

    Raises:
        ValueError: a value has the wrong type or is out of range.

    Examples:
        >>> TimeContract(window=2.0).stride_seconds
        1.0
    """

    window: float | None = None
    stride: float | None = None
    num_frames: int | None = None
    threshold: float = DEFAULT_THRESHOLD
    neutral_texts: tuple[str, ...] = NEUTRAL_TEXTS
    labels: Mapping[str, LabelThreshold] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            seconds = getattr(self, name)
            if seconds is not None and not (_is_number(seconds) and 0.001 <= seconds < math.inf):
                raise ValueError(f"{name}={seconds!r:.80}: must be 0.001 seconds or more.")
        if self.num_frames is not None and not (type(self.num_frames) is int and self.num_frames >= 1):
            raise ValueError(f"frames={self.num_frames!r:.80}: must be a whole number, 1 or more.")
        _check_share("threshold", self.threshold)
        texts = self.neutral_texts
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"neutral_texts={texts!r:.80}: must be a list of one or more texts, none of them empty.")
        object.__setattr__(self, "neutral_texts", tuple(texts))
        if self.stride is not None and self.window is None:
            raise ValueError(f"stride={self.stride:g} is from one window to the next: give window too.")

    @property
    def stride_seconds(self) -> float | None:
        """The stride, which is half of `window` by default; None without a window."""
        return self.stride if self.stride is not None or self.window is None else self.window / 2

    def threshold_of(self, label: str) -> float:
        """Return the threshold of a label: its own if it was calibrated, else `threshold`."""
        own = self.labels.get(label)
        return self.threshold if own is None else own.threshold

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as plain JSON values, without what is unset."""
        values: dict[str, Any] = {"window": self.window, "stride": self.stride, "frames": self.num_frames}
        values = {name: value for name, value in values.items() if value is not None}
        values |= {"threshold": self.threshold, "neutral_texts": list(self.neutral_texts)}
        if self.labels:
            values["labels"] = {
                label: {
                    "threshold": own.threshold,
                    "false_alarms_per_hour": own.false_alarms,
                    "extrapolated": own.is_extrapolated,
                }
                for label, own in self.labels.items()
            }
        return values

    @classmethod
    def from_dict(cls, values: Any) -> TimeContract:
        """Read a contract from plain JSON values; unknown keys are ignored.

        Raises:
            ValueError: a value has the wrong type or is out of range; the message names it.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"{CONTRACT_KEY}={values!r:.80}: must be an object with window, stride and so on.")
        renamed: dict[str, Any] = {
            "num_frames": values.get("frames"),
            **{name: values.get(name) for name in ("window", "stride")},
        }
        for name in ("threshold", "neutral_texts"):
            if values.get(name) is not None:
                renamed[name] = values[name]
        if isinstance(renamed.get("neutral_texts"), list):
            renamed["neutral_texts"] = tuple(renamed["neutral_texts"])
        labels = values.get("labels") or {}
        if not isinstance(labels, Mapping):
            raise ValueError(f"labels={labels!r:.80}: must be an object with a threshold for each label.")
        return cls(**renamed, labels={str(label): _label_threshold(label, own) for label, own in labels.items()})

    @classmethod
    def of_config(cls, config: Config) -> TimeContract:
        """Return the contract of a model's config; the default contract if the config has none.

        Raises:
            ValueError: the contract in the config is invalid.
        """
        values = getattr(config, CONTRACT_KEY, None)
        return cls() if values is None else cls.from_dict(values)


def _label_threshold(label: str, values: Any) -> LabelThreshold:
    if not isinstance(values, Mapping):
        raise ValueError(f"labels: {label!r} is {values!r:.80}, but must be an object with its threshold.")
    known = {"threshold": "threshold", "false_alarms_per_hour": "false_alarms", "extrapolated": "is_extrapolated"}
    missing = [name for name in known if name not in values and name != "extrapolated"]
    if missing:
        raise ValueError(f"labels: {label!r} has no {missing[0]}.")
    try:
        return LabelThreshold(**{field_: values[name] for name, field_ in known.items() if name in values})
    except ValueError as error:
        raise ValueError(f"labels: {label!r}: {error}") from None


def _check_share(name: str, value: Any) -> None:
    if not (_is_number(value) and 0 <= value <= 1):
        raise ValueError(f"{name}={value!r:.80}: must be a number from 0 to 1.")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
