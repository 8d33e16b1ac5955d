"""`optimize`, which returns a faster model with the same answers."""

from __future__ import annotations

import sys
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from openxclip.engine.linears import Kernel
from openxclip.engine.precision import Precision, choose_dtype
from openxclip.engine.preparation import Preparation, PreparedParts
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
    """Prepare a model for inference on its device.

    Args:
        model: the model, which is not changed and shares its weights with the returned one.
        precision: precision of products: "fp32", "bf16", "fp16", or "auto", which is the weights' own on a CPU and fp16
            on CUDA. A precision that the machine lacks is replaced by fp32, with a warning.
        compile: on CUDA, use `torch.compile` for the video tower unless it fails or changes the answer; compiling takes
            a minute.
        texts_kept: number of texts whose features are kept in memory.
        verbose: print on stderr what was chosen.

    Returns:
        A model with the same weights, methods and answers (see `OptimizedXCLIPModel`).

    Raises:
        TypeError: the model is no XCLIPModel.
        ValueError: an argument is invalid.

    Examples:
        >>> import torch
        >>> from openxclip import XCLIPModel, optimize
        >>> fast = optimize(XCLIPModel.from_pretrained("mini"), verbose=False)
        >>> with torch.inference_mode():
        ...     fast.get_video_features(torch.zeros(1, 8, 3, 64, 64)).shape
        torch.Size([1, 192])
    """
    optimized = OptimizedXCLIPModel(model, precision, compile=compile, texts_kept=texts_kept)
    if verbose:
        print(f"openxclip.optimize: {optimized.report}", file=sys.stderr)
    return optimized


