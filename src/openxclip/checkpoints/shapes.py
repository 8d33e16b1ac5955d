"""Derive a model's configuration from its tensors' shapes.

Names are the hub's. No shape tells the number of heads: each is 64 wide in everything that OpenAI and the authors
released; open_clip's vision towers from width 1280 on (ViT-H, g, bigG and e) have 16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from openxclip.config import HEAD_WIDTH

Shapes = Mapping[str, tuple[int, ...]]
_LARGE_WIDTH, _LARGE_HEADS = 1280, 16
_LETTERS = {384: "S", 512: "M", 768: "B", 896: "B+", 1024: "L", 1280: "H", 1408: "g", 1664: "bigG", 1792: "e"}


class UnclearError(Exception):
    """The shapes fit no model, or leave something open; the message says what, and which option settles it."""


def config_of(
    shapes: Shapes, *, hidden_act: str, vision_heads: int | None = None, text_heads: int | None = None
) -> dict[str, Any]:
    """Return the fields of an XCLIPConfig; a CLIP has no fields of MIT, prompts and frames.

    Args:
        shapes: shapes by the hub's names.
        hidden_act: activation of both towers' MLPs.
        vision_heads, text_heads: numbers of heads; None derives them from the widths.

    Raises:
        UnclearError: a required tensor is missing or has an impossible shape.
    """
    vocabulary, text_width = _shape(shapes, "text_model.embeddings.token_embedding.weight", 2)
    context, _ = _shape(shapes, "text_model.embeddings.position_embedding.weight", 2)
    width, channels, patch, patch_width = _shape(shapes, "vision_model.embeddings.patch_embedding.weight", 4)
    positions, _ = _shape(shapes, "vision_model.embeddings.position_embedding.weight", 2)
    joint, _ = _shape(shapes, "text_projection.weight", 2)
    grid = math.isqrt(max(positions - 1, 0))
    if patch != patch_width or grid * grid != positions - 1 or not grid:
        raise UnclearError(f"its frames aren't square ({positions - 1} patches of {patch} × {patch_width} pixels)")
    text: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": text_width,
        "intermediate_size": _shape(shapes, "text_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        "num_hidden_layers": _count(shapes, "text_model.encoder.layers."),
        "num_attention_heads": text_heads or _heads(text_width, "text"),
        "max_position_embeddings": context,
        "hidden_act": hidden_act,
    }
    vision: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": _shape(shapes, "vision_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        "num_hidden_layers": _count(shapes, "vision_model.encoder.layers."),
        "num_attention_heads": vision_heads or (_LARGE_HEADS if width >= _LARGE_WIDTH else _heads(width, "vision")),
        "num_channels": channels,
        "image_size": grid * patch,
        "patch_size": patch,
        "hidden_act": hidden_act,
    }
    config = {"model_type": "xclip", "text_config": text, "vision_config": vision, "projection_dim": joint}
    if "mit.position_embedding" in shapes:
        config["prompt_layers"] = _count(shapes, "prompts_generator.decoder.")
        add_video_parts(
            config,
            num_frames=_shape(shapes, "mit.position_embedding", 3)[1],
            mit_layers=_count(shapes, "mit.encoder.layers."),
            mit_inner_width=_shape(shapes, "mit.encoder.layers.0.mlp.fc1.weight", 2)[0],
        )
    return config


def add_video_parts(
    config: dict[str, Any], *, num_frames: int, mit_layers: int = 1, mit_inner_width: int | None = None
) -> None:
    """Add the fields that an X-CLIP has beyond a CLIP, in the paper's sizes: MIT and prompts with heads 64 wide.

    Raises:
        UnclearError: the joint width can't be split into heads.
    """
    joint = config["projection_dim"]
    heads = _heads(joint, "joint")
    config["prompt_num_attention_heads"] = heads
    config["vision_config"] |= {
        "mit_hidden_size": joint,
        "mit_intermediate_size": mit_inner_width or 4 * joint,
        "mit_num_hidden_layers": mit_layers,
        "mit_num_attention_heads": heads,
        "num_frames": num_frames,
    }


def architecture(config: Mapping[str, Any]) -> str:
    """Return the architecture, such as "B/32"; the width replaces the letter if no letter is known."""
    vision = config["vision_config"]
    return f"{_LETTERS.get(vision['hidden_size'], vision['hidden_size'])}/{vision['patch_size']}"


def _shape(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None:
        raise UnclearError(f"it has no {name}")
    if len(shape) != dimensions or not all(shape):
        raise UnclearError(f"its {name} is {shape}, but a CLIP's has {dimensions} dimensions")
    return shape


def _count(shapes: Shapes, prefix: str) -> int:
    numbers = {name.removeprefix(prefix).split(".", 1)[0] for name in shapes if name.startswith(prefix)}
    if numbers != {str(i) for i in range(len(numbers))} or not numbers:
        raise UnclearError(f"its blocks {prefix}… aren't numbered from 0 on")
    return len(numbers)


def _heads(width: int, tower: str) -> int:
    heads = max(1, width // HEAD_WIDTH)
    if width % heads:
        option = "" if tower == "joint" else f": say {tower}_heads="
        raise UnclearError(f"its {tower} width {width} doesn't tell the number of heads{option}")
    return heads
