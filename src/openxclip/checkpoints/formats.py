"""Read the weights of an X-CLIP or a CLIP, whoever wrote them, under the hub's names and with their configuration.

| format | source |
|---|---|
| `hub` | a folder of X-CLIP as on the Hugging Face hub, or its weights file alone |
| `authors` | a `.pth` of X-CLIP's authors (training checkpoint or bare weights), or of `openxclip convert` |
| `openai` | OpenAI's CLIP: a TorchScript archive or its state dict |
| `open_clip` | a CLIP of open_clip: hub folder, training checkpoint, or state dict |
| `huggingface_clip` | a folder of CLIP as on the Hugging Face hub, or its weights file alone |
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from openxclip import hub
from openxclip.checkpoints import names, shapes
from openxclip.checkpoints.clips import is_in_openais_order, take_from_hugging_face, take_from_open_clip
from openxclip.checkpoints.files import WeightsFile, read_weights_file
from openxclip.checkpoints.folder import find_weights
from openxclip.checkpoints.layouts import Layout, plan_moves, recognise_layout, shapes_by_hub_name
from openxclip.checkpoints.pickled import Stored
from openxclip.common.files import cannot_read
from openxclip.config import CONFIG_NAME, XCLIPTextConfig, XCLIPVisionConfig
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack  # in typing since Python 3.11

Format = Literal["hub", "authors", "openai", "open_clip", "huggingface_clip"]
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
KEPT_TEXTS = (CONFIG_NAME, "preprocessor_config.json")


class CheckpointOptions(hub.HubOptions, total=False):
    """Keyword arguments of `read_checkpoint`, and of functions that call it."""

    hidden_act: str | None
    vision_heads: int | None
    text_heads: int | None


class _Hints(NamedTuple):
    """Settings of a CLIP that the user states, for files that don't."""

    hidden_act: str | None
    vision_heads: int | None
    text_heads: int | None


