"""What a recipe names, loaded: the model that is to learn, and the videos."""

from __future__ import annotations

import torch
from torch import nn

from openxclip.checkpoints import read_checkpoint
from openxclip.conversion import processor_of
from openxclip.datasets import (
    Dataset,
)
from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.processing.texts import check_distinct, warn_of_cuts
from openxclip.recipes import Recipe
from openxclip.recipes.data import values_are_the_users

_JUDGES = ("val", "test")  # splits, in the order in which they are preferred


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
        with values_are_the_users():
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
