"""Read the config and weights for a model class, from a folder, a file, the hub or a dict. Knows no model class."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic

from openxclip import hub
from openxclip.checkpoints.folder import LoadedWeights, load_state_dict
from openxclip.checkpoints.formats import Checkpoint, CheckpointOptions, read_checkpoint
from openxclip.checkpoints.shapes import UnclearError, add_video_parts
from openxclip.config import ConfigT, XCLIPConfig
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack  # in typing since Python 3.11


@dataclass(frozen=True)
class Pretrained(Generic[ConfigT]):
    """The config of a model, and a function that loads its weights."""

    config: ConfigT
    load_weights: Callable[[], LoadedWeights]


def open_pretrained(
    config_class: type[ConfigT],
    name_or_path: str | Path | None,
    *,
    config: ConfigT | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
    key_mapping: Mapping[str, str] | None = None,
    use_safetensors: bool | None = None,
    variant: str | None = None,
    **hub_options: Unpack[hub.HubOptions],
) -> Pretrained[ConfigT]:
    """Read the config of a model and prepare to load its weights.

    Args:
        config_class: class of the config; a tower's class selects the tower's part of a whole X-CLIP.
        name_or_path: a folder, a hub id, the shipped `"mini"`, or a file of weights; None if `config` and `state_dict`
            are given.
        config, state_dict, key_mapping, use_safetensors, variant: see `openxclip.XCLIPModel.from_pretrained`.
        **hub_options: see `openxclip.hub.HubOptions`.

    Raises:
        CheckpointError: there is no such model, or its config can't be read. `load_weights` raises it if there are no
            weights, they can't be read, or they are no safetensors and `use_safetensors` asks for these.
        ValueError: `name_or_path` is None, and `config` or `state_dict` is missing.
    """
    if name_or_path is None and (config is None or state_dict is None):
        raise ValueError("from_pretrained(None) needs both config= and state_dict=; otherwise give a name.")
    checkpoint = None
    if name_or_path is not None and hub.existing_file(name_or_path) is not None:
        checkpoint = read_checkpoint(name_or_path)
        if checkpoint.kind == "clip":
            raise CheckpointError(
                f"{name_or_path}: this is a CLIP (no video parts): `openxclip init --from {name_or_path} --out FOLDER` "
                "(in Python XCLIPModel.from_clip) starts an X-CLIP from it."
            )
    if config is not None:
        config = config_class.of(config)
    elif checkpoint is not None:
        config = config_in(checkpoint, config_class)
    else:
        assert name_or_path is not None
        config = config_class.from_pretrained(name_or_path, **hub_options)

    def load_weights() -> LoadedWeights:
        if state_dict is not None:
            copies = {key: tensor.detach().clone() for key, tensor in state_dict.items()}
            weights = LoadedWeights(copies, Path("state_dict"))
        elif checkpoint is not None:
            weights = LoadedWeights(checkpoint.tensors, checkpoint.source)
        else:
            assert name_or_path is not None
            weights = load_state_dict(name_or_path, variant=variant, **hub_options)
        source = weights.source
        if use_safetensors and ".safetensors" not in source.name and source.suffix:
            raise CheckpointError(f"{source}: is not a safetensors file, but use_safetensors=True asks for one.")
        tensors = weights.tensors
        for pattern, replacement in (key_mapping or {}).items():
            tensors = {re.sub(pattern, replacement, name): tensor for name, tensor in tensors.items()}
        return LoadedWeights(tensors, source)

    return Pretrained(config, load_weights)


def config_in(checkpoint: Checkpoint, config_class: type[ConfigT]) -> ConfigT:
    """Return the config in a checkpoint; of a whole X-CLIP, a tower's class selects the tower's part.

    Raises:
        CheckpointError: the checkpoint has no valid config of this class.
    """
    try:
        return config_class.from_dict(config_class.select_part(checkpoint.config, checkpoint.source))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.source}: {error}") from error


def open_clip_start(
    name_or_path: str | Path, *, num_frames: int, **options: Unpack[CheckpointOptions]
) -> Pretrained[XCLIPConfig]:
    """Return the config of the X-CLIP that starts from a CLIP, and a function that loads the CLIP's weights.

    Args:
        name_or_path: a file, a folder or a hub id of an OpenAI, open_clip or Hugging Face CLIP.
        num_frames: T, the frames of a clip.
        **options: see `read_checkpoint`.

    Raises:
        CheckpointError: there is no such checkpoint, or it isn't a whole CLIP with a vision transformer.
    """
    clip = read_checkpoint(name_or_path, **options)
    if clip.kind != "clip":
        raise CheckpointError(f"{name_or_path}: this is an X-CLIP already: load it with XCLIPModel.from_pretrained.")
    try:
        add_video_parts(clip.config, num_frames=num_frames)
    except UnclearError as error:
        raise CheckpointError(f"{clip.source}: {error}.") from error
    return Pretrained(XCLIPConfig.from_dict(clip.config), lambda: LoadedWeights(clip.tensors, clip.source))
