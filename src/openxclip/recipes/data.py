"""The videos that a recipe names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from openxclip.datasets import (
    Dataset,
    dataset_splits,
    draw_classes,
    few_shot,
    few_shot_from_list,
    has_folds,
    hold_out,
    only_classes,
    open_dataset,
    read_class_list,
    takes_videos,
    with_classes,
    without_classes,
)
from openxclip.datasets.labels import read_names
from openxclip.errors import OpenXCLIPError
from openxclip.recipes.recipe import Data, Recipe

_VAL_SPLITS = ("val", "test")  # splits, in the order in which they are preferred


class DataError(OpenXCLIPError):
    """The data that a recipe names don't fit each other."""


def training_data(recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    """What is learnt from, and what it is judged by while it learns, if the recipe has any.

    Raises:
        OpenXCLIPError: data can't be read, don't fit each other, or the recipe names none.
    """
    with value_errors_as_data_errors():
        return _training_data(recipe)


def evaluation_data(recipe: Recipe) -> Dataset:
    """What `openxclip eval` judges a model by: the recipe's evaluation part, or all of `data` where it has none.

    Raises:
        OpenXCLIPError: data can't be read, or the recipe names none.
    """
    data = recipe.dataset
    with value_errors_as_data_errors():
        if data.seen is None and data.unseen_list is None and not data.unseen:
            if data.val_data is not None:
                return _opened_val(data, data.val_data)
            train, val = _training_data(recipe)
            return train if val is None else val
        if data.val_data is not None:
            found = _opened_val(data, data.val_data)
        elif data.data is not None:
            found = _opened(data, data.data, data.val_split, "val_split")
        else:
            raise _no_data()
        if data.seen is not None:
            found = without_classes(found, read_class_list(data.seen))
        if data.unseen_list is not None:
            return only_classes(found, read_class_list(data.unseen_list))
        return draw_classes(found, data.unseen, seed=recipe.seed) if data.unseen else found


def _training_data(recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    data = recipe.dataset
    if data.data is None:
        raise _no_data()
    splits = dataset_splits(data.data, format=data.format)
    split = data.split or ("train" if "train" in splits else None)
    train = _opened(data, data.data, split)
    val_split = data.val_split
    if val_split is None and data.val_data is None:
        val_split = next((name for name in _VAL_SPLITS if name in splits and name != split), None)
    val: Dataset | None = None
    if data.val_data is not None:
        val = _opened_val(data, data.val_data)
    elif val_split is not None:
        val = _opened(data, data.data, val_split, "val_split")
    elif data.hold_out:
        train, val = hold_out(train, data.hold_out, seed=recipe.seed)
    if data.shots_list is not None:
        train = few_shot_from_list(train, data.shots_list)
    elif data.shots:
        train = few_shot(train, data.shots, seed=recipe.seed)
    if recipe.loss == "classes" and not train.classes:
        raise DataError(f"{train.name}: has captions instead of classes: train it with loss=pairs.")
    if recipe.loss == "pairs" and any(sample.text is None for sample in train.samples):
        raise DataError(f"{train.name}: has classes instead of captions: train it with loss=classes.")
    if val is not None and train.classes and data.val_names is None:
        val = with_classes(val, train.classes)
    if val is not None and bool(val.classes) != bool(train.classes):
        raise DataError(f"{val.name} and {train.name}: both must have classes, or both captions.")
    return train, val


def _opened(data: Data, path: Path, split: str | None, key: str = "split") -> Dataset:
    """The dataset at a path; an error names the recipe's key for the split."""
    try:
        return open_dataset(
            path, format=data.format, videos=data.videos, split=split, fold=data.fold, names=data.names,
            hidden=data.hidden,
        )  # fmt: skip
    except ValueError as error:
        raise DataError(str(error).replace(" split=", f" {key}=")) from error


def _opened_val(data: Data, path: Path) -> Dataset:
    """`val_data` by its own keys, and where they aren't given by those of `data`, if they are of any use for it."""
    videos, fold, names = data.val_videos, data.val_fold, data.val_names
    if videos is None and data.videos is not None and takes_videos(path, format=data.val_format):
        videos = data.videos
    if fold is None:
        fold = data.fold if has_folds(path, format=data.val_format) else 1
    try:
        found = open_dataset(
            path, format=data.val_format, videos=videos, split=data.val_split, fold=fold, names=names or data.names,
            hidden=data.hidden,
        )  # fmt: skip
    except ValueError as error:
        raise DataError(re.sub(r"(?<!\w)(split|videos|fold|names)=", r"val_\1=", str(error))) from error
    if names is None and data.names is not None and found.classes and all(map(str.isdecimal, read_names(data.names))):
        note = f"{data.names}: names the classes of {path}, too: if its numbers count others, give val_names="
        found = replace(found, problems=(*found.problems, note))
    return found


def _no_data() -> DataError:
    return DataError("the recipe names no data: give data=, a folder of class folders or a list (docs/datasets.md).")


@contextmanager
def value_errors_as_data_errors() -> Iterator[None]:
    """Recipes are what users write: a value that data don't fit is their mistake, not the program's."""
    try:
        yield
    except ValueError as error:
        raise DataError(str(error)) from error
