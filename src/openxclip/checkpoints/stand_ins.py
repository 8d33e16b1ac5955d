"""Harmless stand-ins for the few classes and functions that checkpoints name in their pickles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Maker: TypeAlias = Callable[[tuple[Any, ...]], Any]


class RefusedPickleError(Exception):
    """The pickle names something that no checkpoint needs; the message says what."""


class DamagedPickleError(Exception):
    """The bytes are no pickle, or not a complete one."""


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; never the object itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:200]


@dataclass(eq=False)
class Inert:
    """Stands for an object of some class, with the state that the pickle gives it."""

    name: Name
    state: dict[str, Any] = field(default_factory=dict)


class Settings(dict[str, Any]):
    """Stands for a yacs CfgNode: its entries, without its methods."""


class NumpyType:
    """Stands for a numpy dtype."""

    def __init__(self, code: str) -> None:
        self.code = code


_KEY_TYPES = (str, int, bool, bytes, type(None))


def of_type(value: Any, kind: type) -> Any:
    """Return the value, or raise DamagedPickleError if it is of another type."""
    if not isinstance(value, kind):
        raise DamagedPickleError(f"a {kind.__name__} is expected where a {type(value).__name__} is")
    return value


def as_key(value: Any) -> Any:
    """Return a key, or raise RefusedPickleError if hashing it may be slow, as for nested tuples or chosen numbers."""
    if type(value) not in _KEY_TYPES or (type(value) is int and not -(1 << 60) < value < 1 << 60):
        raise RefusedPickleError(f"it has a {type(value).__name__} as a key")
    return value


# ---------------------------------------------------------------------------------------------------- allowed names


def _make_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    items: dict[Any, Any] = {}
    for pairs in arguments[:1]:
        if isinstance(pairs, dict):
            items.update(pairs)
        else:
            for key, value in of_type(pairs, list):
                items[as_key(key)] = value
    return items


def _make_set(arguments: tuple[Any, ...]) -> set[Any]:
    return {as_key(value) for values in arguments[:1] for value in of_type(values, list | tuple)}  # type: ignore[arg-type]


def _make_path(arguments: tuple[Any, ...]) -> str:
    return "/".join(of_type(part, str) for part in arguments)


def _make_bytes(arguments: tuple[Any, ...]) -> bytes:
    """Stands for `codecs.encode(text, "latin1")`, with which torch's pickle protocol writes bytes."""
    text, encoding = arguments
    if of_type(encoding, str)[:20].lower().replace("-", "").replace("_", "") not in ("latin1", "iso88591"):
        raise RefusedPickleError("it encodes text other than as latin1")
    encoded: bytes = of_type(text, str).encode("latin-1")
    return encoded


_NUMBER_CODES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})


def _make_numpy_type(arguments: tuple[Any, ...]) -> NumpyType:
    code = of_type(arguments[0], str).lstrip("<|=")
    if code not in _NUMBER_CODES:
        raise RefusedPickleError("it holds numpy values that are no numbers")
    return NumpyType(code)


def _make_number(arguments: tuple[Any, ...]) -> Any:
    import numpy as np

    dtype, content = arguments
    return np.frombuffer(of_type(content, bytes), "<" + of_type(dtype, NumpyType).code, count=1)[0].item()


def _opaque(module: str, name: str) -> Maker:
    return lambda _: Inert(Name(module, name))


_BUILTINS, _ARRAYS = ("builtins", "__builtin__"), ("numpy.core.multiarray", "numpy._core.multiarray")
_OPAQUE = (
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace"),
    ("torch", "device"),
    ("numpy", "ndarray"),
    *((module, kind) for module in _BUILTINS for kind in ("list", "dict", "int", "float", "str")),
    *((module, "_reconstruct") for module in _ARRAYS),
)
MAKERS: dict[tuple[str, str], Maker] = {
    ("collections", "OrderedDict"): _make_dict,
    ("collections", "Counter"): _make_dict,
    ("collections", "defaultdict"): lambda arguments: _make_dict(arguments[1:]),  # without the function for defaults
    ("yacs.config", "CfgNode"): lambda arguments: Settings(_make_dict(arguments)),
    **{(module, kind): _make_set for module in _BUILTINS for kind in ("set", "frozenset")},
    ("pathlib", "PosixPath"): _make_path,
    ("pathlib", "WindowsPath"): _make_path,
    ("_codecs", "encode"): _make_bytes,
    ("numpy", "dtype"): _make_numpy_type,
    **{(module, "scalar"): _make_number for module in _ARRAYS},
    **{name: _opaque(*name) for name in _OPAQUE},
}
