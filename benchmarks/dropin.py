"""Measure import, loading and memory of openxclip and of transformers.

    python benchmarks/dropin.py [--rounds 5] [--threads 2] [--json FILE]

The processes of both run in turns, and medians and their ratio are printed. On a shared machine only the ratio is
meaningful. The weights are random; neither time nor memory depends on them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

MEASURE = """
import re, time
def peak():  # not ru_maxrss, which starts at the size of the parent process
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) / 1024
begun = time.perf_counter()
{imports}
imported, base = time.perf_counter() - begun, peak()
begun = time.perf_counter()
{load}
print(imported, time.perf_counter() - begun, base, peak())
"""


def whole_process(imports: str, load: str = "pass") -> list[float]:
    """Return seconds to import, seconds to load, peak MiB after the import, and peak MiB at the end."""
    script = MEASURE.format(imports=imports, load=load)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [float(value) for value in done.stdout.split()]


def alternating(ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Return the medians of both, measured in turns after a warm-up call of each."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()

    import torch
    import transformers

    from openxclip.benchmarking.measuring import cpu_name

    torch.set_num_threads(options.threads)
    transformers.logging.disable_progress_bar()
    rows: list[dict[str, object]] = []

    def row(what: str, unit: str, ours: float, theirs: float, peer: str) -> None:
        rows.append({"what": what, "unit": unit, "openxclip": ours, "peer": theirs, "ratio": ours / theirs, "of": peer})
        print(f"{what:48} {ours:10.3f} {theirs:10.3f} {unit:4} {ours / theirs:7.2f}  of {peer}", flush=True)

    print(f"{cpu_name()}, {options.threads} threads, {options.rounds} rounds, torch {torch.__version__}, "
          f"transformers {transformers.__version__}")  # fmt: skip
    print(f"{'':48} {'openxclip':>10} {'peer':>10} {'':4} {'ratio':>7}")

    runs = options.rounds
    row("import openxclip", "s", *alternating(
        lambda: whole_process("import torch, openxclip")[0], lambda: whole_process("import torch")[0], runs,
    ), "import torch")  # fmt: skip
    row("import openxclip's XCLIPModel, XCLIPProcessor", "s", *alternating(
        lambda: whole_process("from openxclip import XCLIPModel, XCLIPProcessor")[0],
        lambda: whole_process("import torch")[0], runs,
    ), "import torch")  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        peer = transformers.XCLIPModel(transformers.XCLIPConfig()).eval()
        peer.save_pretrained(folder)
        weights = (Path(folder) / "model.safetensors").stat().st_size / 2**20
        load = f"model = XCLIPModel.from_pretrained({folder!r})"
        touch = f"{load}; total = sum(float(p.sum()) for p in model.parameters())"
        ours_runs, their_runs = [], []
        for _ in range(runs + 1):
            ours_runs.append(whole_process("from openxclip import XCLIPModel", load))
            their_runs.append(whole_process("from transformers import XCLIPModel", load))
        ours_load, their_load = (statistics.median(run[1] for run in each[1:]) for each in (ours_runs, their_runs))
        row(f"from_pretrained, {weights:.0f} MiB, after import", "s", ours_load, their_load, "transformers")
        used = whole_process("from openxclip import XCLIPModel", touch)
        row("peak RSS, every weight touched", "MiB", used[3], used[2] + weights, "RSS after import + weights")

    record = {"cpu": cpu_name(), "threads": options.threads, "rounds": runs, "torch": torch.__version__,
              "transformers": transformers.__version__, "rows": rows}  # fmt: skip
    options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
