"""Evaluate a model by a recipe, once or several times, and write the files of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from openxclip.common.files import atomic_file, cannot_write, checked_folder
from openxclip.common.memory import is_out_of_memory
from openxclip.datasets import Dataset, describe_problems
from openxclip.engine import Precision
from openxclip.errors import MissingPackageError, NotWrittenError, OpenXCLIPError
from openxclip.evaluation.metrics import mean_and_std
from openxclip.evaluation.plots import draw_confusion, draw_reliability, write_confusion_table
from openxclip.evaluation.protocols import OnProgress, evaluate, evaluate_retrieval
from openxclip.evaluation.results import EvaluationProtocol, Results
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
    on_progress: OnProgress = lambda done, total: None,
    say: Callable[[str], object] = lambda text: None,
) -> Results:
    """Evaluate a model by a recipe's data and protocol, as `openxclip eval` does.

    Args:
        recipe: one of `openxclip.recipes.RECIPES`, a YAML file, or a `Recipe`. Its model isn't used.
        changes: `key=value` each, which override the recipe.
        model: see `VideoPipeline.from_pretrained`; or a pipeline.
        out: folder for `results.json` and, with classes, `confusion.csv`, `confusion.png` and `reliability.png` (the
            plots need `openxclip[plots]` and are left out without it).
        templates: override the recipe's template.
        use_prompts: see `evaluation.results.EvaluationProtocol`.
        device, precision: see `VideoPipeline.from_pretrained`.
        on_progress: called after each video with the number of finished videos and their total.
        say: called with the problems of the data before the model is loaded.

    Raises:
        OpenXCLIPError: the recipe, data or model can't be used, or memory runs out.
        NotWrittenError: writing to `out` failed at the end; its `result` is the `Results`.
        ValueError: `out` can't be written; nothing has been evaluated.
    """
    folder = None if out is None else checked_folder(out)
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, changes)
    dataset = evaluation_data(recipe)
    if dataset.problems:
        say(describe_problems(dataset))
    pipeline = as_pipeline(model, device=device, precision=precision)
    try:
        results = _evaluate(recipe, dataset, pipeline, tuple(templates), use_prompts, on_progress)
    except ValueError as error:  # invalid classes or scores come from the data or the model
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
            with suppress(OSError):  # the folder isn't empty
                folder.rmdir()
            raise NotWrittenError(cannot_write(error.filename or folder, error), results) from error
    return results


def _evaluate(
    recipe: Recipe,
    dataset: Dataset,
    pipeline: VideoPipeline,
    templates: tuple[str, ...],
    use_prompts: bool,
    on_progress: OnProgress,
) -> Results:
    if not dataset.classes:
        return evaluate_retrieval(
            pipeline, dataset, num_frames=recipe.frames, sampling=recipe.sampling, use_prompts=use_prompts,
            on_progress=on_progress,
        )  # fmt: skip
    is_random = recipe.dataset.unseen or recipe.dataset.shots or recipe.dataset.hold_out
    protocol = EvaluationProtocol(
        num_clips=recipe.clips, num_crops=recipe.crops, num_frames=recipe.frames, sampling=recipe.sampling,
        templates=templates or (recipe.template,), use_prompts=use_prompts, seed=recipe.seed if is_random else None,
    )  # fmt: skip
    return evaluate(pipeline, dataset, protocol, on_progress=on_progress)


def _write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    if results.task != "classification":
        return
    matrix_KK, classes, metrics = results.confusion_matrix(), results.classes, results.metrics
    write_confusion_table(matrix_KK, classes, folder / "confusion.csv")
    with suppress(MissingPackageError):  # without matplotlib, results.json still has the numbers
        draw_confusion(matrix_KK, classes, folder / "confusion.png")
        draw_reliability(metrics["calibration_error"], metrics["reliability"], folder / "reliability.png")


@dataclass(frozen=True)
class Summary:
    """The results of one protocol on several splits or random draws.

    Attributes:
        results: the results by the change that was made, such as "fold=2".
        metrics: mean and sample standard deviation of each metric that is a single number.
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
    **options: Any,
) -> Summary:
    """Evaluate several times, such as on the official splits of HMDB-51, or on random draws of Kinetics-600.

    Args:
        recipe, changes: see `evaluate_recipe`.
        over: a change for each evaluation, such as "fold=1", "fold=2", "fold=3".
        model: see `evaluate_recipe`; it is loaded once.
        out: folder for a subfolder of each evaluation, and for `summary.json`.
        device, precision: see `VideoPipeline.from_pretrained`.
        **options: templates, use_prompts, on_progress and say, see `evaluate_recipe`.

    Raises:
        OpenXCLIPError: see `evaluate_recipe`; or `over` has fewer than two changes, or one twice.
        NotWrittenError: writing to `out` failed; all evaluations are done, and its `result` is the `Summary`.
        ValueError: `out` can't be written; nothing has been evaluated.
    """
    if out is not None:
        out = checked_folder(out)
    if len(set(over)) != len(over) or len(over) < 2:
        raise OpenXCLIPError(f"over {', '.join(over) or 'nothing'}: must be two or more different values.")
    recipes = {change: read_recipe(recipe, [*changes, change]) for change in over}
    pipeline = as_pipeline(model, device=device, precision=precision)
    results: dict[str, Results] = {}
    write_error = ""  # the first failure to write; later evaluations write nothing
    try:
        for change, changed in recipes.items():
            folder = None if out is None or write_error else out / change.replace("/", "_")
            try:
                results[change] = evaluate_recipe(changed, model=pipeline, out=folder, **options)
            except NotWrittenError as error:
                results[change], write_error = cast(Results, error.result), str(error)
    finally:
        if not isinstance(model, VideoPipeline):
            pipeline.close()
    names = [name for name, value in results[over[0]].metrics.items() if isinstance(value, float)]
    metrics = {name: mean_and_std([result.metrics[name] for result in results.values()]) for name in names}
    summary = Summary(results, metrics)
    if out is not None and not write_error:
        content = {name: {"mean": mean, "std": std} for name, (mean, std) in metrics.items()}
        text = json.dumps({"over": list(over), **content}, indent=1, allow_nan=False) + "\n"
        try:
            with atomic_file(out / "summary.json") as partial:
                partial.write_text(text, encoding="utf-8")
        except OSError as error:
            write_error = cannot_write(error.filename or out, error)
    if write_error:
        raise NotWrittenError(write_error, summary)
    return summary
