"""benchmarks/gpu.py as a process on the CPU, with a tiny model. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
ERRORS = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}  # relative, that an answer may have
START = """
import runpy, sys
sys.modules.update(dict.fromkeys({absent!r}))  # to import one is an error, as where it isn't installed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(folder: Path, absent: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The printed lines and the JSON of a run where some packages are absent."""
    given = [str(SCRIPT), "--device", "cpu", "--tiny", "--json", str(folder / "gpu.json")]
    command = [sys.executable, "-c", START.format(absent=absent), *given]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), json.loads((folder / "gpu.json").read_text(encoding="utf-8"))


def expected(peer: bool) -> set[tuple[str, str]]:
    """Case and way of each row but the GEMMs'."""
    plain, optimized = "openxclip plain", "openxclip optimized"
    rows: set[tuple[str, str]] = set()
    for precision in ERRORS:
        one = [f"tiny video, {precision}, x 1", f"tiny video, {precision}, x 2"]
        one += [f"tiny 7 texts, cold, {precision}", f"tiny prompts, 8 videos x 7, {precision}"]
        scored = f"tiny next video, same 7 texts, {precision}"
        rows |= {(case, way) for case in [*one, scored] for way in (plain, optimized)}
        rows |= {(case, "transformers") for case in [*one, scored] if peer}
        rows |= {(scored, "transformers by its parts")} if peer else set()
    for precision in ("fp16", "bf16"):
        case = f"tiny training, {precision}, x 2, 7 texts"
        rows |= {(case, "openxclip")}
        rows |= {(case, "transformers"), (case, "transformers by its parts")} if peer else set()
    for batch in (1, 2):
        case = f"tiny video, fp16, x {batch}, compile"
        rows |= {(case, plain), (case, optimized), (case, f"{optimized}, compiled")}
        rows |= {(case, "transformers"), (case, "transformers compiled, default")} if peer else set()
    if peer:
        rows.add(("tiny video, fp16, x 1, compile", "transformers compiled, reduce-overhead"))
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    "absent",
    [
        ["av", "click", "rich"],
        # all that its rows without a peer do without: of openxclip's requirements, what isn't torch, numpy, safetensors
        ["transformers", "huggingface_hub", "av", "PIL", "click", "rich", "tokenizers", "lazy_loader"],
    ],
    ids=["beside transformers", "alone"],
)
def test_all_rows_are_measured(absent: list[str], tmp_path: Path) -> None:
    printed, found = run(tmp_path, absent)
    peer = "transformers" not in absent
    assert found["left_out"] == []
    rows = {(row["case"], row["way"]): row for row in found["rows"] if not row["way"].startswith("GEMM")}
    assert set(rows) == expected(peer)
    for (case, way), row in rows.items():
        precision = next(name for name in ERRORS if name in case)
        assert row["error"] <= ERRORS[precision], (case, way)
        assert row["ms"] > 0
        assert ("ratio" in row) == peer
        assert any(line.startswith(f"{case} ") and f" {way} " in line for line in printed), (case, way)
    products = {row["way"] for row in found["rows"]} - {way for _, way in rows}
    assert products == {"GEMM fp32", "GEMM fp16", "GEMM bf16", "GEMM tf32"}
    assert set(found["gemm_peak_flops"]) == {*ERRORS, "tf32"}
    assert found["torch"]
    assert found["commit"]
    assert "is not used" not in "".join(found["remarks"])  # no prepared path was refused


@pytest.mark.slow
def test_rows_left_out_for_lack_of_time_are_named(tmp_path: Path) -> None:
    given = ["--device", "cpu", "--tiny", "--budget", "0", "--json", str(tmp_path / "gpu.json")]
    done = subprocess.run([sys.executable, str(SCRIPT), *given], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert found["rows"] == []
    assert any(what.startswith("tiny video, fp16: TimeoutError") for what in found["left_out"])
    assert all(what in done.stdout for what in found["left_out"])
