"""Match the tensors of a checkpoint to the parameters of a model, and report those that have no counterpart."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from openxclip.checkpoints.names import TABLE
from openxclip.errors import CheckpointError

_ModuleT = TypeVar("_ModuleT", bound=nn.Module)
_MAX_NAMES = 10  # names listed in a warning

# Modules of a whole X-CLIP. A model that loads one part of a folder doesn't warn about the others.
_PARTS = frozenset(name.partition(".")[0] for row in TABLE for name in row.hub)


class Mismatch(NamedTuple):
    """A tensor whose shape differs from its parameter's."""

    name: str
    shape: tuple[int, ...]
    expected: tuple[int, ...]


@dataclass(frozen=True)
class Fit:
    """The tensors of a checkpoint matched to a model.

    Attributes:
        state: tensors by the names of the model's parameters and buffers.
        missing: names of the model that have no tensor in the checkpoint.
        mismatched: names of the model whose tensors have another shape; these are not in `state`.
        unused: names of the checkpoint that no part of an X-CLIP has.
        own: names of the model that belong to openxclip's classes, not to subclasses of them.
        unexpected: names of the checkpoint inside an openxclip class that has no such parameter.
    """

    state: dict[str, Tensor]
    missing: list[str]
    mismatched: list[Mismatch]
    unused: list[str]
    own: frozenset[str]
    unexpected: list[str]

    @property
    def initialized(self) -> list[str]:
        """Names of the model that keep their random initialisation."""
        return sorted({*self.missing, *(mismatch.name for mismatch in self.mismatched)})

    def check(self, model: nn.Module, source: Path, *, ignore_mismatched_sizes: bool) -> None:
        """Raise CheckpointError, listing all problems, if a parameter of openxclip's own classes gets no tensor.

        A parameter may keep its random initialisation if a subclass has added it, or if its shape differs and
        `ignore_mismatched_sizes` is set.
        """
        missing = [name for name in self.missing if name in self.own]
        mismatched = [] if ignore_mismatched_sizes else self.mismatched
        if not (missing or mismatched or self.unexpected):
            return
        problems = [
            *_list_names("missing", missing),
            *_list_names("unexpected", sorted([*self.unexpected, *self.unused])),
            *_list_names("misshapen", [f"{m.name} {m.shape}, the config says {m.expected}" for m in mismatched]),
        ]
        raise CheckpointError(f"{source}: the weights don't fit {type(model).__name__}.\n" + "\n".join(problems))

    def warn(self, source: Path, *, stacklevel: int) -> None:
        """Warn once about weights that start at random and weights that are not used."""
        notes = []
        if self.initialized:
            notes.append(f"these weights start at random, so train them before use: {_join(self.initialized)}")
        if self.unused:
            notes.append(f"these weights of the file are not used, because the model has none: {_join(self.unused)}")
        if notes:
            warnings.warn(f"{source}: {'; '.join(notes)}.", stacklevel=stacklevel + 1)

    def report(self) -> dict[str, Any]:
        """Return the dict that transformers returns with `output_loading_info=True`."""
        return {
            "missing_keys": set(self.missing),
            "unexpected_keys": {*self.unexpected, *self.unused},
            "mismatched_keys": {tuple(mismatch) for mismatch in self.mismatched},
            "error_msgs": [],
        }


def fit(model: nn.Module, own_parts: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> Fit:
    """Match tensors to the parameters and buffers of a model.

    Each of openxclip's parts is looked for as a whole, under any prefix: the checkpoint may have a tower inside a whole
    X-CLIP, an X-CLIP inside a model that wraps it, or the other way round.

    Args:
        model: the model; only the shapes of its tensors are used.
        own_parts: by prefix in the model, each part of an openxclip class, with openxclip's parameters only.
        tensors: tensors of the checkpoint by name.
    """
    # Index buffers that transformers saved before 4.31; they are computed here.
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("embeddings.position_ids")}
    expected = model.state_dict()
    sources = {name: name for name in expected}  # names in the checkpoint by names in the model
    own: set[str] = set()
    own_modules: set[str] = set()  # modules directly below openxclip's parts, by their names in the checkpoint
    for path, part in own_parts.items():
        names = [name for name in part.state_dict() if path + name in expected]
        prefix = _find_prefix(names, tensors)
        sources |= {path + name: prefix + name for name in names}
        own |= {path + name for name in names}
        own_modules |= {prefix + name.partition(".")[0] for name in names}

    state, missing, mismatched = {}, [], []
    for name, parameter in expected.items():
        tensor = tensors.get(sources[name])
        if tensor is None:
            missing.append(name)
        elif tensor.shape != parameter.shape:
            mismatched.append(Mismatch(name, tuple(tensor.shape), tuple(parameter.shape)))
        else:
            state[name] = tensor

    rest = sorted(tensors.keys() - set(sources.values()))
    inside_own_part = tuple(f"{module}." for module in own_modules)
    unexpected = [name for name in rest if f"{name}.".startswith(inside_own_part)]
    unused = [name for name in rest if name not in unexpected and name.partition(".")[0] not in _PARTS]
    return Fit(state, sorted(missing), mismatched, unused, frozenset(own), unexpected)


def _find_prefix(names: Collection[str], tensors: Mapping[str, Tensor]) -> str:
    """Return the prefix under which a checkpoint has most of these names."""
    probes = list(names)[:3]
    prefixes = {name[: -len(probe)] for name in tensors for probe in probes if name.endswith(probe)}
    possible = {prefix for prefix in prefixes if prefix == "" or prefix.endswith(".")} | {""}
    return min(possible, key=lambda prefix: (-sum(prefix + name in tensors for name in names), len(prefix), prefix))


def _list_names(title: str, names: list[str]) -> list[str]:
    return [f"  {title} ({len(names)}):"] * bool(names) + [f"    {name}" for name in names]


def _join(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


class SkipInitialization(TorchFunctionMode):
    """Context in which functions that fill a tensor, at random or with a constant, do nothing.

    Meta tensors have nothing to fill, and filling one at random imports torch's compiler, which takes seconds.
    """

    _FILLS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.clamp_, Tensor.zero_, Tensor.fill_})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self._FILLS:
            return args[0]
        if getattr(func, "__module__", None) == nn.init.__name__:  # gets the tensor by position or by name
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def build_on_meta(cls: type[_ModuleT], *args: Any, **kwargs: Any) -> _ModuleT:
    """Build a module whose tensors have shapes and no numbers."""
    with torch.device("meta"), SkipInitialization():
        return cls(*args, **kwargs)
