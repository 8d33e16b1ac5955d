"""Fingerprints of weights: what features and indexes are known by."""

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
    """SHA-256 of a model's weights, with their names, types and shapes."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return hashed.hexdigest()


def fingerprint_by_name(model: nn.Module, name: str) -> str:
    """`fingerprint` of a model that was loaded by a name and not changed since.

    Reading all weights takes longer than loading them, which maps them: so it is done once for files of these lengths
    and times, and remembered in the user's cache.
    """
    files: list[tuple[str, Stamp]] = []
    with suppress(OpenXCLIPError, OSError):
        files = [(str(path.resolve()), stamp_of(path)) for path in find_weights(name, local_files_only=True)[1]]
    if not files:
        return fingerprint(model)
    key = hashlib.sha256(json.dumps([files, str(next(model.parameters()).dtype)]).encode()).hexdigest()
    known = cache_folder("fingerprints") / key[:32]
    with suppress(OSError, ValueError):
        text = known.read_text(encoding="ascii")
        if len(text) == len(key):
            return text
    found = fingerprint(model)
    with suppress(OSError):
        known.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(known) as partial:
            partial.write_text(found, encoding="ascii")
    return found
