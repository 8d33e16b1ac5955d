"""Open the videos that a recipe names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from openxclip.datasets import Dataset, dataset_splits, open_dataset, read_class_list, subsets
from openxclip.datasets.labels import read_names
from openxclip.datasets.opening import reader_of
from openxclip.errors import OpenXCLIPError
from openxclip.recipes.recipe import Data, Recipe

_VAL_SPLITS = ("val", "test")  # in the order of preference


class DataError(OpenXCLIPError):
    """The data that a recipe names can't be used, or its training and validation data don't fit each other."""


def training_data(recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    """Return the videos to train on, and those to validate on if the recipe names any.

    Raises:
        OpenXCLIPError: the recipe names no data; the data can't be read; or the two sets don't fit each other.
    """
    with value_errors_as_data_errors():
        train, val = _open_both(recipe)
        if recipe.loss == "classes" and not train.classes:
            raise DataError(f"{train.name}: has captions instead of classes: train it with loss=pairs.")
        if recipe.loss == "pairs" and any(sample.text is None for sample in train.samples):
            raise DataError(f"{train.name}: has classes instead of captions: train it with loss=classes.")
        if val is not None and train.classes and recipe.dataset.val_names is None:
            val = subsets.with_classes(val, train.classes)
        if val is not None and bool(val.classes) != bool(train.classes):
            raise DataError(f"{val.name} and {train.name}: both must have classes, or both captions.")
        return train, val


def evaluation_data(recipe: Recipe) -> Dataset:
    """Return the videos for `openxclip eval`: the recipe's validation data, or all of `data` if it has none.

    Raises:
        OpenXCLIPError: the recipe names no data, or the data can't be read.
    """
    data = recipe.dataset
    with value_errors_as_data_errors():
        chooses_classes = data.seen is not None or data.unseen_list is not None or data.unseen > 0
        if data.val_data is not None:
            dataset = _open_val(data, data.val_data)
        elif chooses_classes:
            dataset = _open(data, data.val_split, key="val_split")
        else:
            train, val = training_data(recipe)
            dataset = train if val is None else val
        if data.seen is not None:
            dataset = subsets.without_classes(dataset, read_class_list(data.seen))
        if data.unseen_list is not None:
            return subsets.only_classes(dataset, read_class_list(data.unseen_list))
        return subsets.draw_classes(dataset, data.unseen, seed=recipe.seed) if data.unseen else dataset


def _open_both(recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    data = recipe.dataset
    splits = () if data.data is None else dataset_splits(data.data, format=data.format)
    split = data.split or ("train" if "train" in splits else None)
    train, val = _open(data, split), None
    val_split = data.val_split
    if val_split is None:
        val_split = next((name for name in _VAL_SPLITS if name in splits and name != split), None)
    if data.val_data is not None:
        val = _open_val(data, data.val_data)
    elif val_split is not None:
        val = _open(data, val_split, key="val_split")
    elif data.hold_out:
        train, val = subsets.hold_out(train, data.hold_out, seed=recipe.seed)
    if data.shots_list is not None:
        train = subsets.few_shot_from_list(train, data.shots_list)
    elif data.shots:
        train = subsets.few_shot(train, data.shots, seed=recipe.seed)
    return train, val


def _open(data: Data, split: str | None, key: str = "split") -> Dataset:
    """Open a split of `data`; error messages name the split by the recipe's `key`."""
    if data.data is None:
        raise DataError("the recipe names no data: give data=, a folder of class folders or a list (docs/datasets.md).")
    try:
        return open_dataset(
            data.data, format=data.format, videos=data.videos, split=split, fold=data.fold, names=data.names,
            hidden=data.hidden,
        )  # fmt: skip
    except ValueError as error:
        raise DataError(str(error).replace(" split=", f" {key}=")) from error


def _open_val(data: Data, path: Path) -> Dataset:
    """Open `val_data`. Keys that aren't given for it are taken from `data`, if they apply to its format."""
    reader = reader_of(path, format=data.val_format)
    videos = data.val_videos or (data.videos if reader.takes_videos else None)
    fold = data.val_fold or (data.fold if reader.has_folds else 1)
    try:
        dataset = open_dataset(
            path, format=data.val_format, videos=videos, split=data.val_split, fold=fold,
            names=data.val_names or data.names, hidden=data.hidden,
        )  # fmt: skip
    except ValueError as error:
        raise DataError(re.sub(r"(?<!\w)(split|videos|fold|names)=", r"val_\1=", str(error))) from error
    shared_names = data.names if data.val_names is None and dataset.classes else None
    if shared_names is not None and all(map(str.isdecimal, read_names(shared_names))):
        note = f"{shared_names}: also names the classes of {path}: if its numbers mean other classes, give val_names="
        dataset = replace(dataset, problems=(*dataset.problems, note))
    return dataset


@contextmanager
def value_errors_as_data_errors() -> Iterator[None]:
    """Turn ValueErrors into DataErrors: a value that doesn't fit the data is a mistake in the recipe."""
    try:
        yield
    except ValueError as error:
        raise DataError(str(error)) from error
