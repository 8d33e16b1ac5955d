"""`benchmarks/serve.py` for some seconds: what the server answers under load. No times are asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from serving import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_under_load_each_request_is_answered_or_refused(tmp_path: Path) -> None:
    out = tmp_path / "serve.json"
    command = [sys.executable, ROOT / "benchmarks" / "serve.py", "--small", "--only", "openxclip", "--json", out]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    result = json.loads(out.read_text())
    assert result["exit_status"] == {"openxclip": 0}
    for name, row in result["rows"].items():
        assert set(row["statuses"]) <= {"200", "429"}, (name, row)
        assert set(row["codes"]) <= {"queue_full"}, (name, row)
        assert row["statuses"]["200"] > 0
        assert row["memory_growth_mb"] < 60, (name, row)
    many = result["rows"]["openxclip, 200 clients"]
    assert many["statuses"]["429"] > 0, "the queue has 32 places"
    assert result["rows"]["openxclip, 8 clients (capacity)"]["statuses"].keys() == {"200"}
