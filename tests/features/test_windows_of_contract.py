"""`embed` with `window="auto"`: the windows of the model's contract of time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_contracts import with_contract

from openxclip import CheckpointError, VideoPipeline, embed

# the contracts name another number of frames than the model's
pytestmark = pytest.mark.filterwarnings("ignore:the model's temporal positions")


def load(tiny_folder: Path, target: Path, contract: Any) -> VideoPipeline:
    return VideoPipeline.from_pretrained(with_contract(tiny_folder, target, contract), device="cpu", isolate=False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0.4, 0.2, 3)),
        ({"stride": 0.3}, (0.4, 0.3, 3)),
        ({"num_frames": 4}, (0.4, 0.2, 4)),
    ],
)
def test_windows_are_those_of_the_contract(
    options: dict[str, Any], expected: tuple[float, float, int], tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    pipeline = load(tiny_folder, tmp_path / "model", {"window": 0.4, "frames": 3})  # the stride is half of the window
    video, window, stride, num_frames = clip_folder / "red2.mp4", *expected
    done = embed(video, tmp_path / "auto.npz", model=pipeline, window="auto", **options)
    same = {"window": window, "stride": stride, "num_frames": num_frames}
    embed(video, tmp_path / "said.npz", model=pipeline, **same)
    auto, said = np.load(tmp_path / "auto.npz"), np.load(tmp_path / "said.npz")
    assert done.rows == len(said["start"]) > 1
    for name in ("start", "end", "times", "pooled"):
        np.testing.assert_array_equal(auto[name], said[name])
    assert json.loads(str(auto["openxclip"])) == json.loads(str(said["openxclip"]))


def test_frames_are_the_model_s_if_the_contract_states_none(
    tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    pipeline = load(tiny_folder, tmp_path / "model", {"window": 0.5})
    embed(clip_folder / "red2.mp4", tmp_path / "f.npz", model=pipeline, window="auto")
    assert np.load(tmp_path / "f.npz")["times"].shape[1] == 4


def test_what_cannot_be_taken_is_refused_and_nothing_is_left(
    tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    video, none = clip_folder / "red2.mp4", load(tiny_folder, tmp_path / "none", {"threshold": 0.4})
    wrong = load(tiny_folder, tmp_path / "wrong", {"window": 1, "frames": 0})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"^window=auto: .*none states no window in its contract of time: say how ma"):
        embed(video, tmp_path / "f.npz", model=none, window="auto")
    with pytest.raises(CheckpointError, match=r"wrong: config.json: openxclip: frames=0: must be a whole number"):
        embed(video, tmp_path / "f.npz", model=wrong, window="auto")
    with pytest.raises(ValueError, match=r"^window='long': must be a number of seconds, or 'auto'\.$"):
        embed(video, tmp_path / "f.npz", model=none, window="long")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_clips=2"):
        embed(video, tmp_path / "f.npz", model=none, window="auto", num_clips=2)
    assert sorted(tmp_path.iterdir()) == before
    assert embed(video, tmp_path / "f.npz", model=wrong).rows == 1  # a clip of the whole video needs no contract
