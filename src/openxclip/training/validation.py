"""What a training was judged to be after each epoch, and the weights of the best one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openxclip.common.files import reason_of, written_whole
from openxclip.errors import OpenXCLIPError
from openxclip.evaluation.results import Results, numbers_of
from openxclip.recipes import Recipe
from openxclip.training.distributed import Processes
from openxclip.training.state import StateError

_WEIGHTS, _RESULTS = "best.safetensors", "best.json"


@dataclass(frozen=True)
class EvalReport:
    """One evaluation of the model while it learns.

    Attributes:
        epoch: after which it was, counted from 1.
        step: after which it was, counted from 0, as in the `StepReport` of that step.
        results: of the evaluation.
        metric: what decides which epoch is the best: "top1", say.
        value: of it, from 0 to 1.
        is_best: whether it is better than after all epochs before.
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


class Judgements:
    """The evaluations of a training by epoch, in `judged.json`, so that they outlive an interruption.

    Args:
        folder: of the training.
        recipe: says what is the best, what is kept, and how long to wait for a better one.
        processes: that train together; the main one alone reads and writes.
    """

    def __init__(self, folder: Path, recipe: Recipe, processes: Processes) -> None:
        self._folder, self._recipe = folder, recipe
        found = _read(folder / "judged.json") if processes.is_main else None
        self._values: dict[int, float] = processes.of_main(found)  # of the metric, by epoch, in order

    def has(self, epoch: int) -> bool:
        """Whether the model of this epoch was judged."""
        return epoch in self._values

    @property
    def best(self) -> int | None:
        """The first epoch of the best value."""
        return max(self._values, key=lambda epoch: self._values[epoch], default=None)

    def is_enough(self) -> bool:
        """Whether as many evaluations in a row as the recipe's `patience` were no better than one before."""
        best, patience = self.best, self._recipe.patience
        return patience is not None and best is not None and sum(one > best for one in self._values) >= patience

    def report(self, epoch: int, step: int, results: Results) -> EvalReport:
        """What an evaluation came to; it isn't kept yet."""
        value = value_of(results, self._recipe.metric)
        before = [one for other, one in self._values.items() if other < epoch]
        metric = self._recipe.metric or _default(results)
        return EvalReport(epoch, step, results, metric, value, not before or value > max(before))

    def keep(self, report: EvalReport, model: nn.Module, trained: set[str]) -> None:
        """Remember it, and write it down; with `keep=best`, and before that, the weights of the best.

        Args:
            report: of an evaluation.
            model: which it is of.
            trained: names of the parameters that training changes.
        """
        if self._recipe.keep == "best" and report.is_best:
            tensors = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if name in trained}
            with written_whole(self._folder / _WEIGHTS) as partial:
                save_file(tensors, partial)
            report.results.save(self._folder / _RESULTS)
        self.note(report)
        with written_whole(self._folder / "judged.json") as partial:
            partial.write_text(json.dumps(self._values, allow_nan=False) + "\n", encoding="utf-8")

    def note(self, report: EvalReport) -> None:
        """Remember it in this process, and nothing of later epochs."""
        earlier = {epoch: value for epoch, value in self._values.items() if epoch < report.epoch}
        self._values = {**earlier, report.epoch: report.value}

    def load_best(self, model: nn.Module) -> Results:
        """Put the weights of the best epoch into the model; what it was judged to be.

        Raises:
            StateError: they can't be read.
        """
        path = self._folder / _WEIGHTS
        try:
            weights: dict[str, Tensor] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise StateError(f"{path}: can't be read ({reason_of(error)}): train again in another folder.") from error
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, tensor in weights.items():
                parameters[name].copy_(tensor)
        return Results.load(self._folder / _RESULTS)

    def forget_best(self) -> None:
        """Delete the weights and the results of the best, once they are the model."""
        for name in (_WEIGHTS, _RESULTS):
            (self._folder / name).unlink(missing_ok=True)


def value_of(results: Results, metric: str | None) -> float:
    """The metric that decides; None is top-1, or R@1 from text to video.

    Raises:
        OpenXCLIPError: it isn't measured: R@10 of ten videos, say, which is always 1.
    """
    numbers = dict(numbers_of(results.metrics))
    name = metric or _default(results)
    if name not in numbers:
        raise OpenXCLIPError(
            f"metric={name}: is not measured with so few videos to judge by; there is {', '.join(numbers)}."
        )
    return float(numbers[name])


def _read(path: Path) -> dict[int, float]:
    try:
        if not path.exists():
            return {}
        return {int(epoch): float(value) for epoch, value in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StateError(f"{path}: can't be read ({reason_of(error)}): delete it to judge again.") from error


def _default(results: Results) -> str:
    return "top1" if results.task == "classification" else "text_to_video R@1"
