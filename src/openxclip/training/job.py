"""Train a model as a recipe says, and write its folder (`train`); plan such a training (`plan_training`)."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from openxclip.common.files import checked_folder
from openxclip.config.contract import CONTRACT_KEY
from openxclip.evaluation.results import Results, scalar_metrics
from openxclip.model import XCLIPModel
from openxclip.recipes import Recipe, read_recipe
from openxclip.recipes.data import training_data
from openxclip.training.augmentation import import_colour_operations
from openxclip.training.contract import contract_after_training, describe_windows
from openxclip.training.distributed import Processes, join_processes
from openxclip.training.errors import NothingReadError, TrainingError
from openxclip.training.folder import check_folder, create_folder, remove_folder, write_model
from openxclip.training.log import TrainingLog
from openxclip.training.loop import LoopResult, StepReport, TrainingLoop
from openxclip.training.model_card import model_card
from openxclip.training.planning import Plan, make_plan, memory_in_use
from openxclip.training.setup import Setup, check_texts, load_model
from openxclip.training.validation import EvalHistory, EvalReport, check_metric, validate


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        folder: folder that has the model if the training is finished.
        steps: number of steps that are done.
        finished: False if the training was asked to stop; the same call resumes it.
        results: results of the model in the folder, or None if it wasn't evaluated.
        unreadable: why videos could not be read, by path.
        epoch: epoch whose weights the model has, counted from 1; None if the training isn't finished.
    """

    folder: Path
    steps: int
    finished: bool
    results: Results | None
    unreadable: dict[str, str]
    epoch: int | None = None


def plan_training(recipe: Recipe | str | Path, *changes: str) -> Plan:
    """Return what `train` would do with the same recipe and changes."""
    recipe = _resolve(recipe, changes)
    dataset, val = training_data(recipe)
    memory_before = memory_in_use()
    setup = Setup(recipe, *load_model(recipe), dataset, val, Processes(0, 1, torch.device("cpu")))
    return make_plan(setup, memory_before=memory_before)


def train(
    recipe: Recipe | str | Path,
    *changes: str,
    out: str | Path,
    device: torch.device | str | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    on_eval: Callable[[EvalReport], None] = lambda report: None,
    say: Callable[[str], Any] = print,
) -> TrainingResult:
    """Train a model as a recipe says, as `openxclip train` does. The same call resumes a stopped training.

    Under torchrun all processes call this, and train together.

    Args:
        recipe: one of `openxclip.recipes.RECIPES`, a YAML file, or a `Recipe`.
        changes: `key=value` each, to replace values of the recipe.
        out: folder for the model. Its subfolder `training` holds the log and, until the training is finished, the
            state.
        device: device to train on; default is a GPU if there is one, else the CPU.
        on_step: called after each optimizer step, in every process.
        on_eval: called after each evaluation, in every process.
        say: called with each message for the user.

    Raises:
        OpenXCLIPError: the recipe, its data or its model can't be used, or `out` has other files.
        DivergedError: the loss or the model's outputs are not finite.
        StoppedError: memory ran out, or a process that reads videos was killed. The same call resumes.
        NothingReadError: no video can be read; `out` is as it was before.
        ValueError: `out` can't be the name of a folder.
    """
    recipe, out = _resolve(recipe, changes), checked_folder(out, of_model=True)
    with join_processes(device) as processes:
        dataset, val = training_data(recipe)
        is_resumed = processes.is_main and check_folder(out, recipe, dataset)
        memory_before = memory_in_use()
        setup = Setup(recipe, *load_model(recipe), dataset, val, processes)
        check_texts(setup)
        check_metric(recipe, val)
        plan = make_plan(setup, memory_before=memory_before)
        if processes.is_main and not is_resumed:  # everything has been checked
            create_folder(out, recipe, dataset)
        processes.wait_for_main()
        if processes.is_main:
            say(str(plan))
        try:
            return _Job(setup, out, on_step, on_eval, say).run()
        except NothingReadError:
            if processes.is_main and not is_resumed:
                remove_folder(out)
            raise


def _resolve(recipe: Recipe | str | Path, changes: Sequence[str]) -> Recipe:
    """Read the recipe if it isn't one yet, and check that the packages it needs are installed."""
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, changes)
    elif changes:
        raise TrainingError("changes can't be combined with a Recipe: use recipe.model_copy(update=…).")
    if recipe.augment.jitter or recipe.augment.grey:
        import_colour_operations()  # reports a missing package now, not at the first clip whose colours change
    return recipe


