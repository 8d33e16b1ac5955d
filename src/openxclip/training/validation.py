"""Evaluate the model while it is trained, record the results by epoch, and keep the weights of the best epoch."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from openxclip.common.files import atomic_file, reason_of
from openxclip.common.memory import is_out_of_memory
from openxclip.datasets import Dataset
from openxclip.errors import OpenXCLIPError
from openxclip.evaluation.protocols import evaluate, evaluate_retrieval
from openxclip.evaluation.results import TOP, EvaluationProtocol, Results, merge_results, scalar_metrics
from openxclip.model import XCLIPModel
from openxclip.pipeline import VideoPipeline
from openxclip.recipes import Recipe
from openxclip.training.distributed import Processes
from openxclip.training.errors import StateError, StoppedError, TrainingError
from openxclip.training.optimisation import is_trained
from openxclip.training.setup import Setup

_HISTORY, _BEST_WEIGHTS, _BEST_RESULTS = "history.json", "best.safetensors", "best.json"


@dataclass(frozen=True)
class EvalReport:
    """One evaluation of the model during training.

    Attributes:
        epoch: epoch after which the model was evaluated, counted from 1.
        step: step after which the model was evaluated, counted from 0 as in `StepReport`.
        results: results of the evaluation.
        metric: name of the metric that decides which epoch is the best, such as "top1".
        value: value of this metric, from 0 to 1.
        is_best: whether the value is higher than after all earlier epochs.
    """

    epoch: int
    step: int
    results: Results
    metric: str
    value: float
    is_best: bool

    def __str__(self) -> str:
        best = f" (the best {self.metric} so far)" if self.is_best and self.epoch > 1 else ""
        return f"epoch {self.epoch}: {self.results}{best}"


class EvalHistory:
    """The metric's value by epoch, in a file that a resumed training reads.

    Args:
        folder: folder of the training.
        recipe: recipe of the training.
        processes: processes that train together; only the main one reads and writes files.
    """

    def __init__(self, folder: Path, recipe: Recipe, processes: Processes) -> None:
        self._folder, self._recipe, self._processes = folder, recipe, processes
        values = _read_values(folder / _HISTORY) if processes.is_main else None
        self._values: dict[int, float] = processes.broadcast(values)  # by epoch, in order

    def has(self, epoch: int) -> bool:
        """Return whether the model of this epoch was evaluated."""
        return epoch in self._values

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the best value."""
        return max(self._values, key=lambda epoch: self._values[epoch], default=None)

    def is_patience_exhausted(self) -> bool:
        """Return whether the last `patience` evaluations or more were no better than an earlier one."""
        best, patience = self.best_epoch, self._recipe.patience
        return patience is not None and best is not None and sum(epoch > best for epoch in self._values) >= patience

    def report(self, epoch: int, step: int, results: Results) -> EvalReport:
        """Compare results with those of earlier epochs, without recording them.

        Raises:
            OpenXCLIPError: the results don't have the recipe's metric.
        """
        metric = self._recipe.metric or ("top1" if results.task == "classification" else "text_to_video R@1")
        numbers = dict(scalar_metrics(results.metrics))
        if metric not in numbers:  # such as R@10 of ten videos, which is always 1
            raise OpenXCLIPError(
                f"metric={metric}: can't be measured with so few validation videos: use {' or '.join(numbers)}."
            )
        value = float(numbers[metric])
        is_best = all(value > earlier for other, earlier in self._values.items() if other < epoch)
        return EvalReport(epoch, step, results, metric, value, is_best)

    def record(self, report: EvalReport, model: nn.Module) -> None:
        """Record an evaluation, and drop those of later epochs. All processes call this.

        With `keep=best`, the trained weights of the evaluated model are saved too if they are the best so far.
        """
        earlier = {epoch: value for epoch, value in self._values.items() if epoch < report.epoch}
        self._values = {**earlier, report.epoch: report.value}
        if self._processes.is_main:
            if self._recipe.keep == "best" and report.is_best:
                self._save_best(model, report.results)
            with atomic_file(self._folder / _HISTORY) as partial:
                partial.write_text(json.dumps(self._values, allow_nan=False) + "\n", encoding="utf-8")
        self._processes.wait_for_main()

    def _save_best(self, model: nn.Module, results: Results) -> None:
        towers, loss = self._recipe.towers, self._recipe.loss
        weights = {
            name: parameter.detach().cpu().contiguous()
            for name, parameter in model.named_parameters()
            if is_trained(name, towers=towers, loss=loss)
        }
        with atomic_file(self._folder / _BEST_WEIGHTS) as partial:
            save_file(weights, partial)
        results.save(self._folder / _BEST_RESULTS)

    def load_best(self, model: nn.Module) -> Results:
        """Return the results of the best epoch, and load its weights into the main process's model.

        Raises:
            StateError: the weights can't be read.
        """
        best = None
        if self._processes.is_main:
            self._load_best_weights(model)
            best = Results.load(self._folder / _BEST_RESULTS)
        results: Results = self._processes.broadcast(best)
        return results

    def _load_best_weights(self, model: nn.Module) -> None:
        path = self._folder / _BEST_WEIGHTS
        try:
            weights = load_file(path)
        except (SafetensorError, OSError) as error:
            raise StateError(f"{path}: can't be read ({reason_of(error)}): train again in another folder.") from error
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, tensor in weights.items():
                parameters[name].copy_(tensor)

    def delete_best(self) -> None:
        """Delete the weights and results of the best epoch, which the finished model's folder has."""
        for name in (_BEST_WEIGHTS, _BEST_RESULTS):
            (self._folder / name).unlink(missing_ok=True)


