"""The settings with which a model finds moments in time: the key `openxclip` of its config.json."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from openxclip.common.argument_names import did_you_mean
from openxclip.config.base import CONFIG_NAME, Config
from openxclip.errors import CheckpointError

CONTRACT_KEY = "openxclip"

#: The texts that stand for "nothing in particular". A label's score is its share against them.
NEUTRAL_TEXTS = ("a video", "a video of something", "a scene", "an empty scene", "nothing happens")
DEFAULT_THRESHOLD = 0.5

_KEYS = ("window", "stride", "frames", "threshold", "neutral_texts", "labels")
_LABEL_KEYS = {"threshold": "threshold", "false_alarms_per_hour": "false_alarms", "extrapolated": "is_extrapolated"}


class Windows(NamedTuple):
    """How a video is cut into windows.

    Attributes:
        window: length of a window, in seconds; None if nothing says it.
        stride: seconds from the start of a window to the start of the next; None if nothing says it.
        num_frames: frames of a window; None is the number that the model was trained with.
    """

    window: float | None
    stride: float | None
    num_frames: int | None


@dataclass(frozen=True, kw_only=True)
class LabelThreshold:
    """The score from which a label counts as seen, chosen from footage in which nothing happens.

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
        threshold: the score from which a label counts as seen, from 0 to 1.
        neutral_texts: the texts that a label's score compares it with.
        labels: thresholds of single labels, set by `openxclip timeline --calibrate`.

    Raises:
        ValueError: a value has the wrong type or is out of range; the message names it by its key in config.json.

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
                raise ValueError(f"{name}={seconds!r:.80}: must be a number of seconds, 0.001 or more.")
        if self.num_frames is not None and not (type(self.num_frames) is int and self.num_frames >= 1):
            raise ValueError(f"frames={self.num_frames!r:.80}: must be a whole number, 1 or more.")
        _check_share("threshold", self.threshold)
        texts = self.neutral_texts
        is_list = isinstance(texts, list | tuple) and len(texts) > 0
        if not is_list or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"neutral_texts={texts!r:.80}: must be a list of one or more texts, none of them empty.")
        object.__setattr__(self, "neutral_texts", tuple(texts))
        for label, own in self.labels.items():
            if not isinstance(own, LabelThreshold):
                raise ValueError(f"labels: {label!r} is {own!r:.80}, but must be a LabelThreshold.")
        object.__setattr__(self, "labels", dict(self.labels))
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

    def windows(
        self, *, window: float | None = None, stride: float | None = None, num_frames: int | None = None
    ) -> Windows:
        """Return how to cut videos into windows: by the arguments, and by the contract where an argument is None.

        The contract's stride belongs to its window. So with another window, a stride that isn't given stays None.

        Args:
            window, stride: seconds, as in the attributes.
            num_frames: frames of a window.

        Examples:
            >>> contract = TimeContract(window=2.0, num_frames=8)
            >>> contract.windows(num_frames=16)
            Windows(window=2.0, stride=1.0, num_frames=16)
            >>> contract.windows(window=10.0)
            Windows(window=10.0, stride=None, num_frames=8)
        """
        if window is None:
            window = self.window
            stride = self.stride_seconds if stride is None else stride
        return Windows(window, stride, self.num_frames if num_frames is None else num_frames)

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
        """Read a contract from plain JSON values. An unknown key is ignored, with a warning; null is the default.

        Raises:
            ValueError: a value has the wrong type or is out of range; the message names it.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"{values!r:.80} must be an object with window, stride and so on.")
        _warn_of_unknown(values, _KEYS)
        renamed: dict[str, Any] = {
            "num_frames": values.get("frames"),
            **{name: values.get(name) for name in ("window", "stride")},
        }
        for name in ("threshold", "neutral_texts"):
            if values.get(name) is not None:
                renamed[name] = values[name]
        labels = {} if values.get("labels") is None else values["labels"]
        if not isinstance(labels, Mapping):
            raise ValueError(f"labels={labels!r:.80}: must be an object with a threshold for each label.")
        return cls(**renamed, labels={str(label): _label_threshold(label, own) for label, own in labels.items()})

    @classmethod
    def of_config(cls, config: Config) -> TimeContract:
        """Return the contract of a model's config; the default contract if the config has none.

        Raises:
            CheckpointError: the contract in the config is invalid; the message names the model, the key and the value.
        """
        values = getattr(config, CONTRACT_KEY, None)
        try:
            return cls() if values is None else cls.from_dict(values)
        except ValueError as error:
            raise CheckpointError(
                f"{config.name_or_path or 'the model'}: {CONFIG_NAME}: {CONTRACT_KEY}: {error}"
            ) from error


def _label_threshold(label: str, values: Any) -> LabelThreshold:
    if not isinstance(values, Mapping):
        raise ValueError(f"labels: {label!r} is {values!r:.80}, but must be an object with its threshold.")
    missing = [name for name in _LABEL_KEYS if name not in values and name != "extrapolated"]
    if missing:
        raise ValueError(f"labels: {label!r} has no {missing[0]}.")
    _warn_of_unknown(values, _LABEL_KEYS)
    try:
        return LabelThreshold(**{name: values[key] for key, name in _LABEL_KEYS.items() if key in values})
    except ValueError as error:
        raise ValueError(f"labels: {label!r}: {error}") from None


def _warn_of_unknown(values: Mapping[Any, Any], known: Iterable[str]) -> None:
    """Warn of keys that are misspelt, or that a newer version wrote."""
    for key in values:
        if key not in known:
            warnings.warn(
                f"the contract of time has an unknown key, which is ignored: {key!r}{did_you_mean(str(key), known)}",
                stacklevel=4,
            )


def _check_share(name: str, value: Any) -> None:
    if not (_is_number(value) and 0 <= value <= 1):
        raise ValueError(f"{name}={value!r:.80}: must be a number from 0 to 1.")


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 1 << 63)
