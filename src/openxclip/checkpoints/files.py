"""Read a file of weights in any format (its tensors by name, and other values), and write the authors' format."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openxclip.checkpoints import archive
from openxclip.checkpoints.names import to_authors
from openxclip.checkpoints.pickled import LEGACY_MAGIC, Stored, as_sizes, is_script_module, module_tensors, read_pickled
from openxclip.checkpoints.stand_ins import Inert, RefusedPickleError
from openxclip.common.files import MODEL_NOT_UTF8, as_os_error, atomic_file, cannot_read, cannot_write, is_utf8
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_MAX_TEXT = 1000  # characters of a text that is kept
_MAX_SETTINGS = 10_000  # values of a tree of settings that are kept
_MAX_HEADER = 16 << 20  # bytes; the largest CLIP's has under 1 MB
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
# Keys of the weights in training checkpoints: the authors', open_clip's, and other common ones.
_WEIGHTS_KEYS = ("model", "state_dict", "model_state_dict", "model_ema")
_SETTINGS_KEYS = ("config", "args")  # the authors' yacs tree; others' command line
OWN_TEXTS = "openxclip"  # key of `WeightsFile.texts` in a .pth


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file of weights.

    Attributes:
        stored: tensors by name, not yet read.
        info: plain values of a training checkpoint: epoch, max_accuracy, name; and `settings`, a tree.
        texts: texts by file name that `convert` stored, so that converting back is exact.
        is_bare: whether `torch.save` wrote only weights by name, in the order of their modules.
    """

    path: Path
    stored: Mapping[str, Stored] = field(repr=False)
    info: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    is_bare: bool = False


def read_weights_file(path: Path) -> WeightsFile:
    """Read a file of safetensors, torch.save or torch.jit.save. Tensors are read when they are loaded.

    Raises:
        CheckpointError: the file is damaged, refused, or holds no tensors by name.
    """
    if path.suffix == ".safetensors" or _starts_as_safetensors(_read_head(path)):
        return WeightsFile(path, read_safetensors_header(path))
    value = read_pickled(path)
    if is_script_module(value):
        return WeightsFile(path, module_tensors(value))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a {type(value).__name__}, not weights by name.")
    for key in _WEIGHTS_KEYS:
        if isinstance(value.get(key), dict):
            return WeightsFile(path, _tensors_by_name(value[key], path), _info(value), _texts(value))
    return WeightsFile(path, _tensors_by_name(value, path), is_bare=True)


def _tensors_by_name(content: dict[Any, Any], path: Path) -> dict[str, Stored]:
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Stored)}
    if not tensors:
        raise CheckpointError(f"{path}: holds no weights by name (of a model or its state dict).")
    return tensors


def _info(value: dict[Any, Any]) -> dict[str, Any]:
    info = {key: _shortened(value[key]) for key in ("epoch", "max_accuracy", "name") if _is_plain(value.get(key))}
    for key in _SETTINGS_KEYS:
        settings = value.get(key)
        if isinstance(settings, Inert):
            settings = settings.state
        if isinstance(settings, dict):
            return {**info, "settings": _plain_tree(settings, budget=[_MAX_SETTINGS])}
    return info


def _texts(value: dict[Any, Any]) -> dict[str, str]:
    texts = value.get(OWN_TEXTS)
    items = texts.items() if isinstance(texts, dict) else ()
    return {name: text for name, text in items if isinstance(name, str) and isinstance(text, str)}


def _plain_tree(tree: dict[Any, Any], *, budget: list[int], depth: int = 0) -> dict[str, Any]:
    """Return the scalars of a tree, and lists of them. Limits of depth and values end a tree that contains itself."""
    plain: dict[str, Any] = {}
    for key, value in tree.items():
        budget[0] -= 1 + (len(value) if isinstance(value, list | tuple) else 0)
        if budget[0] < 0:
            break
        if not isinstance(key, str) or len(key) > _MAX_TEXT:
            continue
        if isinstance(value, dict):
            if depth < 8:
                plain[key] = _plain_tree(value, budget=budget, depth=depth + 1)
        elif isinstance(value, list | tuple):
            plain[key] = [_shortened(item) for item in value[:100] if _is_plain(item)]
        elif value is None or _is_plain(value):
            plain[key] = _shortened(value)
    return plain


