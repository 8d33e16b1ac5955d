"""Read files of torch.save and torch.jit.save: zip archives since torch 1.6, consecutive pickles before it.

The pickles in them are not run (see `inert`). A tensor becomes a view of the mapped file when it is loaded (mapped
privately: writing to the tensor never changes the file).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openxclip.checkpoints import archive
from openxclip.checkpoints.inert import MAX_PICKLE_BYTES, InertReader
from openxclip.checkpoints.stand_ins import DamagedPickleError, Inert, Maker, RefusedPickleError
from openxclip.common.files import cannot_read
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first of the consecutive pickles
_MAGIC_NUMBER, _PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "UntypedStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1,
}  # fmt: skip
_MAX_DIMENSIONS = 16


@dataclass(frozen=True)
class _Element:
    """An element type, as a torch dtype or a storage class names it."""

    name: str


@dataclass(eq=False)
class _Storage:
    """A file's description of one block of numbers; `offset` is its position, or -1 until that is known."""

    key: str
    dtype: str
    nbytes: int
    offset: int = -1


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor in a file.

    Attributes:
        dtype: type of its numbers, such as "float32".
        shape: its shape.
        load: returns the tensor.
    """

    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], Tensor]


def read_pickled(path: Path) -> Any:
    """Return the content of a file of torch.save or torch.jit.save, with `Stored` for every tensor.

    Lists and dicts in the content may contain themselves.

    Raises:
        CheckpointError: the file is damaged, in an unsupported format, or names something that no checkpoint needs.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
        file_reader = _File(path)
        return file_reader.read_zip() if head.startswith(archive.MAGIC) else file_reader.read_legacy(head)
    except RefusedPickleError as error:
        raise CheckpointError(
            f"{path}: refused: {error}, which no weights need and which may be an attack; none of it was run. "
            "If you wrote it yourself, save the model's state_dict() alone."
        ) from error
    except DamagedPickleError as error:
        raise CheckpointError(f"{path}: damaged, or not written by torch.save ({error}).") from error
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(cannot_read(path, error)) from error


