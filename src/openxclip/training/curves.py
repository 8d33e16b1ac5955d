"""Write a training's curves for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openxclip.evaluation.results import scalar_metrics
from openxclip.training.loop import StepReport
from openxclip.training.validation import EvalReport


class Curves:
    """Write curves to `curves/` in the folder of a training, or nothing if `tensorboard` isn't installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def start(self, step: int) -> None:
        """Start at a step, and drop the points that an interrupted training wrote for this and later steps."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(self._folder / "curves"), purge_step=step)

    def add_step(self, report: StepReport) -> None:
        """Add the points of an optimizer step."""
        for name in ("loss", "lr", "clips", "seconds", "waited"):
            self._add(f"step/{name}", getattr(report, name), report.step)

    def add_eval(self, report: EvalReport) -> None:
        """Add the points of an evaluation."""
        for name, value in scalar_metrics(report.results.metrics):
            self._add(f"eval/{name}", value, report.step)

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, name: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)
