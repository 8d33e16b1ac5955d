"""The scripts of `benchmarks/` at sizes that take a minute. What is asserted is bytes, never time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


def costs(tmp_path: Path, only: str) -> dict[str, Any]:
    run("costs.py", "--small", "--only", only, "--json", tmp_path / "costs.json")
    return dict(json.loads((tmp_path / "costs.json").read_text()))


@pytest.mark.slow
def test_adding_one_file_writes_bytes_that_do_not_depend_on_the_index(tmp_path) -> None:
    rows = costs(tmp_path, "index, one")["rows"]
    assert [row["verb"] for row in rows] == ["index, one touched file", "index, one more file"]
    for row in rows:
        assert max(row["written_mb"]) < 1.2 * min(row["written_mb"]) + 0.02


@pytest.mark.slow
def test_an_index_made_by_single_adds_is_not_much_larger(tmp_path) -> None:
    once, singly = costs(tmp_path, "adds")["index"].values()
    assert singly["live"] < 1.5 * once["live"] + 0.7  # at most 32 pieces in each of two tables, of some 10 kB
    assert singly["compacted"] < 1.1 * once["compacted"]


@pytest.mark.slow
def test_threads_beside_load(tmp_path) -> None:
    run("busy.py", "--rounds", 1, "--clips", 2, 0, "--output", tmp_path / "busy.json")
    rows = json.loads((tmp_path / "busy.json").read_text())["rows"]
    assert {(row["cores"], row["beside"], row["waiting"]) for row in rows} >= {
        (1, "nothing", "spin"),
        (1, "1 busy loops", "sleep"),
    }
    assert all(row["seconds"] > 0 for row in rows)