class _Job:
    """Run one call of `train`, after everything was checked."""

    def __init__(
        self,
        setup: Setup,
        out: Path,
        on_step: Callable[[StepReport], None],
        on_eval: Callable[[EvalReport], None],
        say: Callable[[str], Any],
    ) -> None:
        self._setup, self._out, self._folder = setup, out, out / "training"
        self._on_step, self._on_eval = on_step, on_eval
        self._say = say if setup.processes.is_main else lambda text: None
        self._history = EvalHistory(self._folder, setup.recipe, setup.processes)
        self._last_results: Results | None = None
        self._steps_per_epoch = math.ceil(len(setup.dataset.samples) / setup.recipe.batch)

    def run(self) -> TrainingResult:
        """Train, evaluate and write the model."""
        with _stop_on_signals() as self._stop:
            end = self._train()
            results, epoch = self._evaluate_final(end)
        if epoch is not None:
            self._finish(end, results, epoch)
        return TrainingResult(self._out, end.step, epoch is not None, results, end.unreadable, epoch)

    def _finish(self, end: LoopResult, results: Results | None, epoch: int) -> None:
        recipe, dataset = self._setup.recipe, self._setup.dataset
        epochs = end.step // self._steps_per_epoch
        if epochs < recipe.epochs:
            reason = f"{recipe.patience} evaluations in a row were no better"
            self._say(f"ended after {epochs} of {recipe.epochs} epochs: {reason}")
        if self._setup.processes.is_main:
            contract = contract_after_training(self._setup.model.config, end.clip_seconds)
            setattr(end.model.config, CONTRACT_KEY, contract.to_dict())
            self._say(describe_windows(contract, len(end.clip_seconds)))
            card = model_card(
                recipe, dataset, results, contract, steps=end.step, epoch=epoch, unreadable=len(end.unreadable)
            )
            write_model(self._out, end.model, self._setup.processor, card, results)
            self._history.delete_best()

    def _train(self) -> LoopResult:
        loop = TrainingLoop(
            self._setup, self._folder, stop=self._stop, on_step=self._on_step, on_epoch=self._evaluate_epoch
        )
        if loop.step:
            epochs = f"{loop.step / self._steps_per_epoch:.2f} of {self._setup.recipe.epochs} epochs"
            done = f"{loop.step} of {loop.total_steps} steps are done ({epochs})"
            self._say(f"resumes from the state in {self._folder}: {done}")
        return loop.run()

    def _evaluate_epoch(self, epoch: int, model: XCLIPModel, log: TrainingLog | None) -> bool:
        """Evaluate the model after an epoch; return whether the training ends early."""
        if self._setup.val is not None and not self._history.has(epoch):
            results = validate(self._setup, model, self._stop)
            if results is None:
                return False
            self._report_eval(self._history.report(epoch, epoch * self._steps_per_epoch - 1, results), model, log)
        return self._history.is_patience_exhausted()

    def _report_eval(self, report: EvalReport, model: XCLIPModel, log: TrainingLog | None) -> None:
        if log is not None:
            log.write("eval", report.step, **dict(scalar_metrics(report.results.metrics)))
        self._history.record(report, model)
        self._last_results = report.results
        self._say(str(report))
        self._on_eval(report)

    def _evaluate_final(self, end: LoopResult) -> tuple[Results | None, int | None]:
        """Load the best weights if the recipe keeps them.

        Returns:
            The results of the final model, if there is validation data, and the epoch of its weights; (None, None) if
            the training isn't finished.
        """
        epoch = math.ceil(end.step / self._steps_per_epoch)
        if self._setup.val is None:
            return None, epoch if end.finished else None
        if not end.finished or not self._history.has(epoch):
            return None, None
        if self._setup.recipe.keep == "best":
            return self._history.load_best(end.model), self._history.best_epoch
        # There are no last results if the program was killed after it recorded the last evaluation.
        results = self._last_results or validate(self._setup, end.model, self._stop)
        return results, None if results is None else epoch


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or the first Ctrl-C sets; a second Ctrl-C interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def request_stop(number: int, _: Any) -> None:
        event.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, previous[signal.SIGINT])

    previous = {number: signal.signal(number, request_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
