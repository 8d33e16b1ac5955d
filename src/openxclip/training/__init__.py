"""Learning from videos: recipes, data, the loop, and the paper's protocols (Ni et al., ECCV 2022, section 4).

Names are imported where they are first used: recipes need the extra `train`, and what is beside them doesn't.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openxclip.evaluation import compare_files, evaluate_over, evaluate_recipe
    from openxclip.recipes import RECIPES, Recipe, read_recipe
    from openxclip.training.job import TrainingResult, plan_training, train
    from openxclip.training.validation import EvalReport
    from openxclip.training.loop import StepReport

_HOME = {
    "EvalReport": "validation",
    "RECIPES": "recipe",
    "Recipe": "recipe",
    "StepReport": "loop",
    "TrainingResult": "job",
    "compare_files": "comparison",
    "evaluate_over": "judging",
    "evaluate_recipe": "judging",
    "plan_training": "job",
    "read_recipe": "recipe",
    "train": "job",
}

__all__ = [
    "RECIPES",
    "EvalReport",
    "Recipe",
    "StepReport",
    "TrainingResult",
    "compare_files",
    "evaluate_over",
    "evaluate_recipe",
    "plan_training",
    "read_recipe",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'openxclip.training' has no attribute {name!r}")
    value = getattr(import_module(f"openxclip.training.{_HOME[name]}"), name)
    globals()[name] = value
    return value
