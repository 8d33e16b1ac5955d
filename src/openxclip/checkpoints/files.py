"""One file of weights, whatever its format: the tensors in it by name, and what else it says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openxclip.checkpoints import archive
from openxclip.checkpoints.pickled import LEGACY_MAGIC, Stored, as_sizes, is_script_module, module_tensors, read_pickled
from openxclip.checkpoints.stand_ins import Inert, RefusedPickleError
from openxclip.common.files import MODEL_NOT_UTF8, cannot_read, is_utf8
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST_TEXT = 1000  # characters of what is shown of a file; a tree of settings has at most 10,000 such
_LONGEST_HEADER = 16 << 20  # bytes; that of the largest CLIP has under 1 MB
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
# Under which of these a training checkpoint has its weights: the authors', open_clip's, and others' usual ones.
_WEIGHTS_KEYS = ("model", "state_dict", "model_state_dict", "model_ema")
_SETTINGS_KEYS = ("config", "args")  # the authors' yacs tree; others' command line


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds.

    Attributes:
        stored: its tensors by name, not yet read.
        extra: of a training checkpoint, what is plain among the rest: epoch, max_accuracy, name; `settings`, a tree.
        is_bare: whether `torch.save` wrote nothing but weights by name, in the order of their modules.
    """

    path: Path
    stored: Mapping[str, Stored] = field(repr=False)
    extra: dict[str, Any] = field(default_factory=dict)
    is_bare: bool = False


def read_weights_file(path: Path) -> WeightsFile:
    """The tensors of a file by safetensors, torch.save or torch.jit.save, and what it says beside them.

    Raises:
        CheckpointError: it is damaged, refused, or holds no tensors by name.
    """
    if path.suffix == ".safetensors" or _starts_as_safetensors(path):
        return WeightsFile(path, read_safetensors_header(path))
    value = read_pickled(path).value
    if is_script_module(value):
        return WeightsFile(path, module_tensors(value))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a {type(value).__name__}, not weights by name.")
    for key in _WEIGHTS_KEYS:
        if isinstance(value.get(key), dict):
            return WeightsFile(path, _named(value[key], path), _extra(value))
    return WeightsFile(path, _named(value, path), is_bare=True)


def _named(found: dict[Any, Any], path: Path) -> dict[str, Stored]:
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Stored)}
    if not tensors:
        raise CheckpointError(f"{path}: holds no weights by name (of a model or its state dict).")
    return tensors


def _extra(value: dict[Any, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key in ("epoch", "max_accuracy", "name"):
        if _is_plain(value.get(key)):
            made[key] = _short(value[key])
    for key in _SETTINGS_KEYS:
        found = value.get(key)
        if isinstance(found, Inert):
            found = found.state
        if isinstance(found, dict) and "settings" not in made:
            made["settings"] = _plain(found)
    texts = value.get("openxclip")
    if isinstance(texts, dict):
        made["openxclip"] = {k: v for k, v in texts.items() if isinstance(k, str) and isinstance(v, str)}
    return made


def _plain(tree: dict[Any, Any], depth: int = 0, left: list[int] | None = None) -> dict[str, Any]:
    """The scalars of a tree, and lists of them. A tree that contains itself ends at some depth, or after 10,000."""
    left = [10_000] if left is None else left
    made: dict[str, Any] = {}
    for key, value in tree.items():
        left[0] -= 1 + (len(value) if isinstance(value, list | tuple) else 0)
        if left[0] < 0:
            break
        if not isinstance(key, str) or len(key) > _LONGEST_TEXT:
            continue
        if isinstance(value, dict):
            if depth < 8:
                made[key] = _plain(value, depth + 1, left)
        elif isinstance(value, list | tuple):
            made[key] = [_short(one) for one in value[:100] if _is_plain(one)]
        elif value is None or _is_plain(value):
            made[key] = _short(value)
    return made


def _is_plain(value: Any) -> bool:
    """Whether it is a text or a number that JSON has too."""
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def _short(value: Any) -> Any:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else value


# ---------------------------------------------------------------------------------------------------- safetensors


def looks_like_weights(path: Path) -> bool:
    """Whether a file begins as those of safetensors and torch.save do."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return head.startswith((archive.MAGIC, LEGACY_MAGIC)) or _starts_as_safetensors(path)


def _starts_as_safetensors(path: Path) -> bool:
    """A header's length in 8 bytes, then JSON."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(cannot_read(path, error)) from error
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def read_safetensors_header(path: Path) -> dict[str, Stored]:
    """The tensors that a file's header lists; the numbers are read, and all else is checked, when one is loaded.

    Raises:
        CheckpointError: no such header.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(_LONGEST_HEADER, path.stat().st_size - 8):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            listed = {
                str(name): (_dtype(entry["dtype"]), as_sizes(entry["shape"]), entry["data_offsets"])
                for name, entry in header.items()
            }
            end = max((offsets[1] for _, _, offsets in listed.values()), default=0)
            if end != path.stat().st_size - 8 - length or any(
                math.prod(shape) > o[1] - o[0] for _, shape, o in listed.values()
            ):
                raise ValueError("its header doesn't fit its length")
    except RefusedPickleError as error:
        raise CheckpointError(f"{path}: damaged, or not safetensors ({error}).") from error
    except OSError as error:
        raise CheckpointError(cannot_read(path, error)) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, or not safetensors ({type(error).__name__}: {error}).") from error
    file_of_tensors = _Safetensors(path)
    return {name: Stored(dtype, shape, _Loading(file_of_tensors, name)) for name, (dtype, shape, _) in listed.items()}


def _dtype(code: Any) -> str:
    if isinstance(code, str) and code not in _DTYPES:
        raise ValueError(f"numbers of type {code[:20]}, which aren't read")
    return _DTYPES[code]


class _Safetensors:
    """A file, mapped whole when the first of its tensors is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tensors: dict[str, Tensor] | None = None

    def load(self, name: str) -> Tensor:
        if self._tensors is None:
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            if not is_utf8(str(self._path)):
                raise CheckpointError(f"{self._path}: {MODEL_NOT_UTF8}")
            try:
                with self._path.open("rb"):  # safetensors says of any file that it can't open that it isn't there
                    self._tensors = load_file(self._path)
            except OSError as error:
                raise CheckpointError(cannot_read(self._path, error)) from error
            except (SafetensorError, ValueError) as error:
                raise CheckpointError(f"{self._path}: damaged, or not safetensors ({error}).") from error
        return self._tensors[name]


@dataclass(frozen=True)
class _Loading:
    file: _Safetensors
    name: str

    def __call__(self) -> Tensor:
        return self.file.load(self.name)
