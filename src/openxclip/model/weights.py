"""Weights on their way into a model: from a file or a dict, renamed, counted, and checked against a config."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openxclip import checkpoints
from openxclip.config import CONFIG_NAME, XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
from openxclip.errors import CheckpointError

Config = XCLIPConfig | XCLIPTextConfig | XCLIPVisionConfig


@torch.inference_mode(False)
def read_weights(
    name: str | Path | None, state_dict: Mapping[str, Tensor] | None, *, variant: str | None, **hub_options: Any
) -> checkpoints.LoadedWeights:
    """The tensors of a folder, or copies of those in `state_dict` if it is given.

    Raises:
        CheckpointError: there are no weights in the folder, or they can't be read.
    """
    if state_dict is not None:
        copies = {key: tensor.detach().clone() for key, tensor in state_dict.items()}
        return checkpoints.LoadedWeights(copies, Path("state_dict"))
    assert name is not None
    return checkpoints.load_state_dict(name, variant=variant, **hub_options)


def renamed(
    found: checkpoints.LoadedWeights, key_mapping: Mapping[str, str] | None, use_safetensors: bool | None
) -> dict[str, Tensor]:
    """The tensors by the names that `key_mapping` gives them: regular expressions and what replaces them.

    Raises:
        CheckpointError: they are no safetensors, and `use_safetensors` asks for these.
    """
    if use_safetensors and ".safetensors" not in found.source.name and found.source.suffix:
        raise CheckpointError(f"{found.source}: is no safetensors file, and use_safetensors=True asks for one.")
    tensors = found.tensors
    for pattern, replacement in (key_mapping or {}).items():
        tensors = {re.sub(pattern, replacement, key): tensor for key, tensor in tensors.items()}
    return tensors


@torch.inference_mode(False)  # parameters made under it could never be trained
def read_xclip(name_or_path: str | Path, **options: Any) -> checkpoints.Checkpoint:
    """A checkpoint that is an X-CLIP; CheckpointError with what to do if it is a CLIP."""
    found = checkpoints.read_checkpoint(name_or_path, **options)
    if found.kind == "clip":
        raise CheckpointError(
            f"{name_or_path}: this is a CLIP (no video parts): `openxclip init --from {name_or_path} --out FOLDER` "
            "(in Python XCLIPModel.from_clip) starts an X-CLIP from it."
        )
    return found


def check_blocks(config: Config, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Refuse a config of more blocks than there are tensors: it may say anything, and building costs by it."""
    blocks = _blocks(config)
    if blocks > len(tensors):
        raise CheckpointError(f"{source}: {CONFIG_NAME} says {blocks} blocks, but there are {len(tensors)} tensors.")


def _blocks(config: Config) -> int:
    """How many blocks a model of this config has."""
    towers = (config.text_config, config.vision_config) if isinstance(config, XCLIPConfig) else (config,)
    names = ("num_hidden_layers", "mit_num_hidden_layers", "prompt_layers")
    counts = [getattr(part, name, 0) for part in (config, *towers) for name in names]
    return max((count for count in counts if isinstance(count, int)), default=0)


def size_of(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> int:
    """Bytes that these take as weights of this type."""
    return sum(
        t.numel() * (dtype.itemsize if dtype is not None and t.is_floating_point() else t.itemsize)
        for t in tensors.values()
    )


def warn_of_heads(config: Config, *, stacklevel: int) -> None:
    """Say of a config with the converter's heads that scores differ from the authors'."""
    if isinstance(config, XCLIPConfig) and config.has_converters_heads:
        heads = config.projection_dim // 64
        warnings.warn(
            f"{CONFIG_NAME} says mit_num_attention_heads={config.vision_config.mit_num_attention_heads} and "
            f"prompt_num_attention_heads={config.prompt_num_attention_heads} at a joint width of "
            f"{config.projection_dim}, and is followed; the authors' code has {heads} of each, so scores differ from "
            "theirs. To have theirs: "
            f"config = XCLIPConfig.from_pretrained(...); config.vision_config.mit_num_attention_heads = {heads}; "
            f"config.prompt_num_attention_heads = {heads}; XCLIPModel.from_pretrained(..., config=config).",
            stacklevel=stacklevel + 1,
        )
