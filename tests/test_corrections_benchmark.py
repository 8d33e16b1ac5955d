"""`benchmarks/corrections.py` on a few clips: one to two minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_typical_windows_teach_three_actions_that_mini_never_saw(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "corrections.py"), "--small", "--json", str(out)]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(out.read_text(encoding="utf-8"))
    zero_shot, by_order = result["zero-shot"]["mean"], result["accuracy"]["even"]
    typical = by_order["typical, then margin from 1"]
    assert typical["20"]["mean"] > max(0.8, zero_shot + 0.3)
    assert typical["5"]["mean"] > by_order["margin"]["5"]["mean"], "without labels, what seems uncertain misleads"
    for counts in by_order.values():
        low, high = counts["20"]["95 %"]
        assert low <= counts["20"]["mean"] <= high
