"""What is made of a model's weights for inference, when, and whether it may be used."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from openxclip.common.forking import ForkSafeLock
from openxclip.engine.linears import Kernel
from openxclip.engine.precision import choose_kernel
from openxclip.engine.texts import QueryCache, TextCache
from openxclip.engine.towers import Integration, Prompts, TextTower, VisionTower
from openxclip.engine.watching import Watch
from openxclip.model import XCLIPModel
from openxclip.model.layers import is_traced

_Part = TypeVar("_Part")
_KNOWN = (nn.Linear, nn.LayerNorm, nn.Conv2d, nn.Embedding, nn.ModuleList, nn.Sequential, nn.Dropout)
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}  # relative, of a self-test's norm


class Preparation:
    """Prepares a model's parts, each when it is first needed, and anew when weights have changed.

    Args:
        model: the plain one.
        dtype: of products.
        compile: use `torch.compile` for the video tower.
        texts_kept: how many texts' features are kept.
        patience: how many rows a part is asked for before it is prepared.
    """

    def __init__(self, model: XCLIPModel, dtype: torch.dtype, *, compile: bool, texts_kept: int, patience: int) -> None:
        self.model, self.dtype, self.compile, self.texts_kept = model, dtype, compile, texts_kept
        self.patience = patience
        self._kernel: Kernel | None = None
        self.notes: list[str] = []
        self.refused: set[str] = set()
        self.lock = ForkSafeLock()
        self._parts: Parts | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "lock": None, "_parts": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=ForkSafeLock())

    @property
    def kernel(self) -> Kernel:
        """How products are computed; chosen when it is first asked for."""
        with self.lock:
            if self._kernel is None:
                self._kernel = choose_kernel(self.model, self.dtype)
            return self._kernel

    def use_kernel(self, kernel: Kernel) -> None:
        """Compute by this kernel from now on, for a run that began with it."""
        with self.lock:
            if kernel != self.kernel:
                self._kernel = kernel
                self.forget()

    def forget(self) -> None:
        """Prepare everything anew when it is next needed."""
        with self.lock:
            self._parts = None
            self.refused.clear()

    def parts(self) -> Parts | None:
        """What is prepared of the weights as they are; None where the plain model has to answer: where a gradient is
        recorded, where it trains, where it is traced, and where somebody has put other modules or hooks into it.
        """
        if torch.is_grad_enabled() or self.model.training or is_traced():
            return None
        parts = self._parts
        if parts is None or parts.watch.has_changed():
            with self.lock:
                parts = self._parts
                if parts is None or parts.watch.has_changed():
                    parts = self._parts = Parts(self)
        if parts.foreign or parts.watch.obstacle():
            return None
        return parts

    def refuse(self, part: str, why: str) -> None:
        """Have the plain model answer for a part from now on; said once."""
        if part not in self.refused:
            self.refused.add(part)
            warnings.warn(f"the prepared {part} is not used, the plain model answers: {why}.", stacklevel=3)


class Parts:
    """What was made of a model's weights as they were, each part at its first use."""

    def __init__(self, owner: Preparation) -> None:
        self.watch = Watch(owner.model)
        self.texts, self.queries = TextCache(owner.texts_kept), QueryCache()
        self._owner = owner
        self._parts: dict[str, Any] = {}
        self._asked: Counter[str] = Counter()
        self.foreign = _foreign(owner.model)
        if self.foreign:
            owner.refuse("model", f"it has a {self.foreign} in it")

    # Each is None where the plain model is to answer; `rows` is what it would be given to do.

    def video(self, rows: int) -> tuple[VisionTower, Integration] | None:
        """The video tower and MIT."""
        return self._part("video tower", rows, self._make_video)

    def text(self, rows: int) -> TextTower | None:
        """The text tower."""
        return self._part("text tower", rows, self._make_text)

    def prompts(self, rows: int) -> Prompts | None:
        """The prompt generator."""
        return self._part("prompt generator", rows, self._make_prompts)

    def _part(self, name: str, rows: int, make: Callable[[], tuple[_Part, float]]) -> _Part | None:
        if name in self._owner.refused:
            return None
        if name not in self._parts:
            with self._owner.lock:
                self._asked[name] += rows
                if self._asked[name] < self._owner.patience:
                    return None
                if name not in self._parts and name not in self._owner.refused:
                    self._parts[name] = self._tested(name, make)
        part: _Part | None = self._parts.get(name)
        return part

    def _tested(self, name: str, make: Callable[[], tuple[_Part, float]]) -> _Part | None:
        tolerance = _TOLERANCE[self._owner.dtype]
        if self._owner.model.dtype != torch.float32:  # its residual stream is too: it is the rougher one
            tolerance = max(tolerance, 5e-2)
        try:
            part, error = make()
        except (RuntimeError, NotImplementedError) as failure:  # no such product on this machine after all
            self._owner.refuse(name, str(failure).splitlines()[0])
            return None
        if not error <= tolerance:  # NaN too
            self._owner.refuse(name, f"its self-test is off by {error:.1e} of the plain model's answer")
            return None
        return part

    def _make_video(self) -> tuple[tuple[VisionTower, Integration], float]:
        # Labels mostly come first, and then videos: what has encoded them needn't be held beside what is made now.
        # Texts that come later make it again, in a fraction of a second, and it stays.
        self._parts.pop("text tower", None)
        model, kernel = self._owner.model, self._owner.kernel
        vision = model.vision_model
        # Two frames of 2 x 2 patches go through every weight, and cost what reading the weights does.
        side, channels = 2 * vision.embeddings.patch_size, model.config.vision_config.num_channels
        frames = _random(2, channels, side, side, like=model.logit_scale)
        plainly = _Plainly(vision.pre_layernorm(vision.embeddings(frames, True)), num_frames=2)
        norm, projection = model.prompts_visual_layernorm, model.prompts_visual_projection
        tower = VisionTower(vision, model.visual_projection, norm, projection, kernel, plainly)
        integration = Integration(model.mit, model.config.vision_config.hidden_act, kernel)
        last, pooled = tower(frames, 2, vision.embeddings.positions(side, side, interpolate=True))
        right = plainly.x
        right_pooled = vision.post_layernorm(right[:, 0])
        features, patches = tower.project(last, pooled, 2)
        trained = model.mit.position_embedding.shape[1]
        frames_1TE = features[:, :1].expand(-1, trained, -1).contiguous()
        mit = integration(frames_1TE, model.mit.positions(trained))[1]
        dtype = model.dtype
        plain_patches = model.prompts_visual_layernorm(right[:, 1:]).mean(0, keepdim=True)
        error = max(
            _difference(last, right),
            _difference(features[0], model.visual_projection(right_pooled)),
            _difference(patches, plain_patches @ model.prompts_visual_projection),
            _difference(mit, model.mit(frames_1TE.to(dtype)).pooler_output),
        )
        return (self._compiled(tower), integration), error

    def _compiled(self, tower: VisionTower) -> VisionTower:
        if self._owner.compile:
            from openxclip.engine.compiling import compile_tower

            self._owner.notes.append(compile_tower(tower, self._owner.model))
        return tower

    def _make_text(self) -> tuple[TextTower, float]:
        model = self._owner.model
        vocabulary, context = model.config.text_config.vocab_size, model.config.text_config.max_position_embeddings
        ids = torch.zeros(2, min(6, context), dtype=torch.long, device=model.device)
        ids[0, -1] = ids[1, ids.shape[1] // 2] = vocabulary - 1  # two lengths
        plainly = _Plainly(model.text_model.embeddings(ids), is_causal=True)
        tower = TextTower(model.text_model, model.text_projection, self._owner.kernel, plainly)
        ends = ids.argmax(-1)
        states = model.text_model.final_layer_norm(plainly.x)
        right = model.text_projection(states[torch.arange(2, device=ids.device), ends])
        return tower, _difference(tower(ids, ends), right)

    def _make_prompts(self) -> tuple[Prompts, float]:
        model = self._owner.model
        prompts = Prompts(model.prompts_generator, model.config.prompt_hidden_act, self._owner.kernel)
        width = model.config.projection_dim
        worst = 0.0
        for texts, number in ((3, 4), (1, 32)):  # both of its ways
            text = _random(1, texts, width, like=model.logit_scale)
            patches = _random(1, number, width, like=model.logit_scale)
            right = model.prompts_generator(text, patches)
            given = prompts(text.float(), patches.float(), prompts.queries(text.float()))
            worst = max(worst, _difference(given, right))
        return prompts, worst


class _Plainly:
    """Called with one plain block after the other: what they make of `x`."""

    def __init__(self, x: Tensor, **how: Any) -> None:
        self.x, self._how = x, how

    def __call__(self, block: nn.Module) -> None:
        self.x = block(self.x, **self._how)[0]


def _foreign(model: nn.Module) -> str:
    """The type of a submodule that is neither PyTorch's nor the model's own: a LoRA layer, a quantised one; or ""."""
    for module in model.modules():
        known = type(module) in _KNOWN or type(module).__module__.startswith("openxclip.model.")
        if not known or (module is model and type(module) is not XCLIPModel):
            return type(module).__name__
    return ""


def _random(*shape: int, like: Tensor) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(0), device="cpu", dtype=torch.float32)
    return values.to(device=like.device, dtype=like.dtype)


def _difference(ours: Tensor, right: Tensor) -> float:
    """Norm of the difference, relative to the right answer's."""
    return float((ours.float() - right.float()).norm() / right.float().norm().clamp(min=1e-20))