@dataclass(frozen=True)
class Checkpoint:
    """Weights, their configuration, and other values in their files.

    Attributes:
        kind: "xclip"; or "clip", which has no messages, MIT and prompts.
        format: origin of the weights, see the table above.
        config: fields of an XCLIPConfig; a CLIP has no fields of MIT, prompts and frames.
        source: the file or folder.
        stored: the tensors by their names in the file, not yet read.
        moves: the hub's names for each of them.
        texts: contents of config.json and preprocessor_config.json by name, if they are known.
        info: other values in the file: epoch, max_accuracy, name, and settings, a training configuration.
        files: the files that hold the weights.
    """

    kind: Literal["xclip", "clip"]
    format: Format
    config: dict[str, Any]
    source: Path
    stored: Mapping[str, Stored] = field(repr=False)
    moves: tuple[names.Move, ...] = field(repr=False)
    texts: dict[str, str] = field(default_factory=dict, repr=False)
    info: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The weights under the hub's names of X-CLIP, mapped from the file."""
        tensors: dict[str, Tensor] = {}
        for move in self.moves:
            tensors.update(names.moved(self.stored[move.source].load(), move))
        if "logit_scale" in tensors:
            scale = tensors["logit_scale"]
            if scale.numel() != 1:
                raise CheckpointError(f"{self.source}: its logit_scale is {tuple(scale.shape)}, not one.")
            tensors["logit_scale"] = scale.reshape(())  # open_clip also writes it as a list of one
        return tensors

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of `tensors`, without reading them."""
        return shapes_by_hub_name(self.stored, self.moves)

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return sum(math.prod(self.stored[move.source].shape) for move in self.moves)

    @property
    def dtype(self) -> str:
        """The type of most parameters, such as "float32"."""
        counts: Counter[str] = Counter()
        for move in self.moves:
            stored = self.stored[move.source]
            counts[stored.dtype] += math.prod(stored.shape)
        return counts.most_common(1)[0][0]


def read_checkpoint(
    name_or_path: str | Path,
    *,
    hidden_act: str | None = None,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    **hub_options: Unpack[hub.HubOptions],
) -> Checkpoint:
    """Read the weights of an X-CLIP or a CLIP, whoever wrote them. No code of a pickle in them is run.

    Args:
        name_or_path: a file (.pth, .pt, .bin, .safetensors), a folder, a hub id or the shipped `"mini"`.
        hidden_act: activation of the towers, if the file doesn't tell it. OpenAI's weights, and those whose name in
            open_clip has "quickgelu", were trained with "quick_gelu"; other CLIPs were trained with "gelu", which is
            the default, with a warning.
        vision_heads, text_heads: numbers of attention heads, if the towers' widths don't tell them (see `shapes`).
        **hub_options: see `openxclip.hub.HubOptions`.

    Raises:
        CheckpointError: there are no weights, they are damaged or refused, or they are of another model, which the
            message names.
    """
    hints = _Hints(hidden_act, vision_heads, text_heads)
    file = hub.existing_file(name_or_path)
    if file is not None:
        return _from_file(read_weights_file(file), hints)
    folder = hub.resolve_folder(name_or_path, **hub_options, allow_patterns=[*KEPT_TEXTS, OPEN_CLIP_CONFIG])
    config_file, open_clip_file = folder / CONFIG_NAME, folder / OPEN_CLIP_CONFIG
    values = hub.read_json(config_file) if config_file.is_file() else {}
    model_type = values.get("model_type")
    if model_type in ("xclip", "clip"):
        source, files = find_weights(name_or_path, **hub_options)  # downloads the weights
        return _from_hub_folder(source, files, config_file, values, hints)
    if open_clip_file.is_file():
        settings = _read_open_clip_settings(open_clip_file)
        for name in OPEN_CLIP_WEIGHTS:
            weights = hub.resolve_folder(name_or_path, **hub_options, allow_patterns=[name]) / name
            if weights.is_file():
                return _from_open_clip_folder(weights, open_clip_file, settings, hints)
        raise CheckpointError(f"{folder}: no {' or '.join(OPEN_CLIP_WEIGHTS)} beside its {OPEN_CLIP_CONFIG}.")
    if config_file.is_file():
        raise CheckpointError(f"{config_file}: model_type is {model_type!r}; xclip and clip are read.")
    raise CheckpointError(
        f"{folder}: no {CONFIG_NAME} or {OPEN_CLIP_CONFIG} in this folder (it holds {hub.content_of(folder)})."
    )


# ---------------------------------------------------------------------------------------------------- folders


def _from_hub_folder(
    source: Path, files: list[Path], config_file: Path, values: dict[str, Any], hints: _Hints
) -> Checkpoint:
    stored: dict[str, Stored] = {}
    for path in files:
        stored.update(read_weights_file(path).stored)
    paths = [config_file.with_name(name) for name in KEPT_TEXTS]
    texts = {path.name: _read_text(path) for path in paths if path.is_file()}
    if values["model_type"] == "xclip":
        moves = plan_moves(stored, source, "hub")
        return Checkpoint("xclip", "hub", values, source, stored, moves, texts, files=tuple(files))
    moves = plan_moves(stored, source, "huggingface_clip")
    # config.json may leave out sizes, which the shapes tell
    config = _config_from_shapes(shapes_by_hub_name(stored, moves), source, hints, activation="gelu")
    take_from_hugging_face(config, values, hints.hidden_act, source=config_file)
    _check_towers(config, config_file)
    texts.pop(CONFIG_NAME)
    return Checkpoint("clip", "huggingface_clip", config, source, stored, moves, texts, files=tuple(files))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(cannot_read(path, error)) from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is not text in UTF-8.") from error


def _read_open_clip_settings(config_file: Path) -> dict[str, Any]:
    """Return the `model_cfg` of an open_clip_config.json."""
    settings = hub.read_json(config_file).get("model_cfg")
    if not isinstance(settings, dict) or not all(
        isinstance(settings.get(part), dict) for part in ("vision_cfg", "text_cfg")
    ):
        raise CheckpointError(f"{config_file}: no configuration of a CLIP's two towers.")
    return settings


def _from_open_clip_folder(weights: Path, config_file: Path, settings: dict[str, Any], hints: _Hints) -> Checkpoint:
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    numbers = [vision.get("head_width", 1), vision.get("width", 768), text.get("heads", 1)]
    if not all(type(number) is int and 0 < number < 1 << 20 for number in numbers):
        raise CheckpointError(f"{config_file}: widths and heads must be whole numbers above 0.")
    from_settings = _Hints(
        hidden_act="quick_gelu" if settings.get("quick_gelu") else "gelu",
        vision_heads=max(1, vision.get("width", 768) // vision["head_width"]) if "head_width" in vision else None,
        text_heads=text.get("heads"),
    )
    combined = _Hints._make(given or default for given, default in zip(hints, from_settings, strict=True))
    checkpoint = _from_file(read_weights_file(weights), combined, is_open_clip=True)
    take_from_open_clip(checkpoint.config, settings, hints.hidden_act, source=config_file)
    _check_towers(checkpoint.config, config_file)
    return checkpoint


# ---------------------------------------------------------------------------------------------------- files


def _from_file(file: WeightsFile, hints: _Hints, *, is_open_clip: bool = False) -> Checkpoint:
    layout = recognise_layout(file.stored, file.path)
    moves = plan_moves(file.stored, file.path, layout)
    by_shape = shapes_by_hub_name(file.stored, moves)
    texts = {name: file.texts[name] for name in KEPT_TEXTS if name in file.texts}
    kind: Literal["xclip", "clip"]
    format: Format
    if "mit.position_embedding" in by_shape:
        kind, format = "xclip", layout
        config = _config_from_shapes(by_shape, file.path, hints, activation="quick_gelu")
        if layout == "authors" and CONFIG_NAME in texts:
            config = _parse_config(texts[CONFIG_NAME], file.path)
    else:
        kind = "clip"
        format, activation, warning = _guess_clip(file, layout, is_open_clip=is_open_clip)
        if warning and hints.hidden_act is None:
            warnings.warn(f"{file.path}: {warning}", stacklevel=3)
        config = _config_from_shapes(by_shape, file.path, hints, activation)
    return Checkpoint(kind, format, config, file.path, file.stored, moves, texts, file.info, (file.path,))


def _guess_clip(file: WeightsFile, layout: Layout, *, is_open_clip: bool) -> tuple[Format, str, str]:
    """Return the format of a CLIP's file, its activation, and a warning if that is a guess."""
    format: Format = "open_clip" if layout == "authors" else layout
    if format == "open_clip" and not is_open_clip:
        # OpenAI's archives have three sizes among their tensors, which no other CLIP has.
        if {"input_resolution", "context_length", "vocab_size"} <= set(names.without_wrappers(file.stored).values()):
            return "openai", "quick_gelu", ""
        if file.is_bare and is_in_openais_order(file.stored):
            return "openai", "quick_gelu", (
                "its tensors come in the order of OpenAI's class, so QuickGELU is assumed; for weights of an early "
                "open_clip (2021) that were trained with GELU give --activation gelu."
            )  # fmt: skip
    label = f"{file.path.name} {file.info.get('name', '')}".lower().replace("_", "").replace("-", "")
    if "quickgelu" in label or "openai" in label:
        return format, "quick_gelu", ""
    return format, "gelu", (
        "nothing in it tells the activation, so GELU is assumed, as in open_clip's own models; for "
        'weights trained with QuickGELU (OpenAI\'s, and those whose name has "quickgelu") give '
        "--activation quick_gelu."
    )  # fmt: skip


def _parse_config(text: str, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the {CONFIG_NAME} in it can't be read ({error}).") from error
    if not isinstance(values, dict) or values.get("model_type") != "xclip":
        raise CheckpointError(f"{path}: the {CONFIG_NAME} in it is not an X-CLIP's.")
    return values


def _config_from_shapes(by_shape: shapes.Shapes, source: Path, hints: _Hints, activation: str) -> dict[str, Any]:
    """Return the configuration that shapes and hints tell, with `activation` if the user names none."""
    hidden_act, vision_heads, text_heads = hints
    try:
        config = shapes.config_of(
            by_shape, hidden_act=hidden_act or activation, vision_heads=vision_heads, text_heads=text_heads
        )
    except shapes.UnclearError as error:
        raise CheckpointError(f"{source}: {error}.") from error
    _check_towers(config, source)
    return config


def _check_towers(config: dict[str, Any], source: Path) -> None:
    """Refuse sizes that no tower can have, such as heads that don't divide a width, or text instead of a number."""
    try:
        XCLIPTextConfig.from_dict(config["text_config"])
        XCLIPVisionConfig.from_dict(config["vision_config"])
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from error
