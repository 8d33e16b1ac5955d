"""Which tensor of a checkpoint becomes which parameter, and what to say of those that have no partner."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from openxclip.errors import CheckpointError

_ModuleT = TypeVar("_ModuleT", bound=nn.Module)
_NAMED = 10  # in a warning

# Modules of a whole X-CLIP: where a model takes one part of its folder, the others are no surprise.
_PARTS = frozenset(
    {
        "logit_scale",
        "mit",
        "prompts_generator",
        "prompts_visual_layernorm",
        "prompts_visual_projection",
        "text_model",
        "text_projection",
        "vision_model",
        "visual_projection",
    }
)


class Misshapen(NamedTuple):
    """A tensor of another shape than the parameter that it is for."""

    name: str
    found: tuple[int, ...]
    wanted: tuple[int, ...]


@dataclass(frozen=True)
class Fit:
    """What of a checkpoint goes where.

    Attributes:
        state: tensors by the names of the model's parameters and buffers.
        missing: names of the model that the checkpoint has no tensor for.
        misshapen: names of the model whose tensor has another shape; these are not in `state`.
        unused: names of the checkpoint that no part of an X-CLIP has.
        own: which names of the model belong to openxclip's classes, and not to a class that inherits from them.
        unexpected: names of the checkpoint that lie inside one of openxclip's classes, which has no such parameter.
    """

    state: dict[str, Tensor]
    missing: list[str]
    misshapen: list[Misshapen]
    unused: list[str]
    own: frozenset[str]
    unexpected: list[str]

    @property
    def fresh(self) -> list[str]:
        """Names of the model that keep their random start."""
        return sorted({*self.missing, *(one.name for one in self.misshapen)})

    def check(self, model: nn.Module, source: Path, *, ignore_mismatched_sizes: bool) -> None:
        """Raise CheckpointError, with everything that doesn't fit, if openxclip's own classes are not filled.

        A parameter may start at random if a subclass has added it, or if it is misshapen and that may be ignored.
        """
        problems = _listed("missing", [name for name in self.missing if name in self.own])
        at = len(problems)
        if not ignore_mismatched_sizes:
            problems += _listed(
                "misshapen", [f"{one.name} {one.found}, the config says {one.wanted}" for one in self.misshapen]
            )
        if problems or self.unexpected:
            problems[at:at] = _listed("unexpected", sorted([*self.unexpected, *self.unused]))
            raise CheckpointError(f"{source}: the weights don't fit {type(model).__name__}.\n" + "\n".join(problems))

    def warn(self, source: Path, *, stacklevel: int) -> None:
        """Name, in one warning, what starts at random and what is not used."""
        told = []
        if self.fresh:
            told.append(f"these weights start at random, so train them before use: {_named(self.fresh)}")
        if self.unused:
            told.append(f"these weights of the file are not used, for the model has no such: {_named(self.unused)}")
        if told:
            warnings.warn(f"{source}: {'; '.join(told)}.", stacklevel=stacklevel + 1)

    def report(self) -> dict[str, Any]:
        """What transformers returns with `output_loading_info=True`."""
        return {
            "missing_keys": set(self.missing),
            "unexpected_keys": {*self.unexpected, *self.unused},
            "mismatched_keys": {tuple(one) for one in self.misshapen},
            "error_msgs": [],
        }


def fit(model: nn.Module, own_classes: Mapping[str, nn.Module], found: Mapping[str, Tensor]) -> Fit:
    """Which tensors are for which parameters and buffers of a model.

    Each part that is one of openxclip's classes is looked for as a whole, under whatever prefix the checkpoint has it:
    a tower inside a whole X-CLIP, an X-CLIP inside the model that wraps it, or the other way round.

    Args:
        model: the model; only the shapes of its tensors matter.
        own_classes: by path in the model, a module of the same class with openxclip's own parameters alone.
        found: tensors of the checkpoint.
    """
    # Index numbers that transformers saved before 4.31; they are counted out anew.
    found = {name: tensor for name, tensor in found.items() if not name.endswith("embeddings.position_ids")}
    wanted = model.state_dict()
    sources = {name: name for name in wanted}
    own: set[str] = set()
    insides: list[tuple[str, frozenset[str]]] = []  # a prefix of the checkpoint, and what begins behind it
    for path, part in own_classes.items():
        names = [name for name in part.state_dict() if path + name in wanted]
        prefix = _prefix_of(names, found)
        sources |= {path + name: prefix + name for name in names}
        own |= {path + name for name in names}
        insides.append((prefix, frozenset(name.partition(".")[0] for name in names)))
    state, missing, misshapen = {}, [], []
    for name, tensor in wanted.items():
        given = found.get(sources[name])
        if given is None:
            missing.append(name)
        elif given.shape != tensor.shape:
            misshapen.append(Misshapen(name, tuple(given.shape), tuple(tensor.shape)))
        else:
            state[name] = given
    rest = sorted(found.keys() - set(sources.values()))
    unexpected = [
        name
        for name in rest
        if any(name.startswith(at) and name.removeprefix(at).partition(".")[0] in parts for at, parts in insides)
    ]
    unused = [name for name in rest if name not in unexpected and name.partition(".")[0] not in _PARTS]
    return Fit(state, sorted(missing), misshapen, unused, frozenset(own), unexpected)


def _prefix_of(names: Collection[str], found: Mapping[str, Tensor]) -> str:
    """The prefix under which a checkpoint has the most of these names."""
    probes = list(names)[:3]
    prefixes = {name[: -len(probe)] for name in found for probe in probes if name.endswith(probe)}
    possible = {prefix for prefix in prefixes if prefix == "" or prefix.endswith(".")} | {""}
    return min(possible, key=lambda prefix: (-sum(prefix + name in found for name in names), len(prefix), prefix))


def _listed(what: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    return [f"  {what} ({len(names)}):"] * bool(names) + [f"    {name}" for name in names]


def _named(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class WithoutStart(TorchFunctionMode):
    """Inside it, what fills a tensor at random or with a constant leaves it alone.

    Meta tensors have nothing to fill, and a random fill of one imports torch's compiler, which takes seconds.
    """

    _FILLS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.clamp_, Tensor.zero_, Tensor.fill_})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self._FILLS:
            return args[0]
        if getattr(func, "__module__", None) == nn.init.__name__:  # comes with the tensor by position or by name
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def on_meta(cls: type[_ModuleT], *args: Any, **kwargs: Any) -> _ModuleT:
    """A module whose tensors have shapes and no numbers."""
    with torch.device("meta"), WithoutStart():
        return cls(*args, **kwargs)
