"""Fingerprints of weights, which features and indexes store to recognise their model."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

import torch
from torch import nn

from openxclip.checkpoints.folder import find_weights
from openxclip.common.files import Stamp, atomic_file, cache_folder, stamp_of
from openxclip.errors import OpenXCLIPError


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights, with their names, types and shapes."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return hashed.hexdigest()


def fingerprint_by_name(model: nn.Module, name: str) -> str:
    """Return the `fingerprint` of a model that was loaded by a name and not changed since.

    Reading all weights takes longer than loading a model, which only maps them. So the result is kept in the user's
    cache, under the sizes and modification times of the files.
    """
    files: list[tuple[str, Stamp]] = []
    with suppress(OpenXCLIPError, OSError):
        files = [(str(path.resolve()), stamp_of(path)) for path in find_weights(name, local_files_only=True)[1]]
    if not files:
        return fingerprint(model)
    key = hashlib.sha256(json.dumps([files, str(next(model.parameters()).dtype)]).encode()).hexdigest()
    cached = cache_folder("fingerprints") / key[:32]
    with suppress(OSError, ValueError):
        text = cached.read_text(encoding="ascii")
        if len(text) == len(key):
            return text
    result = fingerprint(model)
    with suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(cached) as partial:
            partial.write_text(result, encoding="ascii")
    return result
