"""The training loop: X-CLIP's three settings, one optimizer step after the other (arXiv 2208.02816, §4.1).

A step takes `batch` clips in passes of `batch_per_pass`, which the processes share out. Gradients are sums over clips,
divided by how many could be read, so that a step is the same in one pass or many, in one process or several. Nothing
random outlives a step, and the state that is saved is all that the next step needs: a training that was killed goes on
with the same losses to the bit.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.training.augmentation import Augmentation
from openxclip.training.clips import Pass, Steps, TrainClips, drawn_from, load
from openxclip.training.data import Dataset
from openxclip.training.logbook import Logbook
from openxclip.training.losses import class_loss_sum, pair_loss_sum
from openxclip.training.optimisation import Schedule, adamw, parameter_groups, trained_names
from openxclip.training.processes import Processes
from openxclip.training.recipe import Recipe
from openxclip.training.state import Learner, load_state, read_facts, save_state
from openxclip.video.limits import num_cores


@dataclass(frozen=True)
class StepReport:
    """One optimizer step.

    Attributes:
        step, total: counted from 0, of how many.
        epoch: counted from 0.
        loss: mean over the clips of all processes.
        lr: of CLIP's own parameters.
        clips: that were learnt from.
        seconds: that it took.
        waited: of them, for data.
    """

    step: int
    total: int
    epoch: int
    loss: float
    lr: float
    clips: int
    seconds: float
    waited: float


@dataclass(frozen=True)
class Trained:
    """How a training ended.

    Attributes:
        model: with the last weights, or their average if one is kept; unwrapped.
        step: how many steps are done.
        finished: whether that is all; False if it was asked to stop.
        unreadable: videos that could not be read, and why.
    """

    model: XCLIPModel
    step: int
    finished: bool
    unreadable: dict[str, str]


def run(
    recipe: Recipe,
    model: XCLIPModel,
    processor: XCLIPProcessor,
    dataset: Dataset,
    folder: Path,
    processes: Processes,
    *,
    on_step: Callable[[StepReport], None] = lambda report: None,
    on_epoch: Callable[[int, XCLIPModel, Logbook | None], None] = lambda epoch, model, log: None,
) -> Trained:
    """Train, or go on where the folder's state stops.

    Args:
        recipe: how.
        model: as it is before the first step, on the CPU; it is trained in place.
        processor: its own, for texts, size, mean and standard deviation.
        dataset: what to learn from.
        folder: for the state and the log.
        processes: that train together.
        on_step: called after each step.
        on_epoch: called by all processes after each epoch with the epoch's number and the model in eval mode.

    Raises:
        StateError: the folder's state is of another recipe or other data.
    """
    steps = Steps(
        len(dataset.samples), recipe.batch, recipe.batch_per_pass, recipe.seed, processes.rank, processes.world
    )
    total = steps.per_epoch * recipe.epochs
    schedule = Schedule(total=total, warmup=round(steps.per_epoch * recipe.warmup_epochs), minimum=recipe.minimum_lr)
    model.to(processes.device)
    set(trained_names(model, towers=recipe.towers, logit_scale=recipe.loss == "pairs"))
    texts = _Texts(recipe, model, processor, dataset, processes)
    wrapped = _wrapped(model, recipe, processes)
    groups = parameter_groups(model, lr=recipe.lr, fresh_factor=recipe.fresh_factor, weight_decay=recipe.weight_decay)
    dtype = precision_of(recipe, processes.device)
    learner = Learner(
        wrapped,
        adamw(model, groups, betas=recipe.betas, eps=recipe.eps),
        torch.amp.GradScaler(processes.device.type, enabled=dtype == torch.float16),
        {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad} if recipe.ema else None,
    )
    state = folder / "state.safetensors"
    facts = processes.of_main(read_facts(state))
    first = 0
    if facts is not None:
        load_state(state, learner, facts)
        first = int(facts["step"])
    unreadable: dict[str, str] = dict(facts["unreadable"]) if facts else {}
    clips = TrainClips(
        dataset.samples, num_frames=model.config.vision_config.num_frames,
        size=model.config.vision_config.image_size, crop_scales=recipe.augment.crop_scales,
        seed=recipe.seed, per_epoch=steps.per_epoch, sampling=recipe.sampling,
    )  # fmt: skip
    on_gpu = processes.device.type == "cuda"
    workers = max(1, num_cores() - 1) if recipe.workers is None else recipe.workers
    batches = iter(load(clips, steps, first=first, last=total, workers=workers, pin=on_gpu))
    teacher = _Teacher(recipe, model, wrapped, texts, processor, dataset, processes, dtype)
    log = Logbook(folder, first_step=first) if processes.is_main else None
    saved = time.monotonic()

    def save(step: int) -> None:
        all_unreadable = {path: why for part in processes.gathered(unreadable) for path, why in part.items()}
        unreadable.update(all_unreadable)
        save_state(state, learner, {"step": step, "unreadable": all_unreadable}, processes)

    step = first
    with _asked_to_stop() as stop, nullcontext() if log is None else closing(log):
        while step < total:
            began = time.perf_counter()
            schedule.apply(learner.optimizer, step)
            torch.manual_seed(
                int(torch.randint(2**31, (), generator=drawn_from(recipe.seed, step, processes.rank), device="cpu"))
            )
            wrapped.train()
            loss, counted, waited, errors = teacher.gradients(batches, steps, step, learner.scaler)
            unreadable.update({dataset.samples[number].source: why for number, why in errors.items()})
            if counted:
                _take_step(learner, recipe, _clips_of(steps, step) / counted)
            learner.optimizer.zero_grad(set_to_none=True)
            report = StepReport(
                step, total, step // steps.per_epoch, loss / max(counted, 1),
                schedule.rate(step, recipe.lr), counted, time.perf_counter() - began, waited,
            )  # fmt: skip
            if log is not None:
                log.write("step", step, epoch=report.epoch, loss=report.loss, lr=report.lr, clips=report.clips,
                          seconds=round(report.seconds, 4), waited=round(report.waited, 4))  # fmt: skip
                for number, why in errors.items():
                    log.write("unreadable", step, path=dataset.samples[number].source, why=why)
            on_step(report)
            step += 1
            ends = step % steps.per_epoch == 0
            if ends and (step == total or (recipe.eval_every and (step // steps.per_epoch) % recipe.eval_every == 0)):
                save(step)
                saved = time.monotonic()
                wrapped.eval()
                on_epoch(step // steps.per_epoch, _plain(model, learner, recipe), log)
            stops, due = processes.total(stop.is_set(), processes.is_main and _is_due(saved, recipe.save_every))
            if stops and step < total:
                break
            if due:
                save(step)
                saved = time.monotonic()
    if step < total:
        save(step)
    return Trained(_plain(model, learner, recipe).eval(), step, step == total, unreadable)


def precision_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    """What products are computed in."""
    if recipe.precision == "auto":
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if bf16 else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]


class _Texts:
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
            parts = [model.get_text_features(ids[i : i + 64], mask[i : i + 64]) for i in range(0, len(ids), 64)]
        return {"text_features": torch.cat(parts)}


class _Teacher:
    """Makes the gradients of a step."""

    def __init__(
        self,
        recipe: Recipe,
        model: XCLIPModel,
        wrapped: nn.Module,
        texts: _Texts,
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

    def gradients(
        self, batches: Iterator[Pass], steps: Steps, step: int, scaler: torch.amp.GradScaler
    ) -> tuple[float, int, float, dict[int, str]]:
        """Of one step, as the sum over clips divided by how many the step should have, times the processes.

        Returns:
            Sum of the losses and number of clips, of all processes; seconds waited for data; why clips couldn't be
            read, by the number of their sample, of this process.
        """
        losses: list[Tensor] = []
        counted, waited, errors = 0, 0.0, {}
        passes = steps.passes_each(step)
        for number in range(passes):
            began = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - began
            assert batch.step == step
            if batch.counts:
                errors.update(batch.errors)
            clips = len(batch.clips) if batch.counts else 0
            with _synchronised(self._wrapped, number == passes - 1):
                loss = self._loss(batch)
                weight = self._processes.world / _clips_of(steps, step) if clips else 0.0
                scaler.scale(loss * weight).backward()
            if clips:
                losses.append(loss.detach())
                counted += clips
        if isinstance(self._wrapped, FSDPModule) and self._model.logit_scale.grad is not None:
            self._processes.average(self._model.logit_scale.grad)
        sums = self._processes.total(float(torch.stack(losses).sum()) if losses else 0.0, counted)
        return sums[0], round(sums[1]), waited, errors

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


def _clips_of(steps: Steps, step: int) -> int:
    """How many clips a step has, if all can be read."""
    return min(steps.batch, steps.samples - step % steps.per_epoch * steps.batch)


def _take_step(learner: Learner, recipe: Recipe, correction: float) -> None:
    learner.scaler.unscale_(learner.optimizer)
    gradients = [p.grad for p in learner.model.parameters() if p.grad is not None]
    if correction != 1.0:  # some clips couldn't be read
        torch._foreach_mul_(gradients, correction)
    if recipe.clip_grad is not None:
        nn.utils.clip_grad_norm_(learner.model.parameters(), recipe.clip_grad)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if learner.average is not None and recipe.ema is not None:
        parameters = dict(_unwrapped(learner.model).named_parameters())
        with torch.no_grad():
            for name, average in learner.average.items():
                average.lerp_(parameters[name], 1 - recipe.ema)


def _wrapped(model: XCLIPModel, recipe: Recipe, processes: Processes) -> nn.Module:
    if processes.world == 1:
        return model
    if recipe.sharded:
        for block in [*model.vision_model.encoder.layers, *model.text_model.encoder.layers]:
            fully_shard(block)
        fully_shard(model, ignored_params={model.logit_scale})  # one number can't be shared out
        return model
    on_gpu = processes.device.type == "cuda"
    return DistributedDataParallel(model, device_ids=[processes.device] if on_gpu else None)


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model


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


def _plain(model: XCLIPModel, learner: Learner, recipe: Recipe) -> XCLIPModel:
    """The model by itself, whole in every process, with the weights that count."""
    if learner.average is None and not isinstance(model, FSDPModule):
        return model
    weights = get_model_state_dict(_unwrapped(learner.model), options=StateDictOptions(full_state_dict=True))
    plain = XCLIPModel(model.config).to(model.device)
    plain.load_state_dict({**weights, **(learner.average or {})})
    return plain.eval()


def _is_due(saved: float, minutes: float) -> bool:
    return time.monotonic() - saved > 60 * minutes


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Set by SIGTERM, and by the first Ctrl-C: the step that runs is finished and saved."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, _: Any) -> None:
        event.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])  # a second one doesn't wait

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
