"""Decide when parts of a model are prepared for inference, and whether they may be used."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from openxclip.common.forking import ForkSafeLock
from openxclip.engine.building import Part, VideoParts, build_prompts, build_text, build_video
from openxclip.engine.compiling import compile_tower
from openxclip.engine.linears import Kernel, choose_kernel
from openxclip.engine.texts import QueryCache, TextCache
from openxclip.engine.towers import Prompts, TextTower
from openxclip.engine.watching import Watch
from openxclip.model import XCLIPModel
from openxclip.model.layers import is_traced

PartT = TypeVar("PartT", bound=Part)
_KNOWN_MODULES = (nn.Linear, nn.LayerNorm, nn.Conv2d, nn.Embedding, nn.ModuleList, nn.Sequential, nn.Dropout)
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}  # relative error of a self-test
_HALF_MODEL_TOLERANCE = 5e-2  # if the weights are in half precision: the plain model's answer is the less exact one


class Preparation:
    """Prepares a model's parts when they are first needed, and again after its weights have changed.

    Args:
        model: the plain model.
        dtype: dtype of products.
        compile: whether to use `torch.compile` for the video tower.
        texts_kept: number of texts whose features are kept.
        prepare_after: rows that the plain model processes before a part is prepared.
    """

    def __init__(
        self, model: XCLIPModel, dtype: torch.dtype, *, compile: bool, texts_kept: int, prepare_after: int
    ) -> None:
        self.model, self.dtype, self.compile, self.texts_kept = model, dtype, compile, texts_kept
        self.prepare_after = prepare_after
        self.notes: list[str] = []
        self.refused: set[str] = set()
        self.lock = ForkSafeLock()
        self._kernel: Kernel | None = None
        self._current: PreparedParts | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "lock": None, "_current": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=ForkSafeLock())

    @property
    def kernel(self) -> Kernel:
        """How products are computed; chosen at the first use."""
        with self.lock:
            if self._kernel is None:
                self._kernel = choose_kernel(self.dtype, self.model.device)
            return self._kernel

    def use_kernel(self, kernel: Kernel) -> None:
        """Compute by this kernel from now on, as a resumed run does."""
        with self.lock:
            if kernel != self.kernel:
                self._kernel = kernel
                self.forget()

    def forget(self) -> None:
        """Drop prepared parts, cached texts and refusals."""
        with self.lock:
            self._current = None
            self.refused.clear()

    def parts(self) -> PreparedParts | None:
        """Return the parts for the weights as they are now, or None if the plain model has to answer.

        The plain model answers if gradients are recorded, or if it is in training mode, traced, or has foreign modules
        or hooks.
        """
        if torch.is_grad_enabled() or self.model.training or is_traced():
            return None
        parts = self._up_to_date()
        if parts is None:
            with self.lock:
                parts = self._up_to_date()  # another thread may have renewed them
                if parts is None:
                    parts = self._current = PreparedParts(self)
        return None if parts.foreign_module or parts.watch.obstacle() else parts

    def _up_to_date(self) -> PreparedParts | None:
        parts = self._current
        return None if parts is None or parts.watch.has_changed() else parts

    def refuse(self, part: str, reason: str) -> None:
        """Have the plain model answer for a part from now on, with one warning."""
        if part not in self.refused:
            self.refused.add(part)
            warnings.warn(f"the prepared {part} is not used, the plain model answers: {reason}.", stacklevel=3)


class PreparedParts:
    """The parts for one version of a model's weights, each prepared at its first use.

    `video`, `text` and `prompts` return None if the plain model has to answer. Their `rows` are the tokens (for
    prompts: the texts) that the part is needed for.

    Attributes:
        watch: tells whether the weights have changed.
        texts, queries: caches of text features, and of the prompts' queries.
        foreign_module: type of a module that only the plain model can run; "" if there is none.
    """

    def __init__(self, owner: Preparation) -> None:
        self.watch = Watch(owner.model)
        self.texts, self.queries = TextCache(owner.texts_kept), QueryCache()
        self.foreign_module = _find_foreign_module(owner.model)
        self._owner = owner
        self._prepared: dict[str, Any] = {}
        self._rows_seen: Counter[str] = Counter()
        if self.foreign_module:
            owner.refuse("model", f"it has a {self.foreign_module} in it")

    def video(self, rows: int) -> VideoParts | None:
        """Return the video tower and MIT."""
        return self._part("video tower", rows, self._build_video)

    def text(self, rows: int) -> TextTower | None:
        """Return the text tower."""
        return self._part("text tower", rows, build_text)

    def prompts(self, rows: int) -> Prompts | None:
        """Return the prompt generator."""
        return self._part("prompt generator", rows, build_prompts)

    def _part(self, name: str, rows: int, build: Callable[[XCLIPModel, Kernel], tuple[PartT, float]]) -> PartT | None:
        owner = self._owner
        if name not in owner.refused and name not in self._prepared:
            with owner.lock:
                self._rows_seen[name] += rows
                if self._rows_seen[name] < owner.prepare_after:
                    return None
                if name not in owner.refused and name not in self._prepared:  # another thread may have been faster
                    self._prepare(name, build)
        return None if name in owner.refused else self._prepared.get(name)

    def _prepare(self, name: str, build: Callable[[XCLIPModel, Kernel], tuple[PartT, float]]) -> None:
        """Build a part and keep it; refuse it if that fails or the part's answers are wrong."""
        owner = self._owner
        tolerance = _TOLERANCE[owner.dtype]
        if owner.model.dtype != torch.float32:
            tolerance = max(tolerance, _HALF_MODEL_TOLERANCE)
        try:
            part, error = build(owner.model, owner.kernel)
        except (RuntimeError, NotImplementedError) as failure:  # the machine lacks such a product after all
            owner.refuse(name, str(failure).splitlines()[0])
            return
        if not error <= tolerance:  # also true for NaN
            owner.refuse(name, f"its self-test is off by {error:.1e} of the plain model's answer")
            return
        self._prepared[name] = part

    def _build_video(self, model: XCLIPModel, kernel: Kernel) -> tuple[VideoParts, float]:
        # Labels mostly come before all videos: the text tower's memory is free for the video tower. Later texts prepare
        # the text tower again, in a fraction of a second, and it stays.
        self._prepared.pop("text tower", None)
        parts, error = build_video(model, kernel)
        if self._owner.compile:
            self._owner.notes.append(compile_tower(parts.tower, model))
        return parts, error


def _find_foreign_module(model: nn.Module) -> str:
    """Return the type of a module that is neither PyTorch's nor ours, such as a LoRA or quantised layer; or ""."""
    for module in model.modules():
        is_known = type(module) in _KNOWN_MODULES or type(module).__module__.startswith("openxclip.model.")
        if not is_known or (module is model and type(module) is not XCLIPModel):
            return type(module).__name__
    return ""
