"""The contract of time of a trained model: the windows in which it looks for moments are as long as its clips."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from openxclip.common.counting import counted
from openxclip.config import TimeContract, XCLIPConfig

_SHORTEST_S = 0.002  # so that the stride is a millisecond or more


def contract_after_training(config: XCLIPConfig, clip_seconds: Sequence[float]) -> TimeContract:
    """Return the contract of a model that was trained on clips of some lengths.

    The window is the median length, and the stride half of it, both rounded to milliseconds. The threshold and the
    neutral texts stay those of the model's contract. The thresholds of single labels are dropped, because they were
    measured with other weights.

    Args:
        config: config of the model.
        clip_seconds: lengths of the training clips, or of some of them, in seconds; none if they are unknown.

    Raises:
        CheckpointError: the contract in the config is invalid.
    """
    before = TimeContract.of_config(config)
    kept = replace(before, window=None, stride=None, labels={})
    if not clip_seconds:
        return replace(kept, num_frames=config.vision_config.num_frames)
    window = max(_SHORTEST_S, round(statistics.median(clip_seconds), 3))
    stride = round(window / 2, 3)
    return replace(kept, window=window, stride=stride, num_frames=config.vision_config.num_frames)


def describe_windows(contract: TimeContract, count: int) -> str:
    """Describe the windows of a contract that `contract_after_training` made from `count` lengths, for the user."""
    if contract.window is None:
        return "the length of no training clip is known, so the model states no window: give --window where it is used"
    return (
        f"the model's window is {contract.window:g} s, the median length of {counted(count, 'training clip')}; windows "
        f"start {contract.stride_seconds:g} s apart"
    )
