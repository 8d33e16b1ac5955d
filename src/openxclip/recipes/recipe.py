"""Recipes: all that decides a training, as YAML whose every value is checked before anything is loaded.

The defaults are the paper's (arXiv 2208.02816, §4.1 and the supplement); the files in `recipes/` say only what differs.
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

Chance = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


#: Metrics by which one epoch is better than another: of classes, and of captions.
Metric = Literal[
    "top1", "top5", "mean_class_accuracy",
    "text_to_video R@1", "text_to_video R@5", "text_to_video R@10",
    "video_to_text R@1", "video_to_text R@5", "video_to_text R@10",
]  # fmt: skip


class RecipeError(OpenXCLIPError):
    """A recipe can't be read, or has a value that can't be."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class Data(_Part):
    """Which videos; see docs/datasets.md."""

    data: Path | None = None  # a folder of class folders, a list, shards, or a folder of official annotation files
    format: Format = "auto"
    videos: Path | None = None  # where the paths of a list begin
    split: str | None = None  # of `data`: default "train" where it has one
    fold: Annotated[int, Field(ge=1, le=3)] = 1  # of UCF-101 and HMDB-51
    names: Path | None = None  # other texts for the classes
    hidden: bool = False  # take hidden files and folders, too
    val_data: Path | None = None  # default: `data` with `val_split`, or a part of `data` that is held out
    val_split: str | None = None
    val_format: Format = "auto"  # of val_data
    val_videos: Path | None = None  # where the paths of val_data begin; default: `videos`, of lists
    val_fold: Annotated[int, Field(ge=1, le=3)] | None = None  # default: `fold`
    val_names: Path | None = None  # default: `names`; where given, val_data keeps classes of its own
    hold_out: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of each class, where there is no val_data and no val_split
    shots: Annotated[int, Field(ge=0)] = 0  # videos of each class that are trained on; 0 for all
    shots_list: Path | None = None  # their names, instead of a draw
    unseen: Annotated[int, Field(ge=0)] = 0  # classes of the evaluation that are drawn, of those that `seen` hasn't
    unseen_list: Path | None = None  # their names, instead of a draw
    seen: Path | None = None  # names of the classes that training shows, which the evaluation leaves out


class Augmentations(_Part):
    """What is done to clips in training."""

    flip: Chance = 0.5
    jitter: Chance = 0.8
    brightness: NotNegative = 0.4
    contrast: NotNegative = 0.4
    saturation: NotNegative = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    grey: Chance = 0.2
    mixup: NotNegative = 0.8
    cutmix: NotNegative = 1.0
    mix_switch: Chance = 0.5  # how often CutMix rather than MixUp, where both are on
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    crop_scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.875, 0.75, 0.66)


class Recipe(_Part):
    """One training and how it is evaluated.

    Beside the fields of `Data` and `Augmentations`, which stand on the same level of the file.
    """

    # what learns
    model: str  # a CLIP to start from, or an X-CLIP to go on with: a folder, a file, a hub id or "mini"
    frames: Count | None = None  # T of a clip; default: the model's
    sampling: Sampling = "time"  # of the frames of a clip; "frames" counts them, as the authors do
    towers: Literal["visual", "text", "both", "none"] = "visual"
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    loss: Literal["classes", "pairs"] = "classes"  # pairs: contrastive, between clips and captions
    template: str = "{}"  # the paper's texts are the bare class names

    # how
    epochs: Count = 30
    warmup_epochs: NotNegative = 5
    batch: Count = 256  # clips of an optimizer step, over all processes
    batch_per_pass: Count = 8  # of them, how many one process takes through the model at once
    lr: Positive = 8e-6
    min_lr: NotNegative | None = None  # default lr / 100
    fresh_factor: Positive = 10.0  # messages, MIT and prompts learn so many times as fast
    weight_decay: NotNegative = 0.001
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    eps: Positive = 1e-8
    clip_grad: Positive | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 on a GPU that has it, else fp32
    checkpoint_gradients: bool = False
    sharded: bool = False  # FSDP2 instead of DDP, where there are several processes
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    workers: Annotated[int, Field(ge=0)] | None = None  # processes that read videos; default: one fewer than cores
    save_every: Positive = 10.0  # minutes
    augment: Augmentations = Augmentations()
    dataset: Data = Data()

    # how it is judged
    eval_every: Annotated[int, Field(ge=0)] = 1  # epochs; 0 for only at the end
    keep: Literal["last", "best"] = "last"  # which epoch's weights the model gets
    metric: Metric | None = None  # what "best" is by; default: top1, or text_to_video R@1 of captions
    patience: Count | None = None  # end after so many evaluations in a row that were no better; default: never
    clips: Count = 1
    crops: Literal[1, 3] = 1

    @model_validator(mode="after")
    def _fit(self) -> Recipe:
        _require("{}" in self.template, "template", self.template, "must have {} where the class name goes")
        _require(self.warmup_epochs <= self.epochs, "warmup_epochs", self.warmup_epochs,
                 f"must be at most epochs={self.epochs}")  # fmt: skip
        _require(self.min_lr is None or self.min_lr <= self.lr, "min_lr", self.min_lr, f"must be at most lr={self.lr}")
        _require(not (self.sharded and self.ema), "ema", self.ema, "can't be kept of a model that is sharded")
        for field, value in (("keep", self.keep == "best" and "best"), ("patience", self.patience)):
            _require(not value or self.eval_every > 0, field, value, "needs an evaluation more often than at the end: "
                     "give eval_every=1, or more epochs")  # fmt: skip
        _require(
            self.metric is None or (self.loss == "classes") == (" R@" not in self.metric), "metric", self.metric,
            "is of captions (loss=pairs)" if self.loss == "classes" else "is of classes (loss=classes)",
        )  # fmt: skip
        for field in ("val_videos", "val_fold", "val_names"):
            value = getattr(self.dataset, field)
            _require(value is None or self.dataset.val_data is not None, field, str(value), "is of val_data, which is "
                     f"missing: use {field.removeprefix('val_')}=")  # fmt: skip
        _require(
            self.loss == "classes" or not self.dataset.shots, "shots", self.dataset.shots, "are of classes, not pairs"
        )
        return self

    @property
    def minimum_lr(self) -> float:
        """The rate at the end."""
        return self.lr / 100 if self.min_lr is None else self.min_lr


