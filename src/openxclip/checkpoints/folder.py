"""Load and save the weights of a hub folder: model.safetensors, its shards with their index, or pytorch_model.bin."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from openxclip import hub
from openxclip.checkpoints.files import load_safetensors
from openxclip.checkpoints.pickled import Stored, read_pickled
from openxclip.common.files import as_os_error, atomic_folder, cannot_write
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack  # in typing since Python 3.11

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"
_INDEX = ".index.json"
# The weights files of a saved model.
_WEIGHTS_NAME = re.compile(
    r"(model(-\d{5}-of-\d{5})?\.safetensors|pytorch_model(-\d{5}-of-\d{5})?\.bin)(\.index\.json)?"
)


class LoadedWeights(NamedTuple):
    """Tensors by name, and the file or index that they come from."""

    tensors: dict[str, Tensor]
    source: Path


def load_state_dict(
    name_or_path: str | Path, *, variant: str | None = None, **hub_options: Unpack[hub.HubOptions]
) -> LoadedWeights:
    """Load the tensors of a folder or hub repository. Files are mapped rather than read.

    Args:
        name_or_path, **hub_options: see `openxclip.hub.resolve_folder`.
        variant: as in `model.fp16.safetensors`.

    Raises:
        CheckpointError: there are no weights, or a file is damaged or holds more than tensors.
    """
    source, files = find_weights(name_or_path, variant=variant, **hub_options)
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(load_safetensors(file) if ".safetensors" in source.name else _read_pickled(file))
    return LoadedWeights(tensors, source)


def find_weights(
    name_or_path: str | Path, *, variant: str | None = None, **hub_options: Unpack[hub.HubOptions]
) -> tuple[Path, list[Path]]:
    """Return the weights file of a folder or hub repository, or its index; and the files that hold the tensors.

    Raises:
        CheckpointError: there are no weights, or files that the index names are missing.
    """
    weights, index = _names_of(SAFETENSORS, variant)
    patterns = ["config.json", "model*.safetensors", index]
    folder = hub.resolve_folder(name_or_path, **hub_options, allow_patterns=patterns)
    source = _first_file(folder, weights, index)
    if source is None:
        pickled, pickled_index = _names_of(PICKLED, variant)
        patterns = ["pytorch_model*.bin", pickled_index]
        folder = hub.resolve_folder(name_or_path, **hub_options, allow_patterns=patterns)
        source = _first_file(folder, pickled, pickled_index)
        if source is None:
            content = hub.content_of(folder)
            raise CheckpointError(f"{folder}: no {weights} or {pickled} in this folder (it holds {content}).")
    return source, _shards(source) if source.name.endswith(".json") else [source]


def _names_of(name: str, variant: str | None) -> tuple[str, str]:
    """Return the names of a weights file and of the index of its shards, with the variant before the last suffix."""
    names = (name, name + _INDEX)
    if variant is None:
        return names
    weights, index = (".".join([stem, variant, suffix]) for stem, _, suffix in (n.rpartition(".") for n in names))
    return weights, index


def _first_file(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(hub.read_json(index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: not an index of shards ({type(error).__name__}: {error}).") from error
    # A name with a folder in it would read files outside the folder that the user gave.
    outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if outside:
        raise CheckpointError(f"{index}: names {outside[0]!r}, which is not a file of this folder.")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent}: {len(missing)} of {len(names)} shards are missing: {', '.join(missing)}."
        )
    return [index.parent / name for name in names]


def _read_pickled(path: Path) -> dict[str, Tensor]:
    content = read_pickled(path)
    if not isinstance(content, dict) or not all(isinstance(value, Stored) for value in content.values()):
        raise CheckpointError(f"{path}: holds no plain dictionary of tensors.")
    return {name: stored.load() for name, stored in content.items()}


def save_state_dict(
    tensors: dict[str, Tensor], folder: Path, *, max_shard_size: int | str = "5GB", variant: str | None = None
) -> None:
    """Write tensors as safetensors atomically into a folder, and delete older weights there.

    Args:
        tensors: the tensors by name.
        folder: where to write; created if it doesn't exist.
        max_shard_size: bytes, or text such as "5GB"; larger weights are split into shards with an index.
        variant: as in `model.fp16.safetensors`; weights of other variants are kept.

    Raises:
        CheckpointError: the folder can't be written.
    """
    from huggingface_hub import save_torch_state_dict

    tensors = _without_shared_memory(tensors)
    infix = "" if variant is None else f".{variant}"
    pattern = f"model{infix}{{suffix}}.safetensors"
    try:
        with atomic_folder(folder) as scratch:
            save_torch_state_dict(tensors, scratch, max_shard_size=max_shard_size, filename_pattern=pattern)
            if variant is not None:  # the hub's library names the index without regard to the variant
                weights_name, index_name = _names_of(SAFETENSORS, variant)
                index = scratch / (weights_name + _INDEX)
                if index.exists():
                    index.rename(scratch / index_name)
            for path in scratch.iterdir():
                path.chmod(scratch.stat().st_mode & 0o666)  # safetensors makes files that nobody else may read
            written = {path.name for path in scratch.iterdir()}
        if variant is None:
            _delete_older_weights(folder, written)
    except Exception as error:  # safetensors has its own exception for a full disk
        system_error = as_os_error(error, folder)
        if system_error is None:
            raise
        raise CheckpointError(cannot_write(folder, system_error)) from error


def _without_shared_memory(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors with memory of their own: of tensors that share it, safetensors keeps at most one."""
    import torch

    memory = {name: tensor.untyped_storage().data_ptr() for name, tensor in tensors.items()}
    users = Counter(memory.values())
    return {
        name: tensor.clone(memory_format=torch.contiguous_format) if users[memory[name]] > 1 else tensor.contiguous()
        for name, tensor in tensors.items()
    }


@contextmanager
def atomic_model_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder for a model's files, which `atomic_folder` then moves to `target`.

    Older weights in `target` are deleted afterwards.

    Raises:
        CheckpointError: `target` can't be written.
    """
    scratch = target
    try:
        with atomic_folder(target, last="config.json") as scratch:
            yield scratch
            written = {path.name for path in scratch.iterdir()}
        _delete_older_weights(target, written)
    except CheckpointError as error:
        if str(scratch) not in str(error):
            raise
        raise CheckpointError(str(error).replace(str(scratch), str(target))) from error  # the name that the user knows
    except OSError as error:
        raise CheckpointError(cannot_write(target, error)) from error


def _delete_older_weights(folder: Path, written: set[str]) -> None:
    """Delete weights files that would be loaded beside, or instead of, those that were written."""
    for path in folder.iterdir():
        if _WEIGHTS_NAME.fullmatch(path.name) and path.name not in written:
            path.unlink()