class _File:
    """A reader of one file: of its pickles, its storages, and the tensors on them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.archive: archive.Archive | None = None
        self.storages: dict[str, _Storage] = {}
        self._mapped: Any = None
        self._slices: dict[str, Any] = {}

    # ------------------------------------------------------------------------------------------------ formats

    def read_zip(self) -> Any:
        self.archive = archive.read_archive(self.path)
        records = self.archive.records
        if "model.json" in records and "data.pkl" not in records:
            raise CheckpointError(
                f"{self.path}: TorchScript of torch before 1.4, which isn't supported: save it with a newer one."
            )
        if "byteorder" in records and self.archive.read("byteorder", 64).strip() != b"little":
            raise CheckpointError(f"{self.path}: written on a big-endian machine, which isn't supported.")
        return self._reader(self.archive.read("data.pkl", MAX_PICKLE_BYTES)).read()

    def read_legacy(self, head: bytes) -> Any:
        if head[257:262] == b"ustar":
            raise CheckpointError(f"{self.path}: in the tar format of torch before 0.1.10, which isn't supported.")
        with self.path.open("rb") as file:
            reader = self._reader(file.read(MAX_PICKLE_BYTES))
        if reader.read() != _MAGIC_NUMBER:
            raise DamagedPickleError("a pickle, but not one of torch.save")
        if reader.read() != _PROTOCOL_VERSION:
            raise DamagedPickleError("an unknown version of torch's format")
        machine = reader.read()
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise CheckpointError(f"{self.path}: written on a big-endian machine, which isn't supported.")
        value, keys = reader.read(), reader.read()
        self._place_storages(keys, reader.position)
        return value

    def _place_storages(self, keys: Any, at: int) -> None:
        """Find the storages behind the pickles: for each key, the number of elements (8 bytes), then the elements."""
        if not isinstance(keys, list) or any(type(key) is not str for key in keys):
            raise DamagedPickleError("its list of storages can't be read")
        if set(keys) != self.storages.keys() or len(set(keys)) != len(keys):
            raise DamagedPickleError("its list of storages isn't that of its tensors")
        with self.path.open("rb") as file:
            for key in keys:
                storage = self.storages[key]
                file.seek(at)
                count = file.read(8)
                if len(count) < 8:
                    raise DamagedPickleError("it is cut off")
                if struct.unpack("<q", count)[0] * _SIZES[storage.dtype] != storage.nbytes:
                    raise DamagedPickleError(f"storage {key[:80]!r} has two sizes")
                storage.offset = at + 8
                at += 8 + storage.nbytes
                if at > self.size:
                    raise DamagedPickleError("it is cut off")

    # ------------------------------------------------------------------------------------------------ tensors

    def _reader(self, content: bytes) -> InertReader:
        utils = "torch._utils"
        makers: dict[tuple[str, str], Maker] = {
            (utils, "_rebuild_tensor"): self._tensor,
            (utils, "_rebuild_tensor_v2"): self._tensor,
            (utils, "_rebuild_tensor_v3"): self._tensor_v3,
            (utils, "_rebuild_parameter"): _parameter,
            ("torch", "Size"): lambda arguments: as_sizes(arguments[0]),
            **{
                ("torch.jit._pickle", name): lambda arguments: arguments[0]
                for name in (*(f"build_{kind}list" for kind in ("int", "double", "bool", "tensor")), "restore_type_tag")
            },
        }
        values: dict[tuple[str, str], Any] = {("torch", name): _Element(name) for name in _SIZES}
        for name, dtype in _STORAGES.items():
            values["torch", name] = values["torch.storage", name] = _Element(dtype)
        return InertReader(content, makers=makers, values=values, persistent=self._storage)

    def _storage(self, reference: Any) -> _Storage:
        """Return the storage of a persistent id ("storage", type, key, device, elements[, view])."""
        if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
            raise RefusedPickleError("it refers to something that is no storage")
        _, element, key, _, count = reference[:5]
        if len(reference) == 6 and reference[5] is not None:
            raise RefusedPickleError("it has views of storages, as torch before 0.4 wrote them")
        if not isinstance(element, _Element) or type(key) is not str or type(count) is not int or count < 0:
            raise DamagedPickleError("a storage can't be read")
        nbytes = count * _SIZES[element.name]
        storage = self.storages.get(key)
        if storage is not None:
            if (storage.dtype, storage.nbytes) != (element.name, nbytes):
                raise RefusedPickleError(f"it has two storages {key[:80]!r}")
            return storage
        storage = _Storage(key, element.name, nbytes)
        if nbytes > self.size:
            raise DamagedPickleError(f"it declares {nbytes} bytes for storage {key[:80]!r} in a file of {self.size}")
        if self.archive is not None:
            record = self.archive.records.get(f"data/{key}")
            if record is None or record.size < nbytes:
                actual = "missing" if record is None else f"{record.size} bytes long"
                raise DamagedPickleError(f"its record data/{key[:80]} of {nbytes} bytes is {actual}")
            storage.offset = record.offset
        self.storages[key] = storage
        return storage

    def _tensor(self, arguments: tuple[Any, ...]) -> Stored:
        storage, offset, shape, stride, *rest = arguments
        _refuse_hooks_and_metadata(*rest[1:])
        return self._stored(storage, None, offset, shape, stride)

    def _tensor_v3(self, arguments: tuple[Any, ...]) -> Stored:
        storage, offset, shape, stride, _, hooks, element, *metadata = arguments
        _refuse_hooks_and_metadata(hooks, *metadata)
        if not isinstance(element, _Element):
            raise DamagedPickleError("the type of a tensor can't be read")
        return self._stored(storage, element.name, offset, shape, stride)

    def _stored(self, storage: Any, dtype: str | None, offset: Any, shape: Any, stride: Any) -> Stored:
        if not isinstance(storage, _Storage):
            raise RefusedPickleError("it makes a tensor of something that is no storage")
        shape, stride = as_sizes(shape), as_sizes(stride)
        if type(offset) is not int or offset < 0 or len(shape) != len(stride):
            raise RefusedPickleError("it has a tensor with an impossible position in its storage")
        dtype = dtype or storage.dtype
        capacity = storage.nbytes // _SIZES[dtype]
        count = math.prod(shape)
        reach = offset
        if count:
            reach += 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if reach > capacity:
            raise RefusedPickleError(
                f"it has a tensor of {_describe(shape)} that reaches beyond the {capacity} numbers of its storage"
            )
        if count > capacity:  # a contiguous copy would take more memory than the file has
            raise RefusedPickleError(f"it has a tensor of {_describe(shape)} on {capacity} numbers")
        return Stored(dtype, shape, lambda: self._load(storage, dtype, offset, shape, stride))

    def _load(
        self, storage: _Storage, dtype: str, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ) -> Tensor:
        import torch

        kind: torch.dtype = getattr(torch, dtype)
        if storage.key not in self._slices:
            self._slices[storage.key] = self._slice(storage.offset, storage.nbytes)
        return torch.empty(0, dtype=kind, device="cpu").set_(self._slices[storage.key], offset, shape, stride)

    def _slice(self, offset: int, nbytes: int) -> Any:
        import torch

        if self._mapped is None:
            if self.path.stat().st_size != self.size:
                raise CheckpointError(f"{self.path}: has changed while it was read.")
            try:
                self._mapped = torch.UntypedStorage.from_file(str(self.path), False, self.size)
            except UnicodeEncodeError:
                raise CheckpointError(
                    f"{self.path}: its name isn't UTF-8, so that PyTorch can't open it: rename it."
                ) from None
        part = self._mapped[offset : offset + nbytes]
        return part if offset % 8 == 0 else part.clone()  # numbers must lie at multiples of their size


def _refuse_hooks_and_metadata(hooks: Any = None, metadata: Any = None, *_: Any) -> None:
    """Refuse hooks, which would run, and metadata of a negated or conjugated view, which changes the numbers."""
    if hooks:
        raise RefusedPickleError("it has a tensor with hooks")
    if metadata:
        raise RefusedPickleError("it has a negated or conjugated view of a tensor (save it with .resolve_neg())")


def _parameter(arguments: tuple[Any, ...]) -> Stored:
    stored, _, *hooks = arguments
    _refuse_hooks_and_metadata(*hooks[:1])
    if not isinstance(stored, Stored):
        raise RefusedPickleError("it makes a parameter of something that is no tensor")
    return stored


def as_sizes(value: Any) -> tuple[int, ...]:
    """Return the sizes or strides of a tensor, or raise RefusedPickleError if the value can't be that."""
    is_short = isinstance(value, tuple | list) and len(value) <= _MAX_DIMENSIONS
    if not is_short or not all(type(size) is int and 0 <= size < 1 << 62 for size in value):
        raise RefusedPickleError("it has a tensor of impossible sizes or strides")
    return tuple(value)


def _describe(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"


def module_tensors(module: Inert) -> dict[str, Stored]:
    """Return the tensors of a TorchScript module by their names in its state dict."""
    tensors: dict[str, Stored] = {}
    seen, queue = {id(module)}, [(module, "")]
    while queue:
        part, prefix = queue.pop()
        for name, value in part.state.items():
            if isinstance(value, Stored):
                tensors[prefix + name] = value
            elif is_script_module(value) and id(value) not in seen:  # modules may refer to each other
                seen.add(id(value))
                queue.append((value, f"{prefix}{name}."))
    return tensors


def is_script_module(value: Any) -> bool:
    """Whether a value stands for a TorchScript module."""
    return isinstance(value, Inert) and value.name.module.startswith("__torch__")
