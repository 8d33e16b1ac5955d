"""The weights of a hub folder: model.safetensors, its shards with their index, or pytorch_model.bin."""

from __future__ import annotations

import json
import pickle
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from openxclip import hub
from openxclip.errors import CheckpointError

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"
_INDEX = ".index.json"
# What a saved model consists of, and nothing else that may lie beside it.
_OF_A_MODEL = re.compile(r"(model(-\d{5}-of-\d{5})?\.safetensors|pytorch_model(-\d{5}-of-\d{5})?\.bin)(\.index\.json)?")


class LoadedWeights(NamedTuple):
    """Tensors by name, and where they are from."""

    tensors: dict[str, Tensor]
    source: Path


def load_state_dict(name_or_path: str | Path, **hub_options: Any) -> LoadedWeights:
    """The tensors of a folder or hub repository, mapped from the file rather than read where the format allows it.

    Args:
        name_or_path, **hub_options: see `openxclip.hub.resolve_folder`.

    Raises:
        CheckpointError: no weights there, or a file that is damaged or holds more than tensors.
    """
    folder = hub.resolve_folder(
        name_or_path,
        **hub_options,
        allow_patterns=["config.json", "model*.safetensors", SAFETENSORS + _INDEX],
    )
    source = _weights_file(folder, SAFETENSORS)
    if source is None:
        folder = hub.resolve_folder(
            name_or_path, **hub_options, allow_patterns=["pytorch_model*.bin", PICKLED + _INDEX]
        )
        source = _weights_file(folder, PICKLED)
    if source is None:
        held = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise CheckpointError(f"{folder}: no {SAFETENSORS} or {PICKLED} in this folder (it holds {held}).")
    read = _read_safetensors if SAFETENSORS in source.name else _read_pickled
    if not source.name.endswith(_INDEX):
        return LoadedWeights(read(source), source)
    tensors: dict[str, Tensor] = {}
    for shard in _shards(source):
        tensors.update(read(shard))
    return LoadedWeights(tensors, source)


def _weights_file(folder: Path, name: str) -> Path | None:
    for candidate in (folder / name, folder / (name + _INDEX)):
        if candidate.is_file():
            return candidate
    return None


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: not an index of shards ({type(error).__name__}: {error}).") from error
    # A shard lies beside its index: a name with a folder in it would read what the user did not point to.
    strange = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if strange:
        raise CheckpointError(f"{index}: names {strange[0]!r}, which is not a file of this folder.")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent}: {len(missing)} of {len(names)} shards are missing: {', '.join(missing)}."
        )
    return [index.parent / name for name in names]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged, or not safetensors ({error}).") from error


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before torch 1.6 can't be mapped; damage fails once more below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, for it holds more than tensors, or is damaged: {str(error).splitlines()[0]}"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged, or not written by torch.save ({error}).") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{path}: holds no plain dictionary of tensors.")
    return found


def save_state_dict(tensors: dict[str, Tensor], folder: Path, *, max_shard_size: int | str = "5GB") -> None:
    """Write tensors as safetensors into a folder, which is made if it doesn't exist.

    Files appear there whole or not at all, and older weights of the folder are gone afterwards.

    Args:
        tensors: by name.
        folder: where to.
        max_shard_size: bytes, or text such as "5GB"; more than that is split into shards with an index.

    Raises:
        CheckpointError: the folder can't be written.
    """
    from huggingface_hub import save_torch_state_dict

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
            save_torch_state_dict(tensors, scratch, max_shard_size=max_shard_size)
            written = {path.name for path in Path(scratch).iterdir()}
            like = Path(scratch) / "like-any-file"
            like.touch()
            for name in written:
                path = Path(scratch) / name
                path.chmod(like.stat().st_mode)  # safetensors makes files that nobody else may read
                path.replace(folder / name)
    except OSError as error:
        raise CheckpointError(f"{folder}: can't be written ({error}).") from error
    for path in folder.iterdir():
        if _OF_A_MODEL.fullmatch(path.name) and path.name not in written:
            path.unlink()