def _read_values(path: Path) -> dict[int, float]:
    try:
        if not path.exists():
            return {}
        return {int(epoch): float(value) for epoch, value in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StateError(f"{path}: can't be read ({reason_of(error)}): delete it to evaluate again.") from error


def check_metric(recipe: Recipe, val: Dataset | None) -> None:
    """Check that the metric that the recipe asks for can be measured.

    Raises:
        TrainingError: there is no validation data, or it has too few classes for top-5.
    """
    fields = ("keep", "patience", "metric")
    asked = next((name for name in fields if getattr(recipe, name) != Recipe.model_fields[name].default), None)
    if asked and val is None:
        raise TrainingError(
            f"{asked}={getattr(recipe, asked)}: needs videos to evaluate on: give val_data=, val_split= or hold_out=."
        )
    if recipe.metric == f"top{TOP}" and val is not None and len(val.classes) <= TOP:
        raise TrainingError(
            f"metric=top{TOP}: is for more than {TOP} classes, and there are {len(val.classes)}: use metric=top1."
        )


class _StopRequestedError(Exception):
    """An evaluation is interrupted because the training was asked to stop."""


def validate(setup: Setup, model: XCLIPModel, stop: threading.Event) -> Results | None:
    """Evaluate a model on the validation data; each process evaluates a part.

    Returns:
        The results for all validation data, or None if the training was asked to stop meanwhile.

    Raises:
        TrainingError: the model's scores are not finite.
        OpenXCLIPError: no video can be read.
        StoppedError: memory ran out.
    """
    recipe, processes = setup.recipe, setup.processes
    is_training = model.training
    model.eval()
    pipeline = VideoPipeline(model, setup.processor)
    results: Results | None
    try:
        results = _evaluate(setup, pipeline, stop)
    except _StopRequestedError:
        results = None
    except ValueError as error:  # the arguments were checked before, so the scores are not finite
        raise TrainingError(f"the model can't be evaluated: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise StoppedError(
            "memory ran out while the model was evaluated. The state is saved: close other programs, or give fewer "
            f"clips= and crops= (they are {recipe.clips} and {recipe.crops}), and run the same command to resume."
        ) from error
    finally:
        pipeline.close()
        model.train(is_training)
    # The signal to stop may also have killed processes that read videos, so the results may be incomplete.
    return None if processes.any(stop.is_set()) else results


def _evaluate(setup: Setup, pipeline: VideoPipeline, stop: threading.Event) -> Results:
    recipe, val, processes = setup.recipe, setup.val, setup.processes
    assert val is not None

    def check_stop(done: int, total: int) -> None:
        if processes.world == 1 and stop.is_set():  # several processes must all finish their parts
            raise _StopRequestedError

    if not val.classes:
        return evaluate_retrieval(pipeline, val, sampling=recipe.sampling, on_progress=check_stop)
    part = (processes.rank, processes.world) if processes.world > 1 else None
    protocol = EvaluationProtocol(
        num_clips=recipe.clips, num_crops=recipe.crops, sampling=recipe.sampling, templates=(recipe.template,)
    )
    results = evaluate(pipeline, val, protocol, part=part, on_progress=check_stop)
    return results if part is None else merge_results(processes.gather(results))
