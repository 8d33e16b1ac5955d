"""`train`: from a recipe to a folder with a model in it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from openxclip.common.files import cannot_read, checked_folder, written_whole
from openxclip.common.memory import is_out_of_memory
from openxclip.datasets import Dataset
from openxclip.errors import OpenXCLIPError
from openxclip.evaluation.protocols import evaluate, evaluate_retrieval, merged, part_of
from openxclip.evaluation.results import TOP, Results, numbers_of
from openxclip.model import XCLIPModel
from openxclip.pipeline import VideoPipeline
from openxclip.processing import XCLIPProcessor
from openxclip.recipes import Recipe, read_recipe
from openxclip.recipes.data import training_data
from openxclip.training.augmentation import colour_operations
from openxclip.training.model_card import card, recipe_lines
from openxclip.training.curves import Curves
from openxclip.training.validation import EvalReport, Judgements
from openxclip.training.log import Logbook
from openxclip.training.loop import StepReport, run
from openxclip.training.optimisation import trains
from openxclip.training.planning import Plan, memory_in_use, plan
from openxclip.training.distributed import Processes, processes
from openxclip.training.setup import check_texts, start_model
from openxclip.training.stopping import NothingReadError, StoppedError, asked_to_stop

# What may change when a training resumes: no step depends on it
_MAY_DIFFER = frozenset({"workers", "save_every", "eval_every", "clips", "crops", "patience", "checkpoint_gradients"})


class TrainingError(OpenXCLIPError):
    """A training can't begin, or can't go on, where it is asked to."""


@dataclass(frozen=True)
class TrainingResult:
    """How it ended.

    Attributes:
        folder: with the model, if it is finished.
        steps: that are done.
        finished: False if it was asked to stop: the same call resumes.
        results: of the model in the folder; None if it wasn't judged.
        unreadable: videos that could not be read, and why.
        epoch: whose weights the model has, counted from 1; None if it isn't finished.
    """

    folder: Path
    steps: int
    finished: bool
    results: Results | None
    unreadable: dict[str, str]
    epoch: int | None = None


def plan_training(recipe: Recipe | str | Path, *changes: str) -> Plan:
    """What `train` would do."""
    recipe = _recipe(recipe, changes)
    dataset, val = training_data(recipe)
    beside = memory_in_use()
    model, processor = start_model(recipe)
    return plan(recipe, model, processor, dataset, val, beside=beside)


def train(
    recipe: Recipe | str | Path,
    *changes: str,
    out: str | Path,
    device: torch.device | str | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    on_eval: Callable[[EvalReport], None] = lambda report: None,
    say: Callable[[str], Any] = print,
) -> TrainingResult:
    """Train a model as a recipe says; the twin of `openxclip train`. Called again, it resumes where it was stopped.

    Under torchrun all processes call this, and train together.

    Args:
        recipe: one of `openxclip.training.RECIPES`, a YAML file, or a `Recipe`.
        changes: `key=value` each, instead of what the recipe has.
        out: folder for the model: `training/` in it has the state until it is done, and the log.
        device: default is a GPU if there is one, else the CPU.
        on_step: called after each step of the optimizer, in every process.
        on_eval: called after each evaluation, in every process.
        say: called with what is worth a line.

    Raises:
        OpenXCLIPError: recipe, data or model can't be used, which is named; or `out` holds something else.
        DivergedError: the loss isn't finite, see `openxclip.training.loop.run`; as are the next two.
        StoppedError: memory ran out, or a process that reads videos was killed: the same call resumes.
        NothingReadError: no video can be read; `out` is as it was before.
        ValueError: no folder can have the name `out`.
    """
    recipe, out = _recipe(recipe, changes), checked_folder(out, of_model=True)
    with processes(device) as group:
        folder = out / "training"
        dataset, val = training_data(recipe)
        begun = _is_begun(out, folder, recipe, dataset) if group.is_main else False
        beside = memory_in_use()
        model, processor = start_model(recipe)
        check_texts(recipe, processor, dataset, val)
        _check_metric(recipe, val)
        planned = plan(recipe, model, processor, dataset, val, world=group.world, beside=beside)
        if group.is_main and not begun:  # everything has been checked: from here on, something is written
            _begin(folder, recipe, dataset)
        group.of_main(None)  # the others wait until the folder is there
        quiet: Callable[[str], Any] = say if group.is_main else lambda text: None
        quiet(str(planned))
        curves, judgements, last = Curves(folder), Judgements(folder, recipe, group), list[Results]()
        per_epoch, trained_names = planned.steps_per_epoch, _trained_names(recipe, model)

        def started(step: int, total: int) -> None:
            if group.is_main:
                curves.start(step)
            if step:
                done = f"{step} of {total} steps are done ({step / per_epoch:.2f} of {recipe.epochs} epochs)"
                quiet(f"resumes from the state in {folder}: {done}")

        def stepped(report: StepReport) -> None:
            curves.on_step(report)
            on_step(report)

        def judge(epoch: int, now: XCLIPModel, log: Logbook | None) -> bool:
            if val is None or judgements.has(epoch):
                return judgements.is_enough()
            results = _judged(recipe, now, processor, val, group, stop)
            if results is None:
                return False
            report = judgements.report(epoch, epoch * per_epoch - 1, results)
            if log is not None:
                log.write("eval", report.step, **dict(numbers_of(results.metrics)))
            if group.is_main:
                judgements.keep(report, now, trained_names)
            group.of_main(None)
            judgements.note(report)
            last[:] = [results]
            curves.on_eval(report)
            quiet(str(report))
            on_eval(report)
            return judgements.is_enough()

        with asked_to_stop() as stop:
            try:
                trained = run(
                    recipe, model, processor, dataset, folder, group,
                    stop=stop, on_start=started, on_step=stepped, on_epoch=judge,
                )  # fmt: skip
            except NothingReadError:
                if group.is_main and not begun:
                    shutil.rmtree(folder, ignore_errors=True)
                    with suppress(OSError):
                        out.rmdir()
                raise
            finally:
                curves.close()
            final, results, epoch = trained.model, None, -(-trained.step // per_epoch)
            finished = trained.finished and (val is None or judgements.has(epoch))
            if finished and recipe.keep == "best" and judgements.best is not None:
                epoch = judgements.best
                results = group.of_main(judgements.load_best(final) if group.is_main else None)
            elif finished and val is not None:  # without `last`, it was killed between its last evaluation and this
                results = last[0] if last else _judged(recipe, final, processor, val, group, stop)
                finished = results is not None
        if finished and trained.step < planned.steps_per_epoch * recipe.epochs:
            quiet(f"ended after {trained.step // per_epoch} of {recipe.epochs} epochs: {recipe.patience} evaluations "
                  "in a row were no better")  # fmt: skip
        if group.is_main and finished:
            made = _Made(recipe, dataset, results, trained.step, epoch, trained.unreadable)
            _write(out, folder, made, final, processor)
            judgements.forget_best()
        return TrainingResult(out, trained.step, finished, results, trained.unreadable, epoch if finished else None)


def _trained_names(recipe: Recipe, model: XCLIPModel) -> set[str]:
    return {name for name, _ in model.named_parameters() if trains(name, towers=recipe.towers, loss=recipe.loss)}


def _check_metric(recipe: Recipe, val: Dataset | None) -> None:
    """Refuse to keep the best, or to wait for a better, of what won't be measured."""
    asked = next((name for name in ("keep", "patience", "metric") if _differs_from_default(recipe, name)), None)
    if asked and val is None:
        raise TrainingError(
            f"{asked}={getattr(recipe, asked)}: needs videos to judge by: give val_data=, val_split= or hold_out=."
        )
    if recipe.metric == f"top{TOP}" and val is not None and len(val.classes) <= TOP:
        raise TrainingError(f"metric=top{TOP}: is for more than {TOP} classes, and there are {len(val.classes)}: "
                            "use metric=top1.")  # fmt: skip


