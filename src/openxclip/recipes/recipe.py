"""Read recipes: YAML files that define a training and its evaluation. Every value is checked before anything is loaded.

The defaults are the paper's (arXiv 2208.02816, §4.1 and the supplement); the YAML files list only other values.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from openxclip.common.files import cannot_read, is_utf8, user_path
from openxclip.datasets import Format
from openxclip.errors import OpenXCLIPError, needs_package
from openxclip.video.sampling import Sampling

with needs_package("a recipe", "yaml", "train"):
    import yaml
with needs_package("a recipe", "pydantic", "train"):
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

_FOLDER = Path(__file__).parent
RECIPES = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Fold = Annotated[int, Field(ge=1, le=3)]
Towers = Literal["visual", "text", "both", "none"]
Loss = Literal["classes", "pairs"]

#: Metrics that can decide which epoch is the best: for classes, and for captions.
Metric = Literal[
    "top1", "top5", "mean_class_accuracy",
    "text_to_video R@1", "text_to_video R@5", "text_to_video R@10",
    "video_to_text R@1", "video_to_text R@5", "video_to_text R@10",
]  # fmt: skip


class RecipeError(OpenXCLIPError):
    """A recipe can't be read, or has an invalid value."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class Data(_Section):
    """The videos; see docs/datasets.md."""

    data: Path | None = None  # a folder of class folders, a list, shards, or a folder of official annotation files
    format: Format = "auto"
    videos: Path | None = None  # folder that the paths of a list are relative to
    split: str | None = None  # split of `data`; default: "train" if there is one
    fold: Fold = 1  # fold of UCF-101 and HMDB-51
    names: Path | None = None  # file with other texts for the classes
    hidden: bool = False  # include hidden files and folders
    val_data: Path | None = None  # default: `val_split` of `data`, or the part of `data` that is held out
    val_split: str | None = None
    val_format: Format = "auto"
    val_videos: Path | None = None  # default: `videos` if val_data is a list
    val_fold: Fold | None = None  # default: `fold`
    val_names: Path | None = None  # default: `names`; if given, val_data has its own classes
    hold_out: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of each class, without val_data and val_split
    shots: Annotated[int, Field(ge=0)] = 0  # training videos per class; 0 for all
    shots_list: Path | None = None  # file with their names; default: they are drawn at random
    unseen: Annotated[int, Field(ge=0)] = 0  # number of classes to draw for the evaluation; 0 for all
    unseen_list: Path | None = None  # file with their names, instead of a draw
    seen: Path | None = None  # file with the classes of the training, which the evaluation leaves out


class Augmentations(_Section):
    """Random changes of training clips; see `openxclip.training.augmentation.Augmentation`."""

    flip: Probability = 0.5
    jitter: Probability = 0.8
    brightness: NotNegative = 0.4
    contrast: NotNegative = 0.4
    saturation: NotNegative = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    grey: Probability = 0.2
    mixup: NotNegative = 0.8
    cutmix: NotNegative = 1.0
    mix_switch: Probability = 0.5  # share of batches with CutMix rather than MixUp, if both are on
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    crop_scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.875, 0.75, 0.66)


class Recipe(_Section):
    """A training and its evaluation. In the file, the fields of `Data` and `Augmentations` are on the same level."""

    # model
    model: str  # CLIP or X-CLIP to start from: a folder, a file, a hub id or "mini"
    frames: Count | None = None  # frames per clip; default: the model's
    sampling: Sampling = "time"  # how the frames of a clip are chosen; "frames" counts them, as the authors do
    towers: Towers = "visual"  # CLIP's towers that are trained
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    loss: Loss = "classes"  # pairs: contrastive, between clips and captions
    template: str = "{}"  # the paper's texts are the plain class names

    # training
    epochs: Count = 30
    warmup_epochs: NotNegative = 5
    batch: Count = 256  # clips per optimizer step, over all processes
    batch_per_pass: Count = 8  # clips that a process passes through the model at once
    lr: Positive = 8e-6
    min_lr: NotNegative | None = None  # default: lr / 100
    fresh_factor: Positive = 10.0  # factor for the learning rate of messages, MIT and prompts
    weight_decay: NotNegative = 0.001
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    eps: Positive = 1e-8
    clip_grad: Positive | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 if the GPU has it, else fp32
    checkpoint_gradients: bool = False
    sharded: bool = False  # FSDP2 instead of DDP, if there are several processes
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    workers: Annotated[int, Field(ge=0)] | None = None  # processes that read videos; default: one fewer than cores
    save_every: Positive = 10.0  # minutes
    augment: Augmentations = Augmentations()
    dataset: Data = Data()

    # evaluation
    eval_every: Annotated[int, Field(ge=0)] = 1  # epochs; 0 to evaluate only at the end
    keep: Literal["last", "best"] = "last"  # epoch whose weights the model gets
    metric: Metric | None = None  # decides which epoch is the best; default: top1, or text_to_video R@1 for captions
    patience: Count | None = None  # evaluations in a row without an improvement that end the training; default: never
    clips: Count = 1
    crops: Literal[1, 3] = 1

    @model_validator(mode="after")
    def _check_combinations(self) -> Recipe:
        has_classes = self.loss == "classes"
        _require("{}" in self.template, "template", self.template, "must have {} where the class name goes")
        reason = f"must be at most epochs={self.epochs}"
        _require(self.warmup_epochs <= self.epochs, "warmup_epochs", self.warmup_epochs, reason)
        _require(self.min_lr is None or self.min_lr <= self.lr, "min_lr", self.min_lr, f"must be at most lr={self.lr}")
        _require(not (self.sharded and self.ema), "ema", self.ema, "can't be used with sharded=true")
        _require(has_classes or not self.dataset.shots, "shots", self.dataset.shots, "needs loss=classes")
        evaluates_epochs = self.eval_every > 0
        reason = "needs evaluations before the end of the training: give eval_every=1 or more"
        _require(self.keep == "last" or evaluates_epochs, "keep", self.keep, reason)
        _require(self.patience is None or evaluates_epochs, "patience", self.patience, reason)
        if self.metric is not None:
            reason = "is for captions (loss=pairs)" if has_classes else "is for classes (loss=classes)"
            _require((" R@" not in self.metric) == has_classes, "metric", self.metric, reason)
        for field in ("val_videos", "val_fold", "val_names"):
            value = getattr(self.dataset, field)
            reason = f"is for val_data, which is missing: use {field.removeprefix('val_')}="
            _require(value is None or self.dataset.val_data is not None, field, str(value), reason)
        return self

    @property
    def minimum_lr(self) -> float:
        """The learning rate at the end."""
        return self.lr / 100 if self.min_lr is None else self.min_lr