class OptimizedXCLIPModel(XCLIPModel):
    """An `XCLIPModel` that shares modules and weights with the plain model, and computes with prepared parts.

    Prepared parts are used in eval mode, if no gradient is recorded, nothing is traced, and no states of inner layers
    are requested; otherwise the plain model answers. A part is compared with the plain model at its first use, and is
    refused with a warning if it differs. After weights have changed, it is prepared again. Any number of threads may
    call the model.

    Two things differ from the plain model: a forward has no `text_model_output`, since the features of texts are
    cached, and autocast is ignored.

    Args:
        model, precision, compile, texts_kept: see `optimize`.
        prepare_after: number of tokens (for prompts: of texts) that the plain model processes before a part is
            prepared. Programs that may end after one video save the preparation. It has an effect only if products are
            computed in the weights' own dtype.

    Attributes:
        plain: the plain model.
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
        prepare_after: int = 0,
    ) -> None:
        if isinstance(model, OptimizedXCLIPModel):
            model = model.plain
        if not isinstance(model, XCLIPModel):
            raise TypeError(f"openxclip.optimize takes an XCLIPModel, got a {type(model).__name__}.")
        if texts_kept < 0:
            raise ValueError(f"texts_kept={texts_kept}: must be 0 or more.")
        dtype, why = choose_dtype(model, precision)
        if why:
            warnings.warn(f"{why}: computing in float32.", stacklevel=3)
        vars(self).update(vars(model))  # shares the model's tables of modules and weights
        vars(self)["plain"] = model  # an ordinary assignment would register it as a submodule of itself
        self._preparation = Preparation(
            model,
            dtype,
            compile=compile and model.device.type == "cuda",
            texts_kept=texts_kept,
            prepare_after=prepare_after if dtype == model.dtype else 0,  # else the first answers would be different
        )

    # -- shared with the plain model ---------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Whether the plain model is in training mode."""
        return self.plain.training

    @training.setter
    def training(self, mode: bool) -> None:
        self.plain.training = mode

    def config_to_save(self) -> Any:
        """Return the plain model's config, so that the plain model is saved."""
        return self.plain.config_to_save()

    def extra_repr(self) -> str:
        """Return the report, for print(model)."""
        return f"optimized: {self.report}"

    @property
    def kernel(self) -> Kernel:
        """How products are computed."""
        return self._preparation.kernel

    def use_kernel(self, kernel: Kernel) -> None:
        """Compute by this kernel from now on, as a resumed run does."""
        self._preparation.use_kernel(kernel)

    def prepare_at_next_use(self) -> None:
        """End `prepare_after`, so that all answers from now on are computed in the same way."""
        self._preparation.prepare_after = 0

    @property
    def report(self) -> str:
        """Device, kernel and threads, in words."""
        device = self.device.type
        threads = [f"{torch.get_num_threads()} threads"] if device == "cpu" else []
        return ", ".join([device, str(self.kernel), *threads, *self._preparation.notes])

    def refresh(self) -> None:
        """Prepare again at the next call, and drop cached texts and refusals.

        This is needed only after a change through `.data` of a large weight, or of a few elements of a small one, which
        isn't detected.
        """
        self._preparation.forget()

    # -- steps of XCLIPModel -----------------------------------------------------------------------------------------

    def _encode_text(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, **shown: bool
    ) -> tuple[Tensor, TransformerOutput | None]:
        parts = None if any(shown.values()) or position_ids is not None else self._preparation.parts()
        ids = torch.atleast_2d(input_ids)
        fits = input_ids.ndim > 0 and ids.shape[-1] <= self.config.text_config.max_position_embeddings
        if parts is not None and fits and ids.numel() and self._is_plain_tensor(ids):
            ids_KL = ids.flatten(0, -2)
            ends_K = ids_KL.argmax(-1)
            if _hides_no_token(attention_mask, ids_KL, ends_K):
                features_KE = parts.texts.features(ids_KL, ends_K, partial(self._encode_uncached, parts))
                return features_KE.to(self.dtype).unflatten(0, ids.shape[:-1]), None
        return super()._encode_text(input_ids, attention_mask, position_ids, **shown)

    def _encode_uncached(self, parts: PreparedParts, ids_KL: Tensor, ends_K: Tensor) -> Tensor:
        """Return features (K, E)."""
        tower = parts.text(int(ends_K.sum()) + len(ends_K))  # not needed if all texts are cached
        return self.plain._encode_text(ids_KL, None, None)[0].float() if tower is None else tower(ids_KL, ends_K)

    def _integrate(
        self, pixels_NCHW: Tensor, num_frames: int, interpolate_pos_encoding: bool, **shown: bool
    ) -> tuple[TransformerOutput, TransformerOutput]:
        outputs = self._encode_video_fast(pixels_NCHW, num_frames, interpolate_pos_encoding, shown)
        if outputs is None:
            return super()._integrate(pixels_NCHW, num_frames, interpolate_pos_encoding, **shown)
        return outputs.vision_output, outputs.mit_output

    def _encode_video(
        self, pixels_NCHW: Tensor, num_frames: int, interpolate_pos_encoding: bool, **shown: bool
    ) -> VideoOutputs:
        outputs = self._encode_video_fast(pixels_NCHW, num_frames, interpolate_pos_encoding, shown)
        if outputs is None:
            return self.plain._encode_video(pixels_NCHW, num_frames, interpolate_pos_encoding, **shown)
        return outputs

    def _encode_video_fast(
        self, pixels_NCHW: Tensor, num_frames: int, interpolate: bool, shown: dict[str, bool]
    ) -> VideoOutputs | None:
        """Return the outputs by prepared parts, or None if the plain model has to answer."""
        parts = None if any(shown.values()) else self._preparation.parts()
        if parts is None or not pixels_NCHW.numel() or not self._is_plain_tensor(pixels_NCHW):
            return None
        patch, channels = self.vision_model.embeddings.patch_size, self.config.vision_config.num_channels
        video = parts.video(pixels_NCHW.numel() // (channels * patch**2))
        if video is None:
            return None
        positions = self.vision_model.embeddings.positions(*pixels_NCHW.shape[-2:], interpolate=interpolate)
        last_NLD, pooled_ND = video.tower(pixels_NCHW, num_frames, positions)
        frames_BTE, patches_BPE = video.tower.project(last_NLD, pooled_ND, num_frames)
        integrated_BTE, video_BE = video.integration(frames_BTE, self.mit.positions(num_frames))
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
        are_plain = self._is_plain_tensor(text_BKE) and self._is_plain_tensor(patches_BPE)
        parts = self._preparation.parts() if text_BKE.numel() and are_plain else None
        prompts = None if parts is None else parts.prompts(text_BKE.shape[:2].numel())
        if parts is None or prompts is None:
            return super()._prompts(text_BKE, patches_BPE)
        text32_BKE, queries_BKE = text_BKE.float(), None
        if len(text_BKE) == 1 or text_BKE.stride(0) == 0:  # one set of texts for all videos
            queries_KE = parts.queries.queries(text32_BKE[0], prompts.queries)
            queries_BKE = queries_KE.expand(len(text_BKE), -1, -1)
        return prompts(text32_BKE, patches_BPE.float(), queries_BKE).to(text_BKE.dtype)

    def _is_plain_tensor(self, tensor: Tensor) -> bool:
        """Return whether a tensor is of no subclass and on the model's device. The plain model handles all others."""
        return type(tensor) in (Tensor, nn.Parameter) and tensor.device == self.device


def _hides_no_token(attention_mask: Tensor | None, ids_KL: Tensor, ends_K: Tensor) -> bool:
    """Return whether a mask hides no token up to each text's end; the tokens after it have no effect."""
    if attention_mask is None:
        return True
    if attention_mask.numel() != ids_KL.numel() or attention_mask.shape[-1] != ids_KL.shape[-1]:
        return False  # the plain model raises the error
    padding = torch.arange(ids_KL.shape[1], device=ids_KL.device) > ends_K[:, None]
    return bool((attention_mask.reshape(ids_KL.shape).bool() | padding).all())
