"""`optimize`: a model that answers as the plain one does, faster, wherever that is safe."""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openxclip.engine.linears import Kernel
from openxclip.engine.precision import Precision, check_precision, choose_dtype
from openxclip.engine.preparation import Parts, Preparation
from openxclip.model import VideoFeatures, XCLIPModel
from openxclip.model.outputs import TransformerOutput
from openxclip.model.xclip import VideoOutputs

_TEXTS_KEPT = 20_000


def optimize(
    model: XCLIPModel,
    precision: Precision = "auto",
    *,
    compile: bool = False,
    texts_kept: int = _TEXTS_KEPT,
    verbose: bool = True,
) -> OptimizedXCLIPModel:
    """Prepare a model for inference on the device that it is on.

    Args:
        model: is not changed, and shares its weights with what is returned.
        precision: of the products: "fp32", "bf16", "fp16", or "auto": the weights' own on a CPU, fp16 on CUDA. What the
            machine can't do is replaced by fp32, with a warning.
        compile: on CUDA, use `torch.compile` for the video tower unless it fails or changes the answer; this takes a
            minute.
        texts_kept: how many texts' features are kept in memory.
        verbose: say on stderr what was chosen.

    Returns:
        A model with the same weights, methods and answers (see `OptimizedXCLIPModel`).

    Raises:
        TypeError: not an XCLIPModel.
        ValueError: an argument that can't be.
    """
    if isinstance(model, OptimizedXCLIPModel):
        model = model.plain
    if not isinstance(model, XCLIPModel):
        raise TypeError(f"optimize takes an openxclip.XCLIPModel, got a {type(model).__name__}.")
    optimized = OptimizedXCLIPModel(model, precision, compile=compile, texts_kept=texts_kept)
    if verbose:
        print(f"openxclip.optimize: {optimized.report}", file=sys.stderr)
    return optimized