def _require(condition: bool, field: str, value: object, reason: str) -> None:
    if not condition:
        raise _CombinationError(field, value, reason)


class _CombinationError(ValueError):
    """The value of a field doesn't fit other fields."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(reason)
        self.field, self.value = field, value


_SECTIONS: dict[str, type[_Section]] = {"dataset": Data, "augment": Augmentations}
_SECTION_OF = {field: name for name, section in _SECTIONS.items() for field in section.model_fields}
FIELDS = tuple(name for name in Recipe.model_fields if name not in _SECTIONS) + tuple(_SECTION_OF)


def read_recipe(name_or_path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe of this package or a file.

    Args:
        name_or_path: one of `RECIPES`, or the path of a YAML file.
        changes: `key=value` each, to replace values of the file; values are YAML.

    Raises:
        RecipeError: there is no such recipe, a key is unknown or a value is invalid; the message names the line.
    """
    name = str(name_or_path)
    path = _FOLDER / f"{name}.yaml" if name in RECIPES else user_path(name)
    values, places = _parse(_read_text(path, name), str(path))
    for change in changes:
        key, equals, value = change.partition("=")
        key = key.strip()
        if not equals or not key:
            raise RecipeError(f"{change!r}: must be key=value, as in epochs=10.")
        try:
            values[key] = yaml.safe_load(value) if is_utf8(value) else value  # YAML refuses paths that aren't UTF-8
        except yaml.YAMLError as error:
            raise RecipeError(f"{change!r}: the value is not valid YAML: {_first_line(error)}.") from error
        places[key] = change
    return _validate(values, places, str(path))


def _read_text(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: is not text in UTF-8: save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        if path.suffix not in (".yaml", ".yml"):
            close = difflib.get_close_matches(name, RECIPES, n=1)
            hint = f": did you mean {close[0]}?" if close else "."
            raise RecipeError(f"recipe {name!r}: must be {', '.join(RECIPES)}, or a .yaml file{hint}") from error
        raise RecipeError(cannot_read(path, error) if isinstance(error, OSError) else f"{path}: {error}.") from error


def _parse(text: str, source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values by key, and for messages the file and line of each key."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}, line {mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or _first_line(error)
        raise RecipeError(f"{place}: is not valid YAML: {problem}.") from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RecipeError(f"{source}: must be lines of `key: value`.")
    places: dict[str, str] = {}
    for key_node, _ in node.value:
        place = f"{source}, line {key_node.start_mark.line + 1}"
        if key_node.value in places:
            raise RecipeError(f"{place}: {key_node.value} is given a second time.")
        places[key_node.value] = place
    return values, places


def _validate(values: dict[str, Any], places: dict[str, str], source: str) -> Recipe:
    nested: dict[str, Any] = {section: {} for section in _SECTIONS}
    for key, value in values.items():
        if key not in FIELDS:
            close = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(FIELDS)}."
            raise RecipeError(f"{places[key]}: {key} is unknown: {hint}")
        (nested[_SECTION_OF[key]] if key in _SECTION_OF else nested)[key] = value
    try:
        return Recipe.model_validate(nested)
    except ValidationError as error:
        raise RecipeError("\n".join(_describe(details, places, source) for details in error.errors())) from error


def _describe(details: Any, places: dict[str, str], source: str) -> str:
    """Return a message for one of pydantic's errors."""
    cause = (details.get("ctx") or {}).get("error")
    if isinstance(cause, _CombinationError):
        return f"{places.get(cause.field, source)}: {cause.field}={cause.value!r}: {cause}."
    names = [str(part) for part in details["loc"] if part not in _SECTIONS]
    if details["type"] == "missing":
        return f"{source}: {names[0]} is missing: give it as {names[0]}=…"
    problem = details["msg"][0].lower() + details["msg"][1:]
    return f"{places.get(names[0], source)}: {'.'.join(names)}={details['input']!r}: {problem}."


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
