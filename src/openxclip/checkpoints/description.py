"""What a checkpoint is, from its file's headers and its configuration: no weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openxclip.checkpoints import names
from openxclip.checkpoints.formats import CONFIG_NAME, Checkpoint, read_checkpoint
from openxclip.checkpoints.released import released_as
from openxclip.checkpoints.shapes import UnclearError, architecture, config_of
from openxclip.config import XCLIPConfig
from openxclip.errors import CheckpointError


@dataclass(frozen=True)
class Tower:
    """The size of a tower: its width, blocks and attention heads."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class CheckpointDescription:
    """What a checkpoint is.

    Attributes:
        source: the file, or the folder's weights.
        kind: "xclip", or "clip" (no video parts: one to start an X-CLIP from).
        format: whose: "hub", "authors", "openai", "open_clip" or "huggingface_clip".
        architecture: such as "B/32".
        vision, text: the towers.
        joint_width: E.
        frames: of a clip; None of a CLIP.
        resolution: pixels of a frame's side.
        activation: in the towers.
        parameters: how many numbers the weights are.
        dtype: of most of them, such as "float32".
        size_bytes: of the file, or of all of a folder's.
        trained_on: the data set, if it is known.
        released: the name of the released checkpoint that it is, by its name; "" if none.
        info: what else the file says: epoch, max_accuracy, name, settings.
        problems: what would be in the way of using it.
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
    info: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def describe_checkpoint(name_or_path: str | Path, **options: Any) -> CheckpointDescription:
    """What a file or folder of weights is, without reading the weights.

    Args:
        name_or_path, **options: see `read_checkpoint`.

    Raises:
        CheckpointError: nothing there, damaged or refused; or weights of something else.
    """
    found = read_checkpoint(name_or_path, **options)
    by_shape = _by_shape(found)
    config, problems = _whole_config(found, by_shape)
    problems += _contradictions(by_shape, config)
    problems += _missing(found, config)
    vision, text = config["vision_config"], config["text_config"]
    joint, mit_heads = config["projection_dim"], vision.get("mit_num_attention_heads")
    if found.kind == "xclip" and joint == 768 and 8 in (mit_heads, config.get("prompt_num_attention_heads")):
        problems.append("8 heads in MIT or the prompts at a joint width of 768; the authors' code has 12.")
    known = released_as(str(name_or_path)) or released_as(found.source.name)
    return CheckpointDescription(
        source=str(found.source),
        kind=found.kind,
        format=found.format,
        architecture=architecture(config),
        vision=Tower(vision["hidden_size"], vision["num_hidden_layers"], vision["num_attention_heads"]),
        text=Tower(text["hidden_size"], text["num_hidden_layers"], text["num_attention_heads"]),
        joint_width=joint,
        frames=vision.get("num_frames"),
        resolution=vision["image_size"],
        activation=vision["hidden_act"],
        parameters=found.num_parameters,
        dtype=found.dtype,
        size_bytes=sum(path.stat().st_size for path in found.files),
        trained_on=_trained_on(found) or (known.trained_on if known else None),
        released=known.name if known else "",
        info=found.info,
        problems=problems,
    )


def _whole_config(found: Checkpoint, by_shape: dict[str, Any] | None) -> tuple[dict[str, Any], list[str]]:
    """The configuration with every field that a folder's config.json may leave out; or, where that can't be a model's,
    the one that the shapes tell, and why.
    """
    if found.kind == "clip":
        return found.config, []
    try:
        config = XCLIPConfig.from_dict(found.config)
    except (ValueError, TypeError) as error:
        problem = f"{CONFIG_NAME}: {error}"
        if by_shape is None:
            raise CheckpointError(f"{found.source}: {problem}") from error
        return by_shape, [problem]
    return config.to_dict(), []


def _by_shape(found: Checkpoint) -> dict[str, Any] | None:
    """What the tensors' shapes tell; None where they can't."""
    try:
        return config_of(found.shapes, hidden_act="quick_gelu", vision_heads=1, text_heads=1)
    except UnclearError:
        return None


def _contradictions(by_shape: dict[str, Any] | None, config: Mapping[str, Any]) -> list[str]:
    """Where the configuration says something else than the shapes."""
    if by_shape is None:
        return ["the weights' shapes are those of no X-CLIP or CLIP."]
    return [
        f"{CONFIG_NAME} says {key}={config[tower][key]} in its {tower}, but the weights have {value}."
        for tower in ("text_config", "vision_config")
        for key, value in by_shape[tower].items()
        if "heads" not in key and key != "hidden_act" and config[tower].get(key, value) != value
    ]


def _missing(found: Checkpoint, config: Mapping[str, Any]) -> list[str]:
    """Tensors of the table that a whole model of these sizes has and this one hasn't."""
    blocks = {
        "text_model.encoder.layers.#.": config["text_config"]["num_hidden_layers"],
        "vision_model.encoder.layers.#.": config["vision_config"]["num_hidden_layers"],
        "mit.encoder.layers.#.": config["vision_config"].get("mit_num_hidden_layers", 1),
        "prompts_generator.decoder.#.": config.get("prompt_layers", 2),
    }
    held = found.shapes
    wanted = [name for row in names.TABLE for name in row.hub if found.kind == "xclip" or names.is_of_clip(name)]
    missing = []
    for name in wanted:
        count = next((n for prefix, n in blocks.items() if name.startswith(prefix)), 1)
        few = min(count, len(held))  # a config may say any number, of which one more than there are tensors is missing
        missing += [one for one in (name.replace("#", str(i)) for i in range(few)) if one not in held]
    return [f"{len(missing)} tensors are missing: {', '.join(missing[:4])}{', …' * (len(missing) > 4)}."] * bool(
        missing
    )


def _trained_on(found: Checkpoint) -> str | None:
    """The data set that the authors' settings name."""
    data = (found.info.get("settings") or {}).get("DATA")
    dataset = data.get("DATASET") if isinstance(data, dict) else None
    return dataset if isinstance(dataset, str) and dataset else None