def _differs_from_default(recipe: Recipe, name: str) -> bool:
    return bool(getattr(recipe, name) != Recipe.model_fields[name].default)


def _recipe(recipe: Recipe | str | Path, changes: Sequence[str]) -> Recipe:
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, changes)
    elif changes:
        raise TrainingError("changes are for a recipe that is read here: use recipe.model_copy(update=…).")
    if recipe.augment.jitter or recipe.augment.grey:
        colour_operations()  # a missing package is reported now, not at the first clip whose colours change
    return recipe


def _judged(
    recipe: Recipe,
    model: XCLIPModel,
    processor: XCLIPProcessor,
    val: Dataset,
    group: Processes,
    stop: threading.Event,
) -> Results | None:
    """Of all of `val`, each process having tested a part; None if it was asked to stop meanwhile.

    Raises:
        OpenXCLIPError: nothing can be read, or the model's scores are not finite.
        StoppedError: memory ran out.
    """
    before = model.training
    model.eval()
    pipeline = VideoPipeline(model, processor)

    def check(done: int, total: int) -> None:
        if group.world == 1 and stop.is_set():  # several processes wait for each other
            raise _StoppedInBetweenError

    results: Results | None
    try:
        if not val.classes:
            results = evaluate_retrieval(pipeline, val, sampling=recipe.sampling, on_progress=check)
        else:
            part = part_of(val, group.rank, group.world) if group.world > 1 else val
            mine = evaluate(
                pipeline, part, num_clips=recipe.clips, num_crops=recipe.crops, sampling=recipe.sampling,
                templates=(recipe.template,), on_progress=check,
            )  # fmt: skip
            results = merged(group.gathered(mine)) if group.world > 1 else mine
    except _StoppedInBetweenError:
        results = None
    except ValueError as error:  # of the model's scores: the rest was checked
        raise TrainingError(f"the model can't be judged: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise StoppedError(
            "memory ran out while the model was judged. The state is saved: close other programs, or give fewer "
            f"clips= and crops= (they are {recipe.clips} and {recipe.crops}), and run the same command to resume."
        ) from error
    finally:
        pipeline.close()
        model.train(before)
    return None if group.total(stop.is_set())[0] else results  # what read the videos may have been stopped, too


