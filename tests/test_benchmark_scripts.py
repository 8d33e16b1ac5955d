"""The scripts of `benchmarks/` at small sizes. Tests assert bytes, never times."""

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
def test_bytes_written_by_adding_a_file_do_not_depend_on_the_size_of_the_index(tmp_path) -> None:
    rows = costs(tmp_path, "index, one")["rows"]
    assert [row["verb"] for row in rows] == ["index, one touched file", "index, one more file"]
    for row in rows:
        assert max(row["written_mb"]) < 1.2 * min(row["written_mb"]) + 0.02


@pytest.mark.slow
def test_an_index_made_by_single_adds_is_little_larger(tmp_path) -> None:
    at_once, one_by_one = costs(tmp_path, "adds")["index"].values()
    assert one_by_one["live"] < 1.5 * at_once["live"] + 0.7  # 32 fragments of some 10 kB at most in each of two tables
    assert one_by_one["compacted"] < 1.1 * at_once["compacted"]


@pytest.mark.slow
def test_threads_with_other_load(tmp_path) -> None:
    run("busy.py", "--rounds", 1, "--clips", 2, 0, "--output", tmp_path / "busy.json")
    rows = json.loads((tmp_path / "busy.json").read_text())["rows"]
    assert {(row["cores"], row["beside"], row["waiting"]) for row in rows} >= {
        (1, "nothing", "spin"),
        (1, "1 busy loops", "sleep"),
    }
    assert all(row["seconds"] > 0 for row in rows)
