"""The gradients of one optimizer step: clips are augmented and scored, and the loss goes backward."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from openxclip.datasets import Dataset
from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.recipes import Recipe
from openxclip.training.augmentation import Augmentation
from openxclip.training.loading import Pass, Steps, drawn_from
from openxclip.training.losses import class_loss_sum, pair_loss_sum
from openxclip.training.distributed import Processes
from openxclip.training.reading import Reader


def precision_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    """What products are computed in."""
    if recipe.precision == "auto":
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if bf16 else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]


class Texts:
    """The class names' features, encoded once where their tower is frozen; or the tokens, for it to be trained."""

    def __init__(
        self, recipe: Recipe, model: XCLIPModel, processor: XCLIPProcessor, dataset: Dataset, processes: Processes
    ) -> None:
        self._processor, self._device = processor, processes.device
        self._learns = recipe.towers in ("text", "both")
        self._arguments: dict[str, Tensor] = {}
        if recipe.loss == "classes":
            texts = [recipe.template.replace("{}", name) for name in dataset.classes]
            self._arguments = self._encoded(model, texts)

    def of_classes(self) -> dict[str, Tensor]:
        """What the model's forward takes of the classes."""
        return self._arguments

    def of(self, captions: list[str]) -> dict[str, Tensor]:
        """What it takes of these captions."""
        tokens = self._processor(text=captions, return_tensors="pt", padding=True, truncation=True).to(self._device)
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}

    def _encoded(self, model: XCLIPModel, texts: list[str]) -> dict[str, Tensor]:
        tokens = self.of(texts)
        if self._learns:
            return tokens
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        with torch.no_grad():
            parts: list[Tensor] = [
                model.get_text_features(ids[i : i + 64], mask[i : i + 64]) for i in range(0, len(ids), 64)
            ]
        return {"text_features": torch.cat(parts)}


class Gradients(NamedTuple):
    """What the gradients of a step came from.

    Attributes:
        loss: sum over the clips of all processes.
        clips: how many these are.
        waited: seconds in which this process waited for data.
        errors: why clips of this process couldn't be read, by the number of their sample.
        failed: in some process no more clips come, so the gradients are not those of the whole step.
    """

    loss: float
    clips: int
    waited: float
    errors: dict[int, str]
    failed: bool


class Teacher:
    """Makes the gradients of a step."""

    def __init__(
        self,
        recipe: Recipe,
        model: XCLIPModel,
        wrapped: nn.Module,
        texts: Texts,
        processor: XCLIPProcessor,
        dataset: Dataset,
        processes: Processes,
        dtype: torch.dtype,
    ) -> None:
        self._recipe, self._model, self._wrapped, self._texts = recipe, model, wrapped, texts
        self._dataset, self._processes, self._dtype = dataset, processes, dtype
        transforms, augment = processor.image_processor, recipe.augment
        self._augment = Augmentation(
            flip=augment.flip, jitter=augment.jitter, brightness=augment.brightness, contrast=augment.contrast,
            saturation=augment.saturation, hue=augment.hue, grey=augment.grey, mixup=augment.mixup,
            cutmix=augment.cutmix, mix_switch=augment.mix_switch, label_smoothing=augment.label_smoothing,
            mean=tuple(transforms.image_mean), std=tuple(transforms.image_std),
        )  # fmt: skip

    def gradients(self, reader: Reader, steps: Steps, step: int, scaler: torch.amp.GradScaler) -> Gradients:
        """Of one step, as the sum over clips divided by how many the step should have, times the processes."""
        losses: list[Tensor] = []
        counted, waited, errors = 0, 0.0, {}
        passes = steps.passes_each(step)
        for number in range(passes):
            began = time.perf_counter()
            batch = reader.next(step)
            waited += time.perf_counter() - began
            if batch.counts:
                errors.update(batch.errors)
            clips = len(batch.clips) if batch.counts else 0
            with _synchronised(self._wrapped, number == passes - 1):
                loss = self._loss(batch)
                weight = self._processes.world / steps.clips_of(step) if clips else 0.0
                scaler.scale(loss * weight).backward()
            if clips:
                losses.append(loss.detach())
                counted += clips
        if isinstance(self._wrapped, FSDPModule) and self._model.logit_scale.grad is not None:
            self._processes.average(self._model.logit_scale.grad)
        total = float(torch.stack(losses).sum()) if losses else 0.0
        sums = self._processes.total(total, counted, bool(reader.failure))
        return Gradients(sums[0], round(sums[1]), waited, errors, bool(sums[2]))

    @torch.no_grad()
    def is_sound(self) -> bool:
        """Whether the weights and the scores of a black clip are finite; leaves the model in eval mode."""
        vision = self._model.config.vision_config
        shape = (1, vision.num_frames, 3, vision.image_size, vision.image_size)
        texts = self._texts.of_classes() if self._recipe.loss == "classes" else self._texts.of([""])
        self._wrapped.eval()
        with self._autocast():
            logits = self._wrapped(pixel_values=torch.zeros(shape, device=self._processes.device), **texts)
        bad = not bool(logits.logits_per_video.isfinite().all())
        trained = [p.detach() for p in self._model.parameters() if p.requires_grad]
        bad = bad or not all(bool(getattr(p, "to_local", lambda p=p: p)().isfinite().all()) for p in trained)
        return not self._processes.total(bad)[0]

    def _loss(self, batch: Pass) -> Tensor:
        vision = self._model.config.vision_config
        clips, samples = batch.clips, list(batch.samples)
        if not samples:  # none could be read; every process must take every pass
            side = vision.image_size
            clips, samples = torch.zeros(1, vision.num_frames, 3, side, side, dtype=torch.uint8, device="cpu"), [0]
        clips = clips.to(self._processes.device, non_blocking=True)
        draw = drawn_from(self._recipe.seed, batch.step, batch.number, 2)
        all_samples = self._dataset.samples
        if self._recipe.loss == "classes":
            labels = torch.tensor([all_samples[number].label for number in samples], device=clips.device)
            pixels, targets = self._augment(clips, labels, len(self._dataset.classes), generator=draw)
            assert targets is not None
            with self._autocast():
                logits = self._wrapped(pixel_values=pixels, **self._texts.of_classes()).logits_per_video
            return class_loss_sum(logits, targets)
        pixels, _ = self._augment(clips, None, 0, generator=draw)
        counted = len(batch.samples) if batch.counts else 0
        captions = self._processes.gathered([str(all_samples[number].text) for number in samples[:counted]])
        everyones = [text for part in captions for text in part] or [""]
        with self._autocast():
            logits = self._wrapped(pixel_values=pixels, **self._texts.of(everyones)).logits_per_video
        loss = pair_loss_sum(logits[:counted], [len(part) for part in captions], self._processes)
        return loss if counted else loss + 0 * logits.sum()  # every process must have a gradient to share

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._processes.device.type, self._dtype)


@contextmanager
def _synchronised(model: nn.Module, is_last: bool) -> Iterator[None]:
    """Gradients go round the processes once a step, with its last pass."""
    if isinstance(model, DistributedDataParallel):
        with nullcontext() if is_last else model.no_sync():
            yield
        return
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(is_last)
    yield
