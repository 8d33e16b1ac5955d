"""`benchmarks/timeline.py` on a few short films: about a minute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(part: str, folder: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "timeline.py"), part, "--small", "--films", str(folder)]
    subprocess.run(
        [*command, "--output", str(folder / "out.json")], cwd=ROOT, capture_output=True, text=True, check=True
    )


@pytest.mark.slow
def test_segments_are_better_than_windows_alone(tmp_path: Path) -> None:
    run("films", tmp_path)
    result = json.loads((tmp_path / "out.json").read_text())["films, seen"]
    for baseline in ("arg-max", "one threshold"):
        assert result[baseline]["timeline is better by"]["F1@0.5"]["95 %"][0] > 0
    assert result["oracle: scores"]["F1@0.5"] > 0.9, "what limits is not how segments are found"
    assert result["timeline"]["F1@0.5"] > 0.6
    rates = [row["false segments an hour of a label"] for row in result["false segments"]]
    assert rates == sorted(rates, reverse=True), "a higher threshold has fewer"


@pytest.mark.slow
def test_calibration_on_pauses(tmp_path: Path) -> None:
    run("calibration", tmp_path)
    result = json.loads((tmp_path / "out.json").read_text())["calibration"]
    assert result["labels"] == 5
    assert result["0.1/hour"]["extrapolated"]
    low, high = (result[rate]["thresholds"][0] for rate in ("6/hour", "0.1/hour"))
    assert 0 < low < high < 1
