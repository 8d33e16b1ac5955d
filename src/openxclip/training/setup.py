"""Load the model that a recipe names, and check the class names and captions of its data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from openxclip.checkpoints import read_checkpoint
from openxclip.config import TimeContract
from openxclip.conversion import load_processor
from openxclip.datasets import Dataset
from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.processing.texts import check_distinct, warn_of_cuts
from openxclip.recipes import Recipe
from openxclip.recipes.data import value_errors_as_data_errors
from openxclip.training.distributed import Processes


@dataclass(frozen=True)
class Setup:
    """The recipe, model, data and processes of a training.

    Attributes:
        recipe: the recipe.
        model: the model before the first step, on the CPU; it is trained in place.
        processor: the model's processor, for texts, frame size, mean and standard deviation.
        dataset: videos to train on.
        val: videos to validate on, or None.
        processes: processes that train together.
    """

    recipe: Recipe
    model: XCLIPModel
    processor: XCLIPProcessor
    dataset: Dataset
    val: Dataset | None
    processes: Processes


def load_model(recipe: Recipe) -> tuple[XCLIPModel, XCLIPProcessor]:
    """Load the model to start from, and its processor.

    Weights that a CLIP lacks (messages, MIT, prompts) are random; the recipe's seed seeds them. An X-CLIP for another
    number of frames gets interpolated temporal positions.
    """
    checkpoint = read_checkpoint(recipe.model)
    if checkpoint.kind == "clip":
        model = XCLIPModel.from_clip(recipe.model, num_frames=recipe.frames or 8, seed=recipe.seed, dtype="float32")
    else:
        model = XCLIPModel.from_pretrained(recipe.model, dtype="float32")
        TimeContract.of_config(model.config)  # an invalid one must not be found only when the training has ended
        if recipe.frames:
            _set_num_frames(model, recipe.frames)
    processor = load_processor(recipe.model, checkpoint, model.config)
    model.config.vision_config.drop_path_rate = recipe.drop_path
    blocks = list(model.vision_model.encoder.layers)
    for i, block in enumerate(blocks):
        block.drop_path.rate = recipe.drop_path * i / max(len(blocks) - 1, 1)  # type: ignore[union-attr]
    if recipe.checkpoint_gradients:
        model.gradient_checkpointing_enable()
    return model, processor


def _set_num_frames(model: XCLIPModel, num_frames: int) -> None:
    """Change the number of frames per clip of a model, by interpolating MIT's temporal positions."""
    if num_frames != model.config.vision_config.num_frames:
        with torch.no_grad():
            model.mit.position_embedding = nn.Parameter(model.mit.positions(num_frames).detach().clone())
        model.config.vision_config.num_frames = num_frames


def check_texts(setup: Setup) -> None:
    """Warn about class names and captions that are too long for the model.

    Raises:
        DataError: the model can't tell two class names apart.
    """
    tokenizer = setup.processor.tokenizer
    datasets = [dataset for dataset in (setup.dataset, setup.val) if dataset is not None]
    for classes in dict.fromkeys(dataset.classes for dataset in datasets if dataset.classes):
        texts = [setup.recipe.template.replace("{}", name) for name in classes]
        with value_errors_as_data_errors():
            check_distinct(tokenizer, texts, "class name")
        warn_of_cuts(tokenizer, texts, "class name")
    captions = dict.fromkeys(sample.text for dataset in datasets for sample in dataset.samples if sample.text)
    if captions and not setup.dataset.classes:
        warn_of_cuts(tokenizer, list(captions), "caption")