class OptimizedXCLIPModel(XCLIPModel):
    """An `XCLIPModel` that shares modules and weights with the plain one, and computes by prepared paths.

    A prepared path is used in eval mode where no gradient is recorded, nothing is being traced, and no states of inner
    layers are asked for; otherwise the plain model answers. Its first use tests it against the plain model; one that
    fails is refused, with a warning. When weights change, it is prepared anew. Any number of threads may call it.

    Two things differ from the plain model: a forward has no `text_model_output`, since texts that are known aren't
    encoded again, and autocast is ignored.

    Args:
        model, precision, compile, texts_kept: see `optimize`.
        patience: how many tokens (or texts, of the prompts) a part is asked for before it is prepared: until then the
            plain model answers. For programs that may end after one video. It counts only where products are computed
            in the weights' own dtype.

    Attributes:
        plain: the model that was given.
    """

    plain: XCLIPModel
    _preparation: Preparation

    def __init__(
        self,
        model: XCLIPModel,
        precision: Precision = "auto",
        *,
        compile: bool = False,
        texts_kept: int = _TEXTS_KEPT,
        patience: int = 0,
    ) -> None:
        if not isinstance(model, XCLIPModel):
            raise TypeError(f"made from an XCLIPModel, got a {type(model).__name__}: see openxclip.optimize.")
        if texts_kept < 0:
            raise ValueError(f"texts_kept={texts_kept}: must be 0 or more.")
        self.__dict__.update(model.__dict__)  # the very tables of modules and weights
        dtype, why = choose_dtype(model, check_precision(precision))
        if why:
            warnings.warn(f"{why}: computing in float32.", stacklevel=3)
        preparation = Preparation(
            model,
            dtype,
            compile=compile and model.device.type == "cuda",
            texts_kept=texts_kept,
            patience=patience if dtype == model.dtype else 0,  # else the first answers would differ from the others
        )
        self.__dict__.update(plain=model, _preparation=preparation)

    # -- one with the plain model ------------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """The plain model's."""
        return self.plain.training

    @training.setter
    def training(self, mode: bool) -> None:
        self.plain.training = mode

    def save_pretrained(self, save_directory: str | Path, *arguments: Any, **options: Any) -> None:
        """As the plain model's: what was prepared isn't saved."""
        self.plain.save_pretrained(save_directory, *arguments, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """As the plain model's."""
        return self.plain.push_to_hub(repo_id, **options)

    def extra_repr(self) -> str:
        """What was chosen, for print(model)."""
        return f"optimized: {self.report}"

    @property
    def kernel(self) -> Kernel:
        """How products are computed."""
        return self._preparation.kernel

    def use_kernel(self, kernel: Kernel) -> None:
        """Compute by this kernel from now on, as a run does that is resumed (see `Preparation.use_kernel`)."""
        self._preparation.use_kernel(kernel)

    def lose_patience(self) -> None:
        """Prepare each part at its next use, so that all answers from now on are by the same path."""
        self._preparation.patience = 0

    @property
    def report(self) -> str:
        """What was chosen, in words."""
        device = self.device.type
        threads = [f"{torch.get_num_threads()} threads"] if device == "cpu" else []
        return ", ".join([device, str(self.kernel), *threads, *self._preparation.notes])

    def refresh(self) -> None:
        """Prepare anew at the next call, forgetting texts and refusals. Needed only after a large weight alone, or a
        few elements of a small one, were changed through `.data`, which nothing notices.
        """
        self._preparation.forget()

    # -- XCLIPModel's own steps --------------------------------------------------------------------------------------

    def _encode_text(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, **shown: bool
    ) -> tuple[Tensor, TransformerOutput | None]:
        state = None if any(shown.values()) or position_ids is not None else self._preparation.parts()
        ids_KL = torch.atleast_2d(input_ids).flatten(0, -2) if input_ids.ndim else input_ids
        fits = ids_KL.ndim == 2 and 0 < ids_KL.shape[1] <= self.config.text_config.max_position_embeddings
        if state is not None and fits and len(ids_KL) and self._is_here(ids_KL):
            ends_K = ids_KL.argmax(-1)
            if _sees_all(attention_mask, ids_KL, ends_K):
                features = state.texts.features(ids_KL, ends_K, partial(self._encode_new, state)).to(self.dtype)
                return features.unflatten(0, torch.atleast_2d(input_ids).shape[:-1]), None
        return super()._encode_text(input_ids, attention_mask, position_ids, **shown)

    def _encode_new(self, state: Parts, ids_KL: Tensor, ends_K: Tensor) -> Tensor:
        """(K, E) of texts that aren't known."""
        # only now: where all are known, it needn't be in memory
        tower = state.text(int(ends_K.sum()) + len(ends_K))
        return self.plain._encode_text(ids_KL, None, None)[0].float() if tower is None else tower(ids_KL, ends_K)

    def _integrate(
        self, pixels_NCHW: Tensor, num_frames: int, interpolate_pos_encoding: bool, **shown: bool
    ) -> tuple[TransformerOutput, TransformerOutput]:
        done = self._fast_video(pixels_NCHW, num_frames, interpolate_pos_encoding, shown)
        if done is None:
            return super()._integrate(pixels_NCHW, num_frames, interpolate_pos_encoding, **shown)
        return done.vision_output, done.mit_output

    def _encode_video(
        self, pixels_NCHW: Tensor, num_frames: int, interpolate_pos_encoding: bool, **shown: bool
    ) -> VideoOutputs:
        done = self._fast_video(pixels_NCHW, num_frames, interpolate_pos_encoding, shown)
        if done is None:
            return self.plain._encode_video(pixels_NCHW, num_frames, interpolate_pos_encoding, **shown)
        return done

    def _fast_video(
        self, pixels_NCHW: Tensor, num_frames: int, interpolate: bool, shown: dict[str, bool]
    ) -> VideoOutputs | None:
        state = None if any(shown.values()) else self._preparation.parts()
        if state is None or not pixels_NCHW.numel() or not self._is_here(pixels_NCHW):
            return None
        patch, channels = self.vision_model.embeddings.patch_size, self.config.vision_config.num_channels
        parts = state.video(pixels_NCHW.numel() // (channels * patch**2))
        if parts is None:
            return None
        positions = self.vision_model.embeddings.positions(*pixels_NCHW.shape[-2:], interpolate=interpolate)
        last_NLD, pooled_ND = parts[0](pixels_NCHW, num_frames, positions)
        frames_BTE, patches_BPE = parts[0].project(last_NLD, pooled_ND, num_frames)
        integrated_BTE, video_BE = parts[1](frames_BTE, self.mit.positions(num_frames))
        if self._preparation.dtype == torch.float16 and not (
            video_BE.isfinite().all() and patches_BPE.isfinite().all()
        ):
            self._preparation.refuse("video tower", "float16 overflowed on a video; bf16 doesn't")
            return None
        dtype = self.dtype
        return VideoOutputs(
            VideoFeatures(video_BE.to(dtype), patches_BPE.to(dtype)),
            TransformerOutput(last_NLD.to(dtype), pooled_ND.to(dtype)),
            TransformerOutput(integrated_BTE.to(dtype), video_BE.to(dtype)),
        )

    def _prompts(self, text_BKE: Tensor, patches_BPE: Tensor) -> Tensor:
        state = (
            self._preparation.parts()
            if text_BKE.numel() and self._is_here(text_BKE) and self._is_here(patches_BPE)
            else None
        )
        prompts = state.prompts(text_BKE.shape[:2].numel()) if state is not None else None
        if state is None or prompts is None:
            return super()._prompts(text_BKE, patches_BPE)
        text32_BKE, queries_BKE = text_BKE.float(), None
        if len(text_BKE) == 1 or text_BKE.stride(0) == 0:  # one set of texts for all videos
            queries_KE = state.queries.queries(text32_BKE[0], prompts.queries)
            queries_BKE = queries_KE.expand(len(text_BKE), -1, -1)
        return prompts(text32_BKE, patches_BPE.float(), queries_BKE).to(text_BKE.dtype)

    def _is_here(self, tensor: Tensor) -> bool:
        """Whether it is a plain tensor where the weights are; what isn't gets the plain model's answer or error."""
        return type(tensor) in (Tensor, nn.Parameter) and tensor.device == self.device


def _sees_all(attention_mask: Tensor | None, ids_KL: Tensor, ends_K: Tensor) -> bool:
    """Whether a mask hides nothing of a text up to its end; what it says of padding changes nothing."""
    if attention_mask is None:
        return True
    if attention_mask.numel() != ids_KL.numel() or attention_mask.shape[-1] != ids_KL.shape[-1]:
        return False  # the plain model has the words for it
    padding = torch.arange(ids_KL.shape[1], device=ids_KL.device) > ends_K[:, None]
    return bool((attention_mask.reshape(ids_KL.shape).bool() | padding).all())