def _require(holds: bool, field: str, value: object, why: str) -> None:
    if not holds:
        raise _UnfittingError(field, value, why)


class _UnfittingError(ValueError):
    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(why)
        self.field, self.value = field, value


_PARTS: dict[str, type[_Part]] = {"dataset": Data, "augment": Augmentations}
_PART_OF = {field: part for part, kind in _PARTS.items() for field in kind.model_fields}
FIELDS = tuple(name for name in Recipe.model_fields if name not in _PARTS) + tuple(_PART_OF)


def read_recipe(name_or_path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe that comes with openxclip, or a file of one's own.

    Args:
        name_or_path: one of `RECIPES`, or a YAML file.
        changes: `key=value`, which replace the file's; values are YAML.

    Raises:
        RecipeError: there is none; a key isn't known; a value can't be, with the line where it stands.
    """
    name = str(name_or_path)
    path = _FOLDER / f"{name}.yaml" if name in RECIPES else user_path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: is not text in UTF-8: save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        if path.suffix not in (".yaml", ".yml"):
            close = difflib.get_close_matches(name, RECIPES, n=1)
            hint = f": did you mean {close[0]}?" if close else "."
            raise RecipeError(f"recipe {name!r}: must be {', '.join(RECIPES)}, or a .yaml file{hint}") from error
        raise RecipeError(cannot_read(path, error) if isinstance(error, OSError) else f"{path}: {error}.") from error
    values, places = _read_yaml(text, str(path))
    for change in changes:
        key, equals, value = change.partition("=")
        key = key.strip()
        if not equals or not key:
            raise RecipeError(f"{change!r}: must be key=value, as in epochs=10.")
        try:
            values[key] = yaml.safe_load(value) if is_utf8(value) else value  # a path, which YAML would refuse
        except yaml.YAMLError as error:
            raise RecipeError(f"{change!r}: the value is no YAML: {_first_line(error)}.") from error
        places[key] = change
    return _checked(values, places, str(path))


def _read_yaml(text: str, source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The values, and where each stands."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark else source
        raise RecipeError(f"{where}: is no YAML: {getattr(error, 'problem', None) or _first_line(error)}.") from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RecipeError(f"{source}: must be lines of `key: value`.")
    places: dict[str, str] = {}
    for key_node, _ in node.value:
        line = f"{source}, line {key_node.start_mark.line + 1}"
        if key_node.value in places:
            raise RecipeError(f"{line}: {key_node.value} stands there a second time.")
        places[key_node.value] = line
    return values, places


def _checked(values: dict[str, Any], places: dict[str, str], source: str) -> Recipe:
    whole: dict[str, Any] = {part: {} for part in _PARTS}
    for key, value in values.items():
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"is it {near[0]}?" if near else f"there are {', '.join(FIELDS)}."
            raise RecipeError(f"{places[key]}: {key} isn't known: {hint}")
        (whole[_PART_OF[key]] if key in _PART_OF else whole)[key] = value
    try:
        return Recipe.model_validate(whole)
    except ValidationError as error:
        raise RecipeError("\n".join(_words(one, places, source) for one in error.errors())) from error


def _words(error: Any, places: dict[str, str], source: str) -> str:
    cause = (error.get("ctx") or {}).get("error")
    if isinstance(cause, _UnfittingError):
        return f"{places.get(cause.field, source)}: {cause.field}={cause.value!r}: {cause}."
    names = [str(part) for part in error["loc"] if part not in _PARTS]
    if error["type"] == "missing":
        return f"{source}: {names[0]} is missing: give it as {names[0]}=…"
    said = error["msg"][0].lower() + error["msg"][1:]
    return f"{places.get(names[0], source)}: {'.'.join(names)}={error['input']!r}: {said}."


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
