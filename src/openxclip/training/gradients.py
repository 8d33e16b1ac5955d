"""Compute the gradients of one optimizer step: augment clips, score them, and backpropagate the loss."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from openxclip.recipes import Recipe
from openxclip.training.augmentation import Augmentation
from openxclip.training.batches import Batches, seeded_generator
from openxclip.training.distributed import Processes
from openxclip.training.loading import Pass, PassReader
from openxclip.training.setup import Setup

_TEXTS_PER_CALL = 64


def choose_dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products for the recipe's `precision`."""
    if recipe.precision == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]


class TextInputs:
    """Text arguments of the model's forward.

    Attributes:
        classes: arguments for the class names: features if the text tower is frozen, tokens if it is trained; empty
            for captions.
    """

    def __init__(self, setup: Setup) -> None:
        self._processor, self._device = setup.processor, setup.processes.device
        self.classes: dict[str, Tensor] = {}
        recipe = setup.recipe
        if recipe.loss == "classes":
            self.classes = self.tokenize([recipe.template.replace("{}", name) for name in setup.dataset.classes])
            if recipe.towers not in ("text", "both"):
                self.classes = _encode(setup, **self.classes)

    def tokenize(self, texts: list[str]) -> dict[str, Tensor]:
        """Return the arguments for texts as tokens."""
        tokens = self._processor(text=texts, return_tensors="pt", padding=True, truncation=True).to(self._device)
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}


