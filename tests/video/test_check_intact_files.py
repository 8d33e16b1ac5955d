"""`check` finds no problem in intact files, however odd they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from intact_oddities import ODDITIES
from intact_videos import COMBINATIONS, combination

from openxclip.video import inspect
from openxclip.video.damage import missing_frames

ALL = [*COMBINATIONS, *ODDITIES]


def make(name: str, folder: Path) -> Path:
    path = folder / name
    if name in ODDITIES:
        ODDITIES[name](path)
    else:
        combination(name, path)
    return path


def problems(path: Path) -> tuple[str, ...]:
    report = inspect(path, full=True)
    return report.problems if report.error is None else (report.error.reason,)


def test_the_files_are_many_and_distinct() -> None:
    assert len(set(ALL)) == len(ALL) > 550


@pytest.mark.parametrize(
    "name",
    [*COMBINATIONS[::32], *list(ODDITIES)[::9]],
)
def test_no_problem_is_found(name: str, tmp_path: Path) -> None:
    assert problems(make(name, tmp_path)) == ()


@pytest.mark.slow
def test_no_problem_is_found_in_any_file(tmp_path: Path) -> None:
    false_alarms = {}
    for name in ALL:
        path = make(name, tmp_path)
        if found := problems(path):
            false_alarms[name] = found
        path.unlink()
    assert false_alarms == {}


# -- gaps in time ------------------------------------------------------------------------------------------------------


def times(*, count: int = 60, step: float = 0.04, without: tuple[int, ...] = ()) -> np.ndarray:
    return np.array([i * step for i in range(count) if i not in without])


def test_missing_frames_are_found_at_a_constant_rate() -> None:
    assert missing_frames(times(), tick=0.001) is None
    assert (
        missing_frames(times(without=(20,)), tick=0.001) == "1 frame is missing at 0.80 s: the others are 40 ms apart"
    )
    found = missing_frames(times(without=(20, 40, 41)), tick=0.001)
    assert found == "3 frames are missing, the first at 0.80 s: the others are 40 ms apart"
    ntsc = np.round(times(step=1001 / 30000, without=(33,)), 3)
    assert missing_frames(ntsc, tick=0.001) == "1 frame is missing at 1.10 s: the others are 33.4 ms apart"
    assert missing_frames(np.round(times(step=1001 / 30000), 3), tick=0.001) is None


def test_varying_rates_have_no_missing_frames() -> None:
    assert missing_frames(times(without=tuple(range(5, 60, 9))), tick=0.001) is None  # too many for an accident
    assert missing_frames(times(without=tuple(range(10, 50))), tick=0.001) is None  # a pause
    assert missing_frames(np.append(times(), 2.42), tick=0.001) is None  # not a multiple
    assert missing_frames(times(count=8, without=(4,)), tick=0.001) is None  # too few to know a rate
    assert missing_frames(np.cumsum(np.random.default_rng(0).uniform(0.03, 0.05, 80)), tick=0.001) is None
