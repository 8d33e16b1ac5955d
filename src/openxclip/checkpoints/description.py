"""Describe a checkpoint from its file's headers and its configuration, without reading weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openxclip.checkpoints import names
from openxclip.checkpoints.formats import Checkpoint, CheckpointOptions, read_checkpoint
from openxclip.checkpoints.released import released_as
from openxclip.checkpoints.shapes import UnclearError, architecture, config_of
from openxclip.config import CONFIG_NAME, TimeContract, XCLIPConfig
from openxclip.config.contract import CONTRACT_KEY
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing since Python 3.11


@dataclass(frozen=True)
class Tower:
    """Size of a tower: width, blocks and attention heads."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class CheckpointDescription:
    """Description of a checkpoint.

    Attributes:
        source: the file, or the folder's weights.
        kind: "xclip"; or "clip", which has no video parts and from which an X-CLIP can start.
        format: "hub", "authors", "openai", "open_clip" or "huggingface_clip".
        architecture: such as "B/32".
        vision, text: sizes of the towers.
        joint_width: width E of the features.
        frames: number of frames of a clip; None for a CLIP.
        resolution: pixels of a frame's side.
        activation: activation of the towers.
        parameters: number of parameters.
        dtype: type of most parameters, such as "float32".
        size_bytes: size of the file, or of all files of a folder's weights.
        trained_on: the data set, if it is known.
        released: name of the released checkpoint that this is, judged by name; "" if none.
        contract: the model's contract of time, as in its config.json but with all values that have a default; None if
            its config has none.
        info: other values of the file: epoch, max_accuracy, name, settings.
        problems: problems that hinder its use.
    """

    source: str
    kind: str
    format: str
    architecture: str
    vision: Tower
    text: Tower
    joint_width: int
    frames: int | None
    resolution: int
    activation: str
    parameters: int
    dtype: str
    size_bytes: int
    trained_on: str | None = None
    released: str = ""
    contract: dict[str, Any] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def describe_checkpoint(name_or_path: str | Path, **options: Unpack[CheckpointOptions]) -> CheckpointDescription:
    """Describe a file or folder of weights, without reading the weights.

    Args:
        name_or_path, **options: see `read_checkpoint`.

    Raises:
        CheckpointError: there are no weights, they are damaged or refused, or they are of another model.
    """
    checkpoint = read_checkpoint(name_or_path, **options)
    config_from_shapes: dict[str, Any] | None = None
    with suppress(UnclearError):
        config_from_shapes = config_of(checkpoint.shapes, hidden_act="quick_gelu", vision_heads=1, text_heads=1)
    config, problems = _complete_config(checkpoint, config_from_shapes)
    problems += _find_contradictions(config_from_shapes, config)
    problems += _find_missing(checkpoint, config)
    vision, joint = config["vision_config"], config["projection_dim"]
    video_heads = vision.get("mit_num_attention_heads"), config.get("prompt_num_attention_heads")
    if joint == 768 and 8 in video_heads:
        problems.append("8 heads in MIT or the prompts at a joint width of 768; the authors' code has 12.")
    contract = None
    try:
        contract = _contract(config)
    except ValueError as error:
        problems.append(f"{CONFIG_NAME}: {CONTRACT_KEY}: {error}")
    released = released_as(str(name_or_path)) or released_as(checkpoint.source.name)
    return CheckpointDescription(
        source=str(checkpoint.source),
        kind=checkpoint.kind,
        format=checkpoint.format,
        architecture=architecture(config),
        vision=_tower(vision),
        text=_tower(config["text_config"]),
        joint_width=joint,
        frames=vision.get("num_frames"),
        resolution=vision["image_size"],
        activation=vision["hidden_act"],
        parameters=checkpoint.num_parameters,
        dtype=checkpoint.dtype,
        size_bytes=sum(path.stat().st_size for path in checkpoint.files),
        trained_on=_data_set(checkpoint) or (released.trained_on if released else None),
        released=released.name if released else "",
        contract=contract,
        info=checkpoint.info,
        problems=problems,
    )


def _tower(config: Mapping[str, Any]) -> Tower:
    return Tower(config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"])


def _contract(config: Mapping[str, Any]) -> dict[str, Any] | None:
    values = config.get(CONTRACT_KEY)
    if values is None:
        return None
    contract = TimeContract.from_dict(values)
    stride = {} if contract.window is None else {"stride": contract.stride_seconds}
    return {**contract.to_dict(), **stride}


def _complete_config(
    checkpoint: Checkpoint, config_from_shapes: dict[str, Any] | None
) -> tuple[dict[str, Any], list[str]]:
    """Return the configuration with the fields that config.json may leave out, and its problems.

    If config.json is invalid, the configuration is the one that the shapes tell.
    """
    if checkpoint.kind == "clip":
        return checkpoint.config, []
    try:
        config = XCLIPConfig.from_dict(checkpoint.config)
    except (ValueError, TypeError) as error:
        problem = f"{CONFIG_NAME}: {error}"
        if config_from_shapes is None:
            raise CheckpointError(f"{checkpoint.source}: {problem}") from error
        return config_from_shapes, [problem]
    return config.to_dict(), []


def _find_contradictions(config_from_shapes: dict[str, Any] | None, config: Mapping[str, Any]) -> list[str]:
    if config_from_shapes is None:
        return ["the weights' shapes are those of no X-CLIP or CLIP."]
    return [
        f"{CONFIG_NAME} says {key}={config[tower][key]} in its {tower}, but the weights have {value}."
        for tower in ("text_config", "vision_config")
        for key, value in config_from_shapes[tower].items()
        if "heads" not in key and key != "hidden_act" and config[tower].get(key, value) != value
    ]


def _find_missing(checkpoint: Checkpoint, config: Mapping[str, Any]) -> list[str]:
    num_blocks = {
        "text_model.encoder.layers.#.": config["text_config"]["num_hidden_layers"],
        "vision_model.encoder.layers.#.": config["vision_config"]["num_hidden_layers"],
        "mit.encoder.layers.#.": config["vision_config"].get("mit_num_hidden_layers", 1),
        "prompts_generator.decoder.#.": config.get("prompt_layers", 2),
    }
    present = checkpoint.shapes
    is_xclip = checkpoint.kind == "xclip"
    patterns = [name for row in names.TABLE for name in row.hub if is_xclip or names.is_of_clip(name)]
    missing = []
    for pattern in patterns:
        count = next((count for prefix, count in num_blocks.items() if pattern.startswith(prefix)), 1)
        count = min(count, len(present))  # a damaged config may say any number of blocks
        numbered = (pattern.replace("#", str(block)) for block in range(count))
        missing += [name for name in numbered if name not in present]
    if not missing:
        return []
    return [f"{len(missing)} tensors are missing: {', '.join(missing[:4])}{', …' if len(missing) > 4 else ''}."]


def _data_set(checkpoint: Checkpoint) -> str | None:
    data = (checkpoint.info.get("settings") or {}).get("DATA")
    name = data.get("DATASET") if isinstance(data, dict) else None
    return name if isinstance(name, str) and name else None
