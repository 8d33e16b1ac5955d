"""Evaluation by the paper's protocols (Ni et al., ECCV 2022, section 4): accuracy, retrieval, comparison, plots."""

from openxclip.evaluation.comparison import compare_files
from openxclip.evaluation.runs import evaluate_over, evaluate_recipe

__all__ = ["compare_files", "evaluate_over", "evaluate_recipe"]
