"""`evaluate_recipe`: a model judged by a recipe's data, clips and crops, with its files of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from openxclip.common.files import cannot_write, checked_folder, written_whole
from openxclip.common.memory import is_out_of_memory
from openxclip.datasets import describe_problems
from openxclip.engine import Precision
from openxclip.errors import MissingPackageError, NotWrittenError, OpenXCLIPError
from openxclip.evaluation.metrics import Bin, Calibration, mean_and_std
from openxclip.evaluation.plots import draw_confusion, draw_reliability, write_confusion_table
from openxclip.evaluation.protocols import evaluate, evaluate_retrieval
from openxclip.evaluation.results import Results, confusion_of
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.loading import as_pipeline
from openxclip.recipes import Recipe, read_recipe
from openxclip.recipes.data import evaluation_data


def evaluate_recipe(
    recipe: Recipe | str | Path,
    *changes: str,
    model: str | Path | VideoPipeline,
    out: str | Path | None = None,
    templates: Sequence[str] = (),
    use_prompts: bool = True,
    device: torch.device | str | None = None,
    precision: Precision | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> Results:
    """How good a model is by a recipe's protocol; the twin of `openxclip eval`.

    Args:
        recipe: one of `openxclip.training.RECIPES`, a YAML file, or a `Recipe`. Its model plays no part.
        changes: `key=value` each, instead of what the recipe has.
        model: see `VideoPipeline.from_pretrained`; or a pipeline.
        out: folder for `results.json`, and, of classes, `confusion.csv`, `confusion.png` and `reliability.png` (the
            plots need `openxclip[plots]`; without it they are left out).
        templates: instead of the recipe's one.
        use_prompts: see `evaluation.evaluate`.
        device, precision: see `VideoPipeline.from_pretrained`.
        on_progress: called after each video with how many are done, and of how many.
        say: called with lines on what is wanting in the data, before the model is loaded.

    Raises:
        OpenXCLIPError: recipe, data or model can't be used, which is named; or memory runs out.
        NotWrittenError: writing to `out` failed at the end; its `result` is the `Results`.
        ValueError: nothing can be written to `out`; nothing is evaluated then.
    """
    folder = None if out is None else checked_folder(out)
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, changes)
    dataset = evaluation_data(recipe)
    if dataset.problems:
        say(describe_problems(dataset))
    pipeline = as_pipeline(model, device=device, precision=precision)
    try:
        if dataset.classes:
            draws = recipe.dataset.unseen or recipe.dataset.shots or recipe.dataset.hold_out
            results = evaluate(
                pipeline, dataset, num_clips=recipe.clips, num_crops=recipe.crops, num_frames=recipe.frames,
                sampling=recipe.sampling, templates=templates or (recipe.template,), use_prompts=use_prompts,
                seed=recipe.seed if draws else None, on_progress=on_progress,
            )  # fmt: skip
        else:
            results = evaluate_retrieval(
                pipeline, dataset, num_frames=recipe.frames, sampling=recipe.sampling, use_prompts=use_prompts,
                on_progress=on_progress,
            )  # fmt: skip
    except ValueError as error:  # of classes or scores: the data's or the model's fault, not the program's
        raise OpenXCLIPError(str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OpenXCLIPError(
            "memory ran out: close other programs, or compute in a narrower precision (bf16 or fp16 on a GPU), or with "
            "fewer frames= and crops=."
        ) from error
    finally:
        if not isinstance(model, VideoPipeline):
            pipeline.close()
    if folder is not None:
        try:
            _write(results, folder)
        except OSError as error:
            with suppress(OSError):  # it isn't empty
                folder.rmdir()
            raise NotWrittenError(_not_written(folder, error), results) from error
    return results


@dataclass(frozen=True)
class Summary:
    """One protocol's results over several splits or draws.

    Attributes:
        results: of each, by what was changed for it, as in "fold=2".
        metrics: of each metric that is one number, the mean, and the sample standard deviation.
    """

    results: dict[str, Results]
    metrics: dict[str, tuple[float, float | None]]

    def __str__(self) -> str:
        lines = [f"{change}: {results}" for change, results in self.results.items()]
        means = (f"{name} {100 * mean:.2f} % ± {100 * (std or 0.0):.2f}" for name, (mean, std) in self.metrics.items())
        return "\n".join([*lines, f"mean ± standard deviation over {len(self.results)}: {', '.join(means)}"])


def evaluate_over(
    recipe: str | Path,
    *changes: str,
    over: Sequence[str],
    model: str | Path | VideoPipeline,
    out: str | Path | None = None,
    device: torch.device | str | None = None,
    precision: Precision | None = None,
    **how: Any,
) -> Summary:
    """One evaluation after the other: the three official splits of HMDB-51 and UCF-101, three draws of Kinetics-600.

    Args:
        recipe, changes: see `evaluate_recipe`.
        over: a change for each evaluation, such as "fold=1", "fold=2", "fold=3".
        model: is loaded once.
        out: folder for a folder of each evaluation, and `summary.json`.
        device, precision: see `VideoPipeline.from_pretrained`.
        **how: templates, use_prompts, on_progress, say: see `evaluate_recipe`.

    Raises:
        OpenXCLIPError: see `evaluate_recipe`; or fewer than two are given, or one twice.
        NotWrittenError: writing to `out` failed; all evaluations are done, and its `result` is the `Summary`.
        ValueError: nothing can be written to `out`.
    """
    if out is not None:
        out = checked_folder(out)
    if len(set(over)) != len(over) or len(over) < 2:
        raise OpenXCLIPError(f"over {', '.join(over) or 'nothing'}: must be two or more different values.")
    recipes = {change: read_recipe(recipe, [*changes, change]) for change in over}
    pipeline = as_pipeline(model, device=device, precision=precision)
    results: dict[str, Results] = {}
    problem = ""
    try:
        for change, one in recipes.items():
            folder = None if out is None or problem else out / change.replace("/", "_")
            try:
                results[change] = evaluate_recipe(one, model=pipeline, out=folder, **how)
            except NotWrittenError as error:
                results[change], problem = cast(Results, error.result), str(error)
    finally:
        if not isinstance(model, VideoPipeline):
            pipeline.close()
    shared = [name for name, value in results[over[0]].metrics.items() if isinstance(value, float)]
    metrics = {name: mean_and_std([one.metrics[name] for one in results.values()]) for name in shared}
    summary = Summary(results, metrics)
    if out is not None and not problem:
        content = {name: {"mean": mean, "std": std} for name, (mean, std) in metrics.items()}
        try:
            with written_whole(out / "summary.json") as partial:
                partial.write_text(
                    json.dumps({"over": list(over), **content}, indent=1, allow_nan=False) + "\n", encoding="utf-8"
                )
        except OSError as error:
            problem = _not_written(out, error)
    if problem:
        raise NotWrittenError(problem, summary)
    return summary


def _not_written(folder: Path, error: OSError) -> str:
    return cannot_write(error.filename or folder, error)


def _write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    if results.task != "classification":
        return
    matrix_KK = confusion_of(results)
    write_confusion_table(matrix_KK, results.classes, folder / "confusion.csv")
    metrics = results.metrics
    calibrated = Calibration(metrics["calibration_error"], tuple(Bin(**one) for one in metrics["reliability"]))
    try:
        draw_confusion(matrix_KK, results.classes, folder / "confusion.png")
        draw_reliability(calibrated, folder / "reliability.png")
    except MissingPackageError:
        pass  # without matplotlib the figures are in results.json all the same