def _is_plain(value: Any) -> bool:
    """Whether a value is a text or a number that JSON can hold."""
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def _shortened(value: Any) -> Any:
    return value[:_MAX_TEXT] if isinstance(value, str) else value


# ---------------------------------------------------------------------------------------------------- safetensors


def looks_like_weights(path: Path) -> bool:
    """Whether a file begins as safetensors and torch.save write it."""
    try:
        head = _read_head(path)
    except CheckpointError:
        return False
    return head.startswith((archive.MAGIC, LEGACY_MAGIC)) or _starts_as_safetensors(head)


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise CheckpointError(cannot_read(path, error)) from error


def _starts_as_safetensors(head: bytes) -> bool:
    """Whether a file begins with the length of a header in 8 bytes and then JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER


def read_safetensors_header(path: Path) -> dict[str, Stored]:
    """Return the tensors in a file's header, or raise CheckpointError. Loading one of them checks the whole file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(_MAX_HEADER, path.stat().st_size - 8):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            entries = {
                str(name): (_dtype(entry["dtype"]), as_sizes(entry["shape"]), entry["data_offsets"])
                for name, entry in header.items()
            }
            end = max((offsets[1] for _, _, offsets in entries.values()), default=0)
            if end != path.stat().st_size - 8 - length or any(
                math.prod(shape) > o[1] - o[0] for _, shape, o in entries.values()
            ):
                raise ValueError("its header doesn't fit its length")
    except RefusedPickleError as error:
        raise CheckpointError(f"{path}: damaged, or not safetensors ({error}).") from error
    except OSError as error:
        raise CheckpointError(cannot_read(path, error)) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, or not safetensors ({type(error).__name__}: {error}).") from error

    load_once = cache(partial(load_safetensors, path))

    def load(name: str) -> Tensor:
        return load_once()[name]

    return {name: Stored(dtype, shape, partial(load, name)) for name, (dtype, shape, _) in entries.items()}


def _dtype(code: Any) -> str:
    if isinstance(code, str) and code not in _DTYPES:
        raise ValueError(f"numbers of type {code[:20]}, which aren't read")
    return _DTYPES[code]


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Map the tensors of a file of safetensors.

    Raises:
        CheckpointError: the file can't be read, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not is_utf8(str(path)):
        raise CheckpointError(f"{path}: {MODEL_NOT_UTF8}")
    try:
        with path.open("rb"):  # safetensors reports every file that it can't open as missing
            return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        system_error = as_os_error(error, path)
        raise CheckpointError(
            f"{path}: damaged, or not safetensors ({error})."
            if system_error is None
            else cannot_read(path, system_error)
        ) from error


# ---------------------------------------------------------------------------------------------------- writing


def save_authors_file(tensors: Mapping[str, Tensor], path: Path, *, texts: Mapping[str, str]) -> None:
    """Write weights atomically as `{"model": …}` by torch.save, under the authors' names.

    Args:
        tensors: weights under the hub's names.
        path: path of the file.
        texts: texts to store beside the weights, so that converting back gives the same config.json.

    Raises:
        CheckpointError: a tensor has no counterpart in the authors' model, or the file can't be written.
    """
    import torch

    try:
        state = to_authors(tensors)
    except KeyError as error:
        raise CheckpointError(f"{path}: the authors' model has nothing like {error.args[0]!r}.") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial, partial.open("wb") as file:
            torch.save({"model": state, OWN_TEXTS: dict(texts)}, file)
    except OSError as error:
        raise CheckpointError(cannot_write(path, error)) from error
    except RuntimeError as error:  # torch.save raises it for a full disk, without saying so
        system_error = error.__context__ if isinstance(error.__context__, OSError) else OSError(errno.EIO, "")
        raise CheckpointError(cannot_write(path, system_error)) from error
