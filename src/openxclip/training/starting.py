"""What a recipe names, loaded: the model that is to learn, and the videos."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from openxclip.checkpoints import read_checkpoint
from openxclip.conversion import processor_of
from openxclip.errors import OpenXCLIPError
from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.processing.texts import check_distinct, warn_of_cuts
from openxclip.training.data import (
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
from openxclip.training.data.labels import read_names
from openxclip.training.recipe import Data, Recipe

_JUDGES = ("val", "test")  # splits, in the order in which they are preferred


class DataError(OpenXCLIPError):
    """The data that a recipe names don't fit each other."""


def start_model(recipe: Recipe) -> tuple[XCLIPModel, XCLIPProcessor]:
    """The model as it is before the first step, and its processor.

    A CLIP gets messages, MIT and prompts at random, by the recipe's seed. An X-CLIP of another number of frames gets
    temporal positions interpolated to the recipe's.
    """
    found = read_checkpoint(recipe.model)
    if found.kind == "clip":
        model = XCLIPModel.from_clip(recipe.model, num_frames=recipe.frames or 8, seed=recipe.seed, dtype="float32")
    else:
        model = XCLIPModel.from_pretrained(recipe.model, dtype="float32")
        if recipe.frames:
            set_num_frames(model, recipe.frames)
    processor = processor_of(recipe.model, found, model.config, {})
    vision = model.config.vision_config
    vision.drop_path_rate = recipe.drop_path
    blocks = list(model.vision_model.encoder.layers)
    for i, block in enumerate(blocks):
        block.drop_path.rate = recipe.drop_path * i / max(len(blocks) - 1, 1)  # type: ignore[union-attr]
    if recipe.checkpoint_gradients:
        model.gradient_checkpointing_enable()
    return model, processor


def check_texts(recipe: Recipe, processor: XCLIPProcessor, dataset: Dataset, val: Dataset | None) -> None:
    """Warn of class names and captions that are longer than the model reads.

    Raises:
        DataError: two class names are the same to the model.
    """
    tokenizer = processor.tokenizer
    for classes in dict.fromkeys(one.classes for one in (dataset, val) if one is not None and one.classes):
        texts = [recipe.template.replace("{}", name) for name in classes]
        with _values_are_the_users():
            check_distinct(tokenizer, texts, "class name")
        warn_of_cuts(tokenizer, texts, "class name")
    captions = dict.fromkeys(sample.text for one in (dataset, val) if one for sample in one.samples if sample.text)
    if captions and not dataset.classes:
        warn_of_cuts(tokenizer, list(captions), "caption")


def set_num_frames(model: XCLIPModel, num_frames: int) -> None:
    """Make it a model of clips of so many frames: MIT's positions are interpolated."""
    if num_frames != model.config.vision_config.num_frames:
        with torch.no_grad():
            model.mit.position_embedding = nn.Parameter(model.mit.positions(num_frames).detach().clone())
        model.config.vision_config.num_frames = num_frames


def training_data(recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    """What is learnt from, and what it is judged by while it learns, if the recipe has any.

    Raises:
        OpenXCLIPError: data can't be read, don't fit each other, or the recipe names none.
    """
    with _values_are_the_users():
        return _training_data(recipe)


def evaluation_data(recipe: Recipe) -> Dataset:
    """What `openxclip eval` judges a model by: the recipe's evaluation part, or all of `data` where it has none.

    Raises:
        OpenXCLIPError: data can't be read, or the recipe names none.
    """
    data = recipe.dataset
    with _values_are_the_users():
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
        val_split = next((name for name in _JUDGES if name in splits and name != split), None)
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
def _values_are_the_users() -> Iterator[None]:
    """Recipes are what users write: a value that data don't fit is their mistake, not the program's."""
    try:
        yield
    except ValueError as error:
        raise DataError(str(error)) from error
