"""`train`: from a recipe to a folder with a model in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from openxclip.errors import OpenXCLIPError
from openxclip.files import cannot_read, checked_folder, written_whole
from openxclip.model import XCLIPModel
from openxclip.pipeline import VideoPipeline
from openxclip.processing import XCLIPProcessor
from openxclip.training.augmentation import colour_operations
from openxclip.training.card import card, recipe_lines
from openxclip.training.data import Dataset
from openxclip.training.evaluation import evaluate, evaluate_retrieval, merged, part_of
from openxclip.training.logbook import Logbook
from openxclip.training.loop import StepReport, run
from openxclip.training.planning import Plan, plan
from openxclip.training.processes import Processes, processes
from openxclip.training.recipe import Recipe, read_recipe
from openxclip.training.results import Results
from openxclip.training.starting import check_texts, start_model, training_data

_MAY_DIFFER = frozenset({"workers", "save_every", "eval_every", "clips", "crops"})


class TrainingError(OpenXCLIPError):
    """A training can't begin, or can't go on, where it is asked to."""


@dataclass(frozen=True)
class TrainingResult:
    """How it ended.

    Attributes:
        folder: with the model, if it is finished.
        steps: that are done.
        finished: False if it was asked to stop: the same call goes on.
        results: of the last evaluation; None if there was none.
        unreadable: videos that could not be read, and why.
    """

    folder: Path
    steps: int
    finished: bool
    results: Results | None
    unreadable: dict[str, str]


def plan_training(recipe: Recipe | str | Path, *changes: str) -> Plan:
    """What `train` would do."""
    recipe = _recipe(recipe, changes)
    dataset, val = training_data(recipe)
    model, _ = start_model(recipe)
    return plan(recipe, model, dataset, val)


def train(
    recipe: Recipe | str | Path,
    *changes: str,
    out: str | Path,
    device: torch.device | str | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    say: Callable[[str], Any] = print,
) -> TrainingResult:
    """Train a model as a recipe says; the twin of `openxclip train`. Called again, it goes on where it was stopped.

    Under torchrun all processes call this, and train together.

    Args:
        recipe: one of `openxclip.training.RECIPES`, a YAML file, or a `Recipe`.
        changes: `key=value` each, instead of what the recipe has.
        out: folder for the model: `training/` in it has the state until it is done, and the log.
        device: default is a GPU if there is one, else the CPU.
        on_step: called after each step of the optimizer.
        say: called with what is worth a line.

    Raises:
        OpenXCLIPError: recipe, data or model can't be used, which is named; or `out` holds something else.
        ValueError: no folder can have the name `out`.
    """
    recipe, out = _recipe(recipe, changes), checked_folder(out, of_model=True)
    with processes(device) as group:
        folder = out / "training"
        dataset, val = training_data(recipe)
        begun = _is_begun(out, folder, recipe, dataset) if group.is_main else False
        model, processor = start_model(recipe)
        check_texts(recipe, processor, dataset, val)
        planned = plan(recipe, model, dataset, val, world=group.world)
        if group.is_main and not begun:  # everything has been checked: from here on, something is written
            _begin(folder, recipe, dataset)
        group.of_main(None)  # the others wait until the folder is there
        quiet: Callable[[str], Any] = say if group.is_main else lambda text: None
        for problem in dataset.problems + (val.problems if val else ()):
            quiet(problem)
        quiet(str(planned))
        last: list[Results] = []

        def judge(epoch: int, now: XCLIPModel, log: Logbook | None) -> None:
            if val is None:
                return
            last[:] = [_judged(recipe, now, processor, val, group)]
            if log is not None:
                numbers = {name: value for name, value in last[0].metrics.items() if isinstance(value, int | float)}
                log.write("eval", epoch * -(-len(dataset.samples) // recipe.batch) - 1, **numbers)
            quiet(f"epoch {epoch}: {last[0]}")

        trained = run(recipe, model, processor, dataset, folder, group, on_step=on_step, on_epoch=judge)
        if trained.finished and not last:  # it was killed between its last step and this
            judge(recipe.epochs, trained.model, None)
        results = last[0] if last else None
        if group.is_main and trained.finished:
            _write(out, folder, recipe, trained.model, processor, dataset, results, trained.step, trained.unreadable)
        return TrainingResult(out, trained.step, trained.finished, results, trained.unreadable)


def _recipe(recipe: Recipe | str | Path, changes: Sequence[str]) -> Recipe:
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, changes)
    elif changes:
        raise TrainingError("changes are for a recipe that is read here: use recipe.model_copy(update=…).")
    if recipe.augment.jitter or recipe.augment.grey:
        colour_operations()  # a missing package is reported now, not at the first clip whose colours change
    return recipe


def _judged(recipe: Recipe, model: XCLIPModel, processor: XCLIPProcessor, val: Dataset, group: Processes) -> Results:
    """Of all of `val`, each process having tested a part."""
    before = model.training
    model.eval()
    pipeline = VideoPipeline(model, processor)
    try:
        if not val.classes:
            return evaluate_retrieval(pipeline, val, sampling=recipe.sampling)
        part = part_of(val, group.rank, group.world) if group.world > 1 else val
        mine = evaluate(
            pipeline, part, num_clips=recipe.clips, num_crops=recipe.crops, sampling=recipe.sampling,
            templates=(recipe.template,),
        )  # fmt: skip
        return merged(group.gathered(mine)) if group.world > 1 else mine
    finally:
        pipeline.close()
        model.train(before)


def _facts(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """By what a training is known."""
    return {"recipe": recipe.model_dump(mode="json"), "data": dataset.hash()}


def _is_begun(out: Path, folder: Path, recipe: Recipe, dataset: Dataset) -> bool:
    """Whether this very training was begun there. Nothing is written.

    Raises:
        TrainingError: the folder is of another training or of something else, or this training is finished.
    """
    what, noted = _facts(recipe, dataset), folder / "begun.json"
    try:
        if not noted.exists():
            if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
                raise TrainingError(f"{out}: is there already, and is not the folder of a training: choose another.")
            return False
        before = json.loads(noted.read_text(encoding="utf-8"))
        was, data = dict(before["recipe"]), before["data"]
    except OSError as error:
        raise TrainingError(cannot_read(noted, error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{noted}: is damaged: choose another folder, or delete {out} to begin anew.") from error
    differing = [
        f"{key}={value!r}, was {was.get(key)!r}"
        for key, value in what["recipe"].items()
        if key not in _MAY_DIFFER and was.get(key) != value
    ]
    if data != what["data"]:
        differing.append("the videos")
    if differing:
        raise TrainingError(
            f"{out}: a training was begun there with something else ({'; '.join(differing)}): choose another folder, "
            "or delete this one to begin anew."
        )
    if (out / "config.json").exists():
        raise TrainingError(f"{out}: this training is finished: choose another folder, or delete it to begin anew.")
    return True


def _begin(folder: Path, recipe: Recipe, dataset: Dataset) -> None:
    """Make the folder, and write down what training it is; nothing is left if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / "recipe.yaml") as partial:
            partial.write_text("\n".join(recipe_lines(recipe)) + "\n", "utf-8", "surrogateescape")
        with written_whole(folder / "begun.json") as partial:
            partial.write_text(json.dumps(_facts(recipe, dataset), indent=1) + "\n", encoding="utf-8")
    except BaseException:
        (folder / "recipe.yaml").unlink(missing_ok=True)
        for made in (folder, folder.parent):
            with suppress(OSError):
                made.rmdir()
        raise


def _write(
    out: Path,
    folder: Path,
    recipe: Recipe,
    model: XCLIPModel,
    processor: XCLIPProcessor,
    dataset: Dataset,
    results: Results | None,
    steps: int,
    unreadable: dict[str, str],
) -> None:
    """A whole hub folder: written beside, and moved in file by file, the one that makes it a model last."""
    beside = folder / "model.part"
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    processor.save_pretrained(beside)
    text = card(recipe, dataset, results, steps=steps, unreadable=len(unreadable))
    (beside / "README.md").write_text(text, "utf-8", "surrogateescape")
    if results is not None:
        results.save(beside / "results.json")
    for path in sorted(beside.iterdir(), key=lambda path: path.name == "config.json"):
        path.replace(out / path.name)
    beside.rmdir()
    (folder / "state.safetensors").unlink(missing_ok=True)