class _StoppedInBetweenError(Exception):
    """An evaluation is given up, since the training was asked to stop."""


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
        was, data = Recipe.model_validate(before["recipe"]).model_dump(mode="json"), before["data"]
    except OSError as error:
        raise TrainingError(cannot_read(noted, error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{noted}: is damaged: choose another folder, or delete {out} to begin anew.") from error
    may_differ = _MAY_DIFFER | ({"batch_per_pass"} if recipe.loss == "classes" else set())
    differing = [
        f"{key}={value!r}, was {was.get(key)!r}"
        for key, value in what["recipe"].items()
        if key not in may_differ and was.get(key) != value
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


@dataclass(frozen=True)
class _Made:
    """What a model was made of: for its card."""

    recipe: Recipe
    dataset: Dataset
    results: Results | None
    steps: int
    epoch: int
    unreadable: dict[str, str]


def _write(out: Path, folder: Path, made: _Made, model: XCLIPModel, processor: XCLIPProcessor) -> None:
    """A whole hub folder: written beside, and moved in file by file, the one that makes it a model last."""
    beside = folder / "model.part"
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    processor.save_pretrained(beside)
    text = card(
        made.recipe, made.dataset, made.results, steps=made.steps, epoch=made.epoch, unreadable=len(made.unreadable)
    )
    (beside / "README.md").write_text(text, "utf-8", "surrogateescape")
    if made.results is not None:
        made.results.save(beside / "results.json")
    for path in sorted(beside.iterdir(), key=lambda path: path.name == "config.json"):
        path.replace(out / path.name)
    beside.rmdir()
    (folder / "state.safetensors").unlink(missing_ok=True)
