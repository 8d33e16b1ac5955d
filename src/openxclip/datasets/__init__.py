"""Datasets for training and evaluation: videos with their classes or captions.

`docs/datasets.md` shows every format.
"""

from openxclip.datasets.labels import Names, read_class_list, readable_name
from openxclip.datasets.opening import Format, dataset_splits, detect_format, open_dataset
from openxclip.datasets.samples import Dataset, Sample, describe_problems
from openxclip.datasets.subsets import (
    draw_classes,
    few_shot,
    few_shot_from_list,
    hold_out,
    only_classes,
    with_classes,
    without_classes,
)
from openxclip.datasets.text import DatasetError

__all__ = [
    "Dataset",
    "DatasetError",
    "Format",
    "Names",
    "Sample",
    "dataset_splits",
    "describe_problems",
    "detect_format",
    "draw_classes",
    "few_shot",
    "few_shot_from_list",
    "hold_out",
    "only_classes",
    "open_dataset",
    "read_class_list",
    "readable_name",
    "with_classes",
    "without_classes",
]
