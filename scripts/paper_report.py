"""Tables and plots of the results of paper.py's runs: mean ± standard deviation over the finished seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from paper_runs import FEW, SHOTS, VIEWS, Run

from openxclip.common.figures import new_figure
from openxclip.common.files import atomic_file
from openxclip.evaluation.metrics import mean_and_std
from openxclip.evaluation.plots import save_figure

NAMES = {
    "mean": "mean pooling", "late": "late pooling", "cross-frame": "+ cross-frame attention", "mit": "+ MIT",
    "vectors": "learned vectors", "x-clip": "X-CLIP (+ prompts)",
}  # fmt: skip
COLUMNS = {
    "one thing": ("alone", "top-1"), "cluttered": ("cluttered", "top-1"), "two things": ("two", "top-1"),
    "order": ("alone", "order"), "order, two things": ("two", "order"), "who to whom": ("two", "roles"),
}  # fmt: skip
ZERO = {"unseen pairs": ("unseen pairs", "top-1"), "unseen things": ("unseen things", "top-1"),
        "their order": ("unseen things", "order")}  # fmt: skip

Changed = Callable[[int], Run]


class Results:
    """The finished runs of a folder."""

    def __init__(self, folder: Path, runs: Iterable[Run]) -> None:
        self._seeds = sorted({run.seed for run in runs})
        self._known: dict[str, Any] = {}
        for run in runs:
            path = folder / f"{run.name}.json"
            if path.exists():
                self._known[run.name] = json.loads(path.read_text(encoding="utf-8"))

    def values(self, run: Changed, question: str, kind: str) -> list[float]:
        """Return the share of right answers of each finished seed, in percent."""
        found = (self._known.get(run(seed).name) for seed in self._seeds)
        return [100 * result["answers"][question][kind] for result in found if result]

    def cell(self, run: Changed, question: str, kind: str) -> str:
        """Return a table cell: "82.5 ± 1.2"."""
        values = self.values(run, question, kind)
        if not values:
            return "–"
        mean, deviation = mean_and_std(values)
        return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"

    def hours(self) -> float:
        """Return the total time of the runs."""
        return sum(result["seconds"] for result in self._known.values()) / 3600


def table(first: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Return a Markdown table; `first` is the heading of the rows' names."""
    lines = [f"| {first} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)])


def write_report(folder: Path, runs: Sequence[Run]) -> Path:
    """Write `report.md`, `few_shot.png` and `frames.png` beside the results."""
    results = Results(folder, runs)

    def rows(named: Iterable[tuple[str, Changed]], columns: dict[str, tuple[str, str]]) -> list[tuple[str, list[str]]]:
        return [(name, [results.cell(run, *column) for column in columns.values()]) for name, run in named]

    def method(name: str) -> Changed:
        return lambda seed: Run(name, seed)

    def few_shot(run: Changed, shots: int) -> Changed:
        return lambda seed: replace(run(seed), shots=shots)

    def towers(which: str) -> Changed:
        return lambda seed: Run("x-clip", seed) if which == "both" else Run("x-clip", seed, towers=which)  # type: ignore[arg-type]

    def frames(number: int) -> Changed:
        return lambda seed: Run("x-clip", seed, frames=number)

    named = [(title, method(name)) for name, title in NAMES.items()]
    ladder = [(title, run) for title, run in named if title != NAMES["vectors"]]
    kinds = [("none", method("mit")), ("learned vectors", method("vectors")), ("video-specific", method("x-clip"))]
    eight = {"8-shot": ("alone", "top-1"), "8-shot, two things": ("two", "top-1")}
    which = [(name, towers(name)) for name in ("both", "visual", "text", "none")]
    by_frames = [(str(number), frames(number)) for number in (2, 4, 8, 16)]
    all_zero = COLUMNS | ZERO
    parts = [
        "## Components, fully supervised",
        table("", list(COLUMNS), rows(ladder, COLUMNS)),
        "## Zero-shot",
        table("", list(ZERO), rows(ladder, ZERO)),
        "## Few-shot: top-1 of one thing",
        _few_shot_table(results, method, few_shot, ("alone", "top-1")),
        "## Few-shot: top-1 of two things",
        _few_shot_table(results, method, few_shot, ("two", "top-1")),
        "## Few-shot: order",
        _few_shot_table(results, method, few_shot, ("alone", "order")),
        "## Prompts",
        _both_tables("prompts", results, kinds, few_shot, all_zero, eight),
        "## Trained towers",
        _both_tables("towers", results, which, few_shot, all_zero, eight),
        "## Frames",
        table("frames", list(all_zero), rows(by_frames, all_zero)),
        "## Initial deviation of MIT's positions",
        table(
            "deviation",
            list(COLUMNS),
            rows([("1", method("x-clip")), ("0.02", lambda s: replace(Run("x-clip", s), positions=0.02))], COLUMNS),
        ),
        "## Views of cluttered videos with 32 frames",
        table(
            "clips × crops",
            ["top-1"],
            [(f"{c} × {k}", [results.cell(method("x-clip"), f"views {c}x{k}", "top-1")]) for c, k in VIEWS],
        ),
        f"The finished runs took {results.hours():.1f} hours on one core.",
    ]
    path = folder / "report.md"
    with atomic_file(path) as partial:
        partial.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    _plot(
        folder / "few_shot.png",
        "clips of each class",
        [*FEW, SHOTS],
        [
            (NAMES[name], [
                results.values(few_shot(method(name), k) if k < SHOTS else method(name), "alone", "top-1")
                for k in (*FEW, SHOTS)
            ])
            for name in ("x-clip", "mean", "late")
        ],
    )  # fmt: skip
    asked = {"one thing": ("alone", "top-1"), "cluttered": ("cluttered", "top-1"), "order": ("alone", "order"),
             "unseen things": ("unseen things", "top-1")}  # fmt: skip
    _plot(
        folder / "frames.png",
        "frames",
        [2, 4, 8, 16],
        [(title, [results.values(run, *column) for _, run in by_frames]) for title, column in asked.items()],
    )
    print(f"{path}\n{folder / 'few_shot.png'}\n{folder / 'frames.png'}")
    return path


def _few_shot_table(results: Results, method: Any, few_shot: Any, column: tuple[str, str]) -> str:
    titles = [*map(str, FEW), f"{SHOTS}: supervised"]
    rows = []
    for name in ("mean", "late", "x-clip"):
        cells = [results.cell(few_shot(method(name), shots), *column) for shots in FEW]
        rows.append((NAMES[name], [*cells, results.cell(method(name), *column)]))
    return table("clips of each class", titles, rows)


def _both_tables(first: str, results: Results, named: list, few_shot: Any, columns: dict, few_columns: dict) -> str:
    """Return a table with supervised and zero-shot columns, and columns of 8-shot runs."""
    rows = []
    for name, run in named:
        cells = [results.cell(run, *column) for column in columns.values()]
        rows.append((name, [*cells, *(results.cell(few_shot(run, 8), *column) for column in few_columns.values())]))
    return table(first, [*columns, *few_columns], rows)


def _plot(path: Path, xlabel: str, ticks: Sequence[int], lines: Sequence[tuple[str, list[list[float]]]]) -> None:
    """Plot means with bars of one standard deviation."""
    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    for title, values in lines:
        known = [(x, *mean_and_std(each)) for x, each in zip(ticks, values, strict=True) if each]
        if known:
            x, mean, deviation = zip(*known, strict=True)
            axes.errorbar(x, mean, [value or 0 for value in deviation], marker="o", capsize=3, label=title)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.set(xlabel=xlabel, ylabel="right answers, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)
