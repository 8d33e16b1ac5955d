"""TensorBoard's curves of a training, written from what `on_step` and `on_eval` are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openxclip.evaluation.results import numbers_of
from openxclip.training.validation import EvalReport
from openxclip.training.loop import StepReport


class Curves:
    """Curves in `curves/` of a training's folder, where `tensorboard` is installed; without it, nothing is written.

    Args:
        folder: of the training.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def start(self, step: int) -> None:
        """The next step is this one: curves of later steps, of a training that was interrupted, are dropped."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(self._folder / "curves"), purge_step=step)

    def on_step(self, report: StepReport) -> None:
        """A point for each number of a step."""
        for name in ("loss", "lr", "clips", "seconds", "waited"):
            self._add(f"step/{name}", getattr(report, name), report.step)

    def on_eval(self, report: EvalReport) -> None:
        """A point for each number of an evaluation."""
        for name, value in numbers_of(report.results.metrics):
            self._add(f"eval/{name}", value, report.step)

    def close(self) -> None:
        """Nothing is written after this."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, name: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)