@torch.no_grad()
def _encode(setup: Setup, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
    parts: list[Tensor] = [
        setup.model.get_text_features(ids, mask)
        for ids, mask in zip(input_ids.split(_TEXTS_PER_CALL), attention_mask.split(_TEXTS_PER_CALL), strict=True)
    ]
    return {"text_features": torch.cat(parts)}


class StepOutcome(NamedTuple):
    """What the gradients of a step were computed from.

    Attributes:
        loss: sum of the losses of all clips, over all processes.
        clips: number of clips, over all processes.
        waited: seconds in which this process waited for clips.
        errors: why clips of this process could not be read, by the index of their sample.
        seconds: lengths of the other samples of this process, by their index; NaN if unknown.
        is_incomplete: True if a worker of any process died, so that clips of the step are missing.
    """

    loss: float
    clips: int
    waited: float
    errors: dict[int, str]
    seconds: dict[int, float]
    is_incomplete: bool


class GradientComputer:
    """Compute the gradients of optimizer steps.

    Args:
        setup: the training's setup.
        wrapped: the model, wrapped if several processes train it.
        texts: text arguments of the model.
        dtype: dtype of matrix products.
    """

    def __init__(self, setup: Setup, wrapped: nn.Module, texts: TextInputs, dtype: torch.dtype) -> None:
        self._recipe, self._model, self._dataset = setup.recipe, setup.model, setup.dataset
        self._processes, self._wrapped, self._texts, self._dtype = setup.processes, wrapped, texts, dtype
        transforms = setup.processor.image_processor
        self._augment = Augmentation(
            **setup.recipe.augment.model_dump(exclude={"crop_scales"}),
            mean=tuple(transforms.image_mean),
            std=tuple(transforms.image_std),
        )

    def compute(self, reader: PassReader, batches: Batches, step: int, scaler: torch.amp.GradScaler) -> StepOutcome:
        """Add the gradients of a step to the parameters' `grad`.

        They are sums over the clips, divided by the number of clips that the step should have and multiplied by the
        number of processes, since wrapped models average gradients over processes.
        """
        losses: list[Tensor] = []
        num_clips, waited, errors, seconds = 0, 0.0, dict[int, str](), dict[int, float]()
        num_passes = batches.num_passes(step)
        for i in range(num_passes):
            began = time.perf_counter()
            batch = reader.read(step)
            waited += time.perf_counter() - began
            if batch.is_counted:
                errors.update(batch.errors)
                seconds.update(zip(batch.samples, batch.seconds, strict=True))
            counted = len(batch.clips) if batch.is_counted else 0
            with _synchronise_gradients(self._wrapped, is_last=i == num_passes - 1):
                loss = self._loss(batch)
                weight = self._processes.world / batches.num_clips(step) if counted else 0.0
                scaler.scale(loss * weight).backward()
            if counted:
                losses.append(loss.detach())
                num_clips += counted
        if isinstance(self._wrapped, FSDPModule) and self._model.logit_scale.grad is not None:
            self._processes.average_(self._model.logit_scale.grad)  # FSDP doesn't shard it, nor average its gradient
        loss_sum = float(torch.stack(losses).sum()) if losses else 0.0
        sums = self._processes.sum(loss_sum, num_clips, bool(reader.failure))
        return StepOutcome(sums[0], round(sums[1]), waited, errors, seconds, bool(sums[2]))

    @torch.no_grad()
    def is_model_finite(self) -> bool:
        """Return whether the weights and the scores of a black clip are finite. Leaves the model in eval mode."""
        texts = self._texts.classes or self._texts.tokenize([""])
        self._wrapped.eval()
        with self._autocast():
            outputs = self._wrapped(pixel_values=self._black_clip(torch.float32), **texts)
        trained = [p.detach() for p in self._model.parameters() if p.requires_grad]
        local = [p.to_local() if isinstance(p, DTensor) else p for p in trained]  # this process's part if sharded
        is_finite = all(bool(tensor.isfinite().all()) for tensor in (outputs.logits_per_video, *local))
        return not self._processes.any(not is_finite)

    def _loss(self, batch: Pass) -> Tensor:
        """Return the sum of the losses of a pass's clips."""
        clips, samples = batch.clips, batch.samples
        if not samples:  # no clip could be read, but every process must take every pass
            clips, samples = self._black_clip(torch.uint8), (0,)
        clips = clips.to(self._processes.device, non_blocking=True)
        # the 2 keeps these draws apart from those that are seeded with an epoch and a sample
        generator = seeded_generator(self._recipe.seed, batch.step, batch.pass_index, 2)
        if self._recipe.loss == "classes":
            return self._class_loss(clips, samples, generator)
        return self._pair_loss(clips, batch.samples if batch.is_counted else (), generator)

    def _class_loss(self, clips: Tensor, samples: tuple[int, ...], generator: torch.Generator) -> Tensor:
        labels = torch.tensor([self._dataset.samples[i].label for i in samples], device=clips.device)
        pixels, targets = self._augment(clips, labels, len(self._dataset.classes), generator=generator)
        assert targets is not None
        with self._autocast():
            logits = self._wrapped(pixel_values=pixels, **self._texts.classes).logits_per_video
        return F.cross_entropy(logits.float(), targets, reduction="sum")

    def _pair_loss(self, clips: Tensor, counted: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Contrast the counted clips with the captions of all processes; there may be no counted clip."""
        pixels, _ = self._augment(clips, None, 0, generator=generator)
        captions = self._processes.gather([str(self._dataset.samples[i].text) for i in counted])
        all_captions = [caption for part in captions for caption in part] or [""]
        with self._autocast():
            logits = self._wrapped(pixel_values=pixels, **self._texts.tokenize(all_captions)).logits_per_video
        loss = _pair_loss_sum(logits[: len(counted)], [len(part) for part in captions], self._processes)
        return loss if counted else loss + 0 * logits.sum()  # every process needs gradients to synchronise

    def _black_clip(self, dtype: torch.dtype) -> Tensor:
        vision = self._model.config.vision_config
        shape = (1, vision.num_frames, 3, vision.image_size, vision.image_size)
        return torch.zeros(shape, dtype=dtype, device=self._processes.device)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._processes.device.type, self._dtype)


def _pair_loss_sum(logits_BK: Tensor, counts: Sequence[int], processes: Processes) -> Tensor:
    """Return this process's part of CLIP's symmetric contrastive loss over the clips and captions of all processes.

    X-CLIP's prompts make a caption's features depend on the clip. So each process scores its own clips against all K
    captions, and the logits of all processes are gathered, with gradients, to classify captions by clip.

    Args:
        logits_BK: scores of this process's clips and the captions of all processes, in the order of ranks.
        counts: number of clips of each process; they sum to K.
        processes: processes that train together.

    Returns:
        The mean of the clip-to-caption and caption-to-clip losses, summed over this process's clips.
    """
    logits_BK = logits_BK.float()
    targets_B = torch.arange(len(logits_BK), device=logits_BK.device) + sum(counts[: processes.rank])
    clip_to_text = F.cross_entropy(logits_BK, targets_B, reduction="sum")
    all_logits_KK = processes.gather_rows(logits_BK, counts)
    text_to_clip = F.cross_entropy(all_logits_KK.T[targets_B], targets_B, reduction="sum")
    return (clip_to_text + text_to_clip) / 2


@contextmanager
def _synchronise_gradients(model: nn.Module, is_last: bool) -> Iterator[None]:
    """Exchange gradients between processes in the last pass of a step only."""
    if isinstance(model, DistributedDataParallel):
        with nullcontext() if is_last else model.no_sync():
            yield
        return
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(is_last)
    yield
