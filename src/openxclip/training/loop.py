"""The training loop: X-CLIP's three settings, one optimizer step after the other (arXiv 2208.02816, §4.1).

A step takes `batch` clips in passes of `batch_per_pass`, which the processes share out. Gradients are sums over clips,
divided by how many could be read, so that a step is the same in one pass or many, in one process or several. Nothing
random outlives a step, and the state that is saved is all that the next step needs: a training that was killed goes on
with the same losses to the bit.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from openxclip.common.cores import num_cores
from openxclip.common.memory import is_out_of_memory
from openxclip.datasets import Dataset
from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.recipes import Recipe
from openxclip.training.loading import Steps, TrainClips, drawn_from, load
from openxclip.training.log import Logbook
from openxclip.training.optimisation import Schedule, adamw, parameter_groups, trained_names
from openxclip.training.distributed import Processes
from openxclip.training.reading import Reader, reading
from openxclip.training.state import Learner, load_state, read_facts, save_state
from openxclip.training.stopping import NothingReadError, diverged, no_memory, no_reader
from openxclip.training.gradients import Gradients, Teacher, Texts, precision_of


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
    stop: threading.Event | None = None,
    on_start: Callable[[int, int], None] = lambda step, total: None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    on_epoch: Callable[[int, XCLIPModel, Logbook | None], Any] = lambda epoch, model, log: None,
) -> Trained:
    """Train, or resume where the folder's state ends.

    Args:
        recipe: how.
        model: as it is before the first step, on the CPU; it is trained in place.
        processor: its own, for texts, size, mean and standard deviation.
        dataset: what to learn from.
        folder: for the state and the log.
        processes: that train together.
        stop: when this is set, the step that runs is finished, and the state saved.
        on_start: called before the first step with the number of steps that are done already, and of all.
        on_step: called after each step.
        on_epoch: called by all processes after each epoch that is to be judged, with the epoch's number, from 1, and
            the model in eval mode; the state is saved before. Called again for the same epoch when a training resumes
            there. If it returns True, the training ends there.

    Raises:
        StateError: the folder's state is of another recipe or other data.
        DivergedError: the loss or what the model gives isn't finite; the state that was saved last stays.
        StoppedError: memory ran out, or a process that reads videos was killed; the state was saved, if possible.
        NothingReadError: no video can be read.
    """
    stop = stop or threading.Event()
    steps = Steps(
        len(dataset.samples), recipe.batch, recipe.batch_per_pass, recipe.seed, processes.rank, processes.world
    )
    total = steps.per_epoch * recipe.epochs
    schedule = Schedule(total=total, warmup=round(steps.per_epoch * recipe.warmup_epochs), minimum=recipe.minimum_lr)
    model.to(processes.device)
    set(trained_names(model, towers=recipe.towers, loss=recipe.loss))
    texts = Texts(recipe, model, processor, dataset, processes)
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
    workers = max(1, num_cores() - 1) if recipe.workers is None else recipe.workers
    loader = load(clips, steps, first=first, last=total, workers=workers, pin=processes.device.type == "cuda")
    teacher = Teacher(recipe, model, wrapped, texts, processor, dataset, processes, dtype)
    log = Logbook(folder, first_step=first) if processes.is_main else None
    saved, saved_at = first, time.monotonic()
    step, ends, read = first, False, 0  # clips that were read since the epoch began, or the training resumed

    def save() -> None:
        nonlocal saved, saved_at
        if not teacher.is_sound():
            raise diverged(recipe, folder, f"the outputs of the model after step {step} are not finite numbers", saved)
        all_unreadable = {path: why for part in processes.gathered(unreadable) for path, why in part.items()}
        unreadable.update(all_unreadable)
        save_state(state, learner, {"step": step, "unreadable": all_unreadable}, processes)
        saved, saved_at = step, time.monotonic()

    def is_judged() -> bool:
        """Whether the model is to be judged after this many steps."""
        epoch, within = divmod(step, steps.per_epoch)
        every = recipe.eval_every
        return step > 0 and within == 0 and (step == total or (every > 0 and epoch % every == 0))

    def judged() -> bool:
        """Have the model judged; whether the training ends with that."""
        wrapped.eval()
        return bool(on_epoch(step // steps.per_epoch, _plain(model, learner, recipe), log))

    on_start(first, total)
    with nullcontext() if log is None else closing(log), reading(loader) as reader:
        if is_judged():
            ends = judged()
        while step < total and not ends and not _any(stop.is_set(), processes):
            began = time.perf_counter()
            schedule.apply(learner.optimizer, step)
            torch.manual_seed(
                int(torch.randint(2**31, (), generator=drawn_from(recipe.seed, step, processes.rank), device="cpu"))
            )
            wrapped.train()
            taught, is_full = _gradients(teacher, steps, step, learner, reader)
            if is_full or taught.failed:
                learner.optimizer.zero_grad(set_to_none=True)
                if step > saved and not (is_full and processes.world > 1):  # the others may not have come so far
                    _save_if_there_is_memory(save)
                if not is_full and _any(stop.is_set(), processes):
                    break
                raise (
                    no_memory(recipe, folder, step, saved)
                    if is_full
                    else no_reader(folder, reader.failure, workers, saved)
                )
            unreadable.update({dataset.samples[number].source: why for number, why in taught.errors.items()})
            loss = taught.loss / max(taught.clips, 1)
            if not math.isfinite(loss):
                raise diverged(recipe, folder, f"the loss of step {step + 1} is {loss}", saved)
            if taught.clips:
                _take_step(learner, recipe, steps.clips_of(step) / taught.clips)
            learner.optimizer.zero_grad(set_to_none=True)
            report = StepReport(
                step, total, step // steps.per_epoch, loss, schedule.rate(step, recipe.lr), taught.clips,
                time.perf_counter() - began, taught.waited,
            )  # fmt: skip
            if log is not None:
                log.write("step", step, epoch=report.epoch, loss=report.loss, lr=report.lr, clips=report.clips,
                          seconds=round(report.seconds, 4), waited=round(report.waited, 4))  # fmt: skip
                for number, why in taught.errors.items():
                    log.write("unreadable", step, path=dataset.samples[number].source, why=why)
            on_step(report)
            step += 1
            read += taught.clips
            if step % steps.per_epoch == 0:
                _check_any_read(read, unreadable, dataset, processes)
                read = 0
            if is_judged():
                save()
                ends = judged()
            elif _any(processes.is_main and time.monotonic() - saved_at > 60 * recipe.save_every, processes):
                save()
    if step > saved:
        save()
    return Trained(_plain(model, learner, recipe).eval(), step, ends or step == total, unreadable)


def _any(value: bool, processes: Processes) -> bool:
    """Whether it holds in one of the processes, as all of them get to know."""
    return bool(processes.total(value)[0])


def _gradients(teacher: Teacher, steps: Steps, step: int, learner: Learner, reader: Reader) -> tuple[Gradients, bool]:
    """The gradients of a step, and whether memory ran out."""
    try:
        return teacher.gradients(reader, steps, step, learner.scaler), False
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()  # outside of the block, which keeps alive what was computed
    return Gradients(0.0, 0, 0.0, {}, True), True


def _save_if_there_is_memory(save: Callable[[], None]) -> None:
    try:
        save()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise


def _check_any_read(read: int, unreadable: dict[str, str], dataset: Dataset, processes: Processes) -> None:
    """Refuse to go on after an epoch in which no video could be read."""
    everyones = {path: why for part in processes.gathered(unreadable) for path, why in part.items()}
    if read or any(sample.source not in everyones for sample in dataset.samples):
        return
    path, why = next(iter(everyones.items()))
    raise NothingReadError(
        f"{dataset.name}: none of the {len(everyones)} videos can be read, so there is nothing to learn from; the "
        f"first: {path}: {why}"
    )


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


def _plain(model: XCLIPModel, learner: Learner, recipe: Recipe) -> XCLIPModel:
    """The model by itself, whole in every process, with the weights that count."""
    if learner.average is None and not isinstance(model, FSDPModule):
        return model
    weights = get_model_state_dict(_unwrapped(learner.model), options=StateDictOptions(full_state_dict=True))
    plain = XCLIPModel(model.config).to(model.device)
    plain.load_state_dict({**weights, **(learner.average or {})})
    return plain.eval()
