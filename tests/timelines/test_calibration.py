"""Thresholds from footage in which nothing happens, and the files in which they are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from openxclip.config import LabelThreshold, TimeContract
from openxclip.errors import OpenXCLIPError
from openxclip.timelines.calibration import calibrate, parse_rate
from openxclip.timelines.contracts import as_contract, contract_file, save_contract
from openxclip.timelines.results import TimelineData
from openxclip.timelines.segments import SegmentOptions, find_segments

LABELS = ("a", "b", "c")
HOUR = 3600.0


def footage(seed: int, hours: float = 1.0, *, stride: float = 1.0) -> TimelineData:
    """Scores that are new every 4 seconds: those of "b" are lower, and those of "c" so high that they round to 1."""
    draw = np.random.default_rng(seed)
    num_windows = int(hours * HOUR / stride)
    logits = draw.normal(-4, 1.5, (num_windows // 4 + 1, 1)).repeat(4, axis=0)[:num_windows]
    logits = np.concatenate([logits, logits - 3, 5 * logits + 25], axis=1) + draw.normal(0, 0.1, (num_windows, 3))
    starts = stride * np.arange(num_windows)
    return TimelineData(
        path="nothing.mp4",
        labels=LABELS,
        starts=starts,
        ends=starts + 2 * stride,
        scores=(1 / (1 + np.exp(-logits))).astype(np.float32),
        stride=stride,
    )


def alarms(timeline: TimelineData, thresholds: dict[str, LabelThreshold], options: SegmentOptions) -> dict[str, int]:
    own = {label: threshold.threshold for label, threshold in thresholds.items()}
    segments = find_segments(timeline.starts, timeline.ends, timeline.scores, LABELS, own, options, stride=1)
    return {label: sum(segment.label == label for segment in segments) for label in LABELS}


@pytest.mark.parametrize(
    ("text", "rate"), [("6/hour", 6.0), ("1/day", 1 / 24), (" 2 / Week ", 2 / 168), ("1e-3/day", 1e-3 / 24)]
)
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["6", "0/hour", "-1/day", "1/month", "1.2.3/day", "one/day", "1/0", ""])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number above 0 per hour, day or week: 6/hour, 1/day or 2/week"):
        parse_rate(text)


@pytest.mark.parametrize("options", [SegmentOptions(), SegmentOptions(stop=0.001, smooth=0, merge_gap=0)])
def test_other_footage_has_as_many_false_alarms_as_wanted(options: SegmentOptions) -> None:
    thresholds = calibrate([footage(0)], 6.0, options)
    found = [alarms(footage(seed, hours=5), thresholds, options) for seed in (1, 2)]
    for label in LABELS[:2]:
        assert 0 < thresholds[label].threshold < 1
        assert thresholds[label].false_alarms == 6
        assert not thresholds[label].is_extrapolated
        assert 30 <= sum(numbers[label] for numbers in found) <= 120, "60 in ten hours"
    assert thresholds["b"].threshold < thresholds["a"].threshold


def test_frequent_alarms_are_counted_as_they_are() -> None:
    options = SegmentOptions()
    thresholds = calibrate([footage(0, hours=3)], 25.0, options)
    assert 70 <= alarms(footage(0, hours=3), thresholds, options)["a"] <= 80


def test_rare_alarms_are_extrapolated_and_marked() -> None:
    hours = [footage(seed, hours=0.5) for seed in range(2)]
    at_1, at_day, at_year = (calibrate(hours, rate)["a"] for rate in (1.0, 1 / 24, 1 / 8760))
    assert (at_1.is_extrapolated, at_day.is_extrapolated, at_year.is_extrapolated) == (False, True, True)
    assert at_1.threshold < at_day.threshold < at_year.threshold < 1
    found = alarms(footage(9, hours=12), dict.fromkeys(LABELS, at_day), SegmentOptions())["a"]
    assert found <= 2, "0.5 are expected"


def test_scores_that_saturate_have_thresholds_below_1() -> None:
    thresholds = calibrate([footage(0)], 1 / 24)
    assert 0.999 < thresholds["c"].threshold <= 1


def test_footage_on_which_nothing_changes() -> None:
    """A still camera with a constant score: the threshold is above it."""
    still = footage(0)
    still.scores[:] = [0.2, 0.0, 1.0]
    thresholds = calibrate([still], 6.0)
    assert 0 < thresholds["b"].threshold < 1e-6
    assert thresholds["c"].threshold <= 1
    rare = calibrate([still], 0.1)
    assert 0.2 < rare["a"].threshold < 0.9
    assert rare["a"].is_extrapolated


def test_a_stop_threshold_is_a_lower_bound() -> None:
    options = SegmentOptions(stop=0.6)
    assert all(0.6 <= own.threshold <= 1 for own in calibrate([footage(0)], 50.0, options).values())


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is only 0:58\.0 of footage to calibrate with: give 1:00\.0 or more"):
        calibrate([footage(0, hours=57 / HOUR)], 6.0)
    with pytest.raises(ValueError, match=r"0:00\.0 of footage"):
        calibrate([], 6.0)
    with pytest.raises(ValueError, match="false_alarms=0: must be a number above 0"):
        calibrate([footage(0)], 0)
    other = TimelineData(
        path="x", labels=("d",), starts=np.zeros(1), ends=np.ones(1), scores=np.ones((1, 1), np.float32)
    )
    with pytest.raises(ValueError, match="different labels"):
        calibrate([footage(0), other], 6.0)


# -- files -------------------------------------------------------------------------------------------------------------

CONTRACT = TimeContract(
    window=2.0, labels={"a café": LabelThreshold(threshold=0.9999999, false_alarms=1 / 24, is_extrapolated=True)}
)


@pytest.mark.parametrize(
    "text",
    [
        '{\n  "model_type": "xclip",\n  "openxclip": {"window": 1, "more": [1, 2]},\n    "list": [1,  2]\n}\n',
        '{\n  "model_type": "xclip",\n    "list": [1,  2]\n}\n',
        '{"model_type": "xclip", "list": [1,  2]}',
        '\ufeff{\r\n\t"model_type": "xclip",\r\n\t"list": [1,  2]\r\n}\r\n',
        '{"openxclip": null, "model_type": "xclip", "list": [1,  2]}',
    ],
)
def test_a_config_keeps_everything_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode())
    assert save_contract(CONTRACT, tmp_path) == path
    written = path.read_bytes().decode()
    assert as_contract(path) == CONTRACT
    content = json.loads(written)
    assert {name: content[name] for name in content if name != "openxclip"} == {"model_type": "xclip", "list": [1, 2]}
    assert '"list": [1,  2]' in written, "as it was formatted"
    assert ("\r\n" in text) == ("\r\n" in written)
    assert "\n\n" not in written.replace("\r\n", "\n")
    save_contract(CONTRACT, path)
    assert path.read_bytes().decode() == written, "the same again"
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_a_file_of_its_own(tmp_path: Path) -> None:
    path = save_contract(CONTRACT, tmp_path / "thresholds.json")
    assert as_contract(path) == CONTRACT
    assert json.loads(path.read_text(encoding="utf-8")) == CONTRACT.to_dict()
    save_contract(TimeContract(), path)
    assert as_contract(path) == TimeContract()


def test_places_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json, so it is not a model's folder"):
        contract_file(tmp_path)
    with pytest.raises(ValueError, match=r"must end with \.json"):
        contract_file(tmp_path / "thresholds.txt")
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(OpenXCLIPError, match=r"config\.json: is not a JSON object"):
        save_contract(CONTRACT, tmp_path)
    assert (tmp_path / "config.json").read_text() == "[1]"


def test_many_equal_highest_scores_give_a_threshold_above_them() -> None:
    """As of two slides in turn: at the highest threshold there are more alarms than the tail is estimated from."""
    scores = np.full((600, 1), 0.01, np.float32)
    scores[np.arange(600) % 10 < 4] = 0.5
    starts = 0.5 * np.arange(600)
    slides = TimelineData(
        path="slides.mp4", labels=("a",), starts=starts, ends=starts + 1, scores=scores, window=1.0, stride=0.5
    )
    assert 0.5 < calibrate([slides], 6.0)["a"].threshold < 1
