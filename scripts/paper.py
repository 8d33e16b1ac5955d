"""The paper in miniature: measure the effect of each part of X-CLIP in the playground, in under two hours on two cores.

    python scripts/paper.py --out runs/paper                  # train all missing runs, then write the tables
    python scripts/paper.py --out runs/paper --only-report    # write the tables of the finished runs

First an image–text CLIP is trained on single frames, in 3 minutes. Each run starts from it and answers the same
questions. A finished run is a JSON file in the folder, so the same command resumes after an interruption.
docs/paper-in-miniature.md reports the results.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import time
from pathlib import Path

import torch
from paper_report import write_report
from paper_runs import FEW, Run, do, train_clip

SEEDS = (1, 2, 3)


def planned(seed: int) -> list[Run]:
    """Return the runs of one seed. Runs with the same clips follow each other, so that the clips are rendered once."""
    supervised = [Run(method, seed) for method in ("x-clip", "mean", "late", "cross-frame", "mit", "vectors")]
    supervised += [Run("x-clip", seed, towers=towers) for towers in ("visual", "text", "none")]
    supervised += [Run("x-clip", seed, positions=0.02)]
    few_shot = [Run(method, seed, shots) for shots in FEW for method in ("x-clip", "mean", "late")]
    few_shot += [Run(method, seed, 8) for method in ("mit", "vectors")]
    few_shot += [Run("x-clip", seed, 8, towers=towers) for towers in ("visual", "text", "none")]
    frames = [Run("x-clip", seed, frames=frames) for frames in (2, 4, 16)]
    return [*supervised, *sorted(few_shot, key=lambda run: run.shots), *frames]


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the main process handles Ctrl-C
    torch.set_num_threads(1)


def _work(task: tuple[Run, Path]) -> tuple[str, float]:
    run, folder = task
    result = do(run, folder)
    return run.name, result["answers"]["alone"]["top-1"]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="folder of the results")
    parser.add_argument("--workers", type=int, default=2, help="number of simultaneous runs, with one thread each")
    parser.add_argument("--only-report", action="store_true", help="write the tables of the finished runs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = [run for seed in SEEDS for run in planned(seed)]
    if not arguments.only_report:
        torch.set_num_threads(arguments.workers)
        train_clip(arguments.out)
        began = time.monotonic()
        missing = [run for run in runs if not (arguments.out / f"{run.name}.json").exists()]
        # Two runs of one thread are faster than one run of two threads, and give the same numbers with any other load.
        with multiprocessing.get_context("spawn").Pool(arguments.workers, _begin) as pool:
            tasks = [(run, arguments.out) for run in missing]
            for number, (name, right) in enumerate(pool.imap_unordered(_work, tasks), 1):
                minutes = (time.monotonic() - began) / 60
                print(f"{number}/{len(tasks)}  {minutes:.0f} min  {name}: {100 * right:.1f} %", flush=True)
    write_report(arguments.out, runs)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("Stopped: run the same command to resume.", flush=True)
        raise SystemExit(130) from None
