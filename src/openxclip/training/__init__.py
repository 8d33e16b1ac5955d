"""Train a model on videos as a recipe says (the paper's settings: Ni et al., ECCV 2022, section 4).

Names are imported when they are first used, because they need the extra `train`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openxclip.training.job import TrainingResult, plan_training, train
    from openxclip.training.loop import StepReport
    from openxclip.training.validation import EvalReport

_MODULE_OF = {
    "EvalReport": "validation",
    "StepReport": "loop",
    "TrainingResult": "job",
    "plan_training": "job",
    "train": "job",
}

__all__ = ["EvalReport", "StepReport", "TrainingResult", "plan_training", "train"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'openxclip.training' has no attribute {name!r}")
    value = getattr(import_module(f"openxclip.training.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
