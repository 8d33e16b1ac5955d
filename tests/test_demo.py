"""`make demo` names what each sample clip shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_make_demo_names_what_each_sample_shows() -> None:
    """The recipe of `make demo`, without the set-up."""
    recipe = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (command,) = [line for line in recipe.splitlines() if "openxclip classify" in line]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `openxclip` is the one under test
    done = subprocess.run(
        command.removeprefix(".venv/bin/"),
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(list((ROOT / "samples").glob("*.mp4"))) >= 4
    shown = {Path(row["path"]).stem.replace("_", " "): row["outcome"] for row in rows}
    assert {name: outcome.removeprefix("an ").removeprefix("a ") for name, outcome in shown.items()} == {
        name: name for name in shown
    }


def test_samples_are_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "samples").glob("*.mp4")) <= 2 * 2**20
