"""What the names in a pickle stand for: the few things that a checkpoint is made of, and nothing that could act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Maker: TypeAlias = Callable[[tuple[Any, ...]], Any]


class RefusedPickleError(Exception):
    """The pickle names what no checkpoint needs; the text says what."""


class DamagedPickleError(Exception):
    """It is no pickle, or not a whole one."""


@dataclass(frozen=True)
class Name:
    """`module.name`, as a pickle refers to a class or function; never the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:200]


@dataclass(eq=False)
class Inert:
    """In place of an object of some class: what the pickle would have put into it."""

    of: Name
    state: dict[str, Any] = field(default_factory=dict)


class Settings(dict[str, Any]):
    """In place of a yacs CfgNode: its entries, and none of its methods."""


class Element:
    """In place of a numpy dtype."""

    def __init__(self, code: str) -> None:
        self.code = code


_KEYS = (str, int, bool, bytes, type(None))


def of_type(value: Any, kind: type) -> Any:
    """The value, if it is of that type; DamagedPickleError else."""
    if not isinstance(value, kind):
        raise DamagedPickleError(f"a {kind.__name__} is expected where a {type(value).__name__} is")
    return value


def as_key(value: Any) -> Any:
    """A key that costs nothing to hash: tuples in tuples take as long as they like, and so do chosen large numbers."""
    if type(value) not in _KEYS or (type(value) is int and not -(1 << 60) < value < 1 << 60):
        raise RefusedPickleError(f"it has a {type(value).__name__} as a key")
    return value


# ---------------------------------------------------------------------------------------------------- what may be named


def _make_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for pairs in arguments[:1]:
        if isinstance(pairs, dict):
            made.update(pairs)
        else:
            for key, value in of_type(pairs, list):
                made[as_key(key)] = value
    return made


def _make_default_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    return _make_dict(arguments[1:])  # the first is what it would call for a key that is missing


def _make_settings(arguments: tuple[Any, ...]) -> Settings:
    return Settings(_make_dict(arguments))


def _make_set(arguments: tuple[Any, ...]) -> set[Any]:
    return {as_key(value) for values in arguments[:1] for value in of_type(values, list | tuple)}  # type: ignore[arg-type]


def _make_path(arguments: tuple[Any, ...]) -> str:
    return "/".join(of_type(part, str) for part in arguments)


def _make_bytes(arguments: tuple[Any, ...]) -> bytes:
    """`codecs.encode(text, "latin1")`, which is how the protocol that torch uses writes bytes."""
    text, encoding = arguments
    if of_type(encoding, str)[:20].lower().replace("-", "").replace("_", "") not in ("latin1", "iso88591"):
        raise RefusedPickleError("it encodes text other than as latin1")
    encoded: bytes = of_type(text, str).encode("latin-1")
    return encoded


_ELEMENTS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})


def _make_element(arguments: tuple[Any, ...]) -> Element:
    code = of_type(arguments[0], str).lstrip("<|=")
    if code not in _ELEMENTS:
        raise RefusedPickleError("it holds numpy values that are no numbers")
    return Element(code)


def _make_number(arguments: tuple[Any, ...]) -> Any:
    import numpy as np

    element, content = arguments
    return np.frombuffer(of_type(content, bytes), "<" + of_type(element, Element).code, count=1)[0].item()


def _opaque(module: str, name: str) -> Maker:
    return lambda _: Inert(Name(module, name))


_OPAQUE = (
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace"),
    ("torch", "device"),
    *((module, kind) for module in ("builtins", "__builtin__") for kind in ("list", "dict", "int", "float", "str")),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
)
MAKERS: dict[tuple[str, str], Maker] = {
    ("collections", "OrderedDict"): _make_dict,
    ("collections", "Counter"): _make_dict,
    ("collections", "defaultdict"): _make_default_dict,
    ("yacs.config", "CfgNode"): _make_settings,
    ("builtins", "set"): _make_set,
    ("__builtin__", "set"): _make_set,
    ("builtins", "frozenset"): _make_set,
    ("__builtin__", "frozenset"): _make_set,
    ("pathlib", "PosixPath"): _make_path,
    ("pathlib", "WindowsPath"): _make_path,
    ("_codecs", "encode"): _make_bytes,
    ("numpy", "dtype"): _make_element,
    ("numpy.core.multiarray", "scalar"): _make_number,
    ("numpy._core.multiarray", "scalar"): _make_number,
    **{name: _opaque(*name) for name in _OPAQUE},
}
