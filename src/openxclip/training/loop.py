"""The training loop for X-CLIP's three settings (arXiv 2208.02816, §4.1).

Each step takes `batch` clips, in passes of `batch_per_pass` clips that are divided among the processes. Gradients are
sums over clips, divided by the number of clips that could be read. So a step is the same in one pass or several, and
in one process or several. No random state outlives a step, and the saved state has everything that the next step
needs, so a training that was killed resumes with the same losses to the bit.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from openxclip.common.cores import num_cores
from openxclip.common.memory import is_out_of_memory
from openxclip.model import XCLIPModel
from openxclip.recipes import Recipe
from openxclip.training.batches import seeded_generator
from openxclip.training.distributed import Processes
from openxclip.training.errors import NothingReadError, diverged_error, out_of_memory_error, worker_error
from openxclip.training.gradients import GradientComputer, StepOutcome, TextInputs, choose_dtype
from openxclip.training.loading import Pass, PassReader, TrainClips, make_loader, read_ahead
from openxclip.training.log import TrainingLog
from openxclip.training.optimisation import make_optimizer, parameter_groups, set_trainable
from openxclip.training.planning import plan_steps
from openxclip.training.setup import Setup
from openxclip.training.state import TrainingState, load_state, read_progress, save_state

# The median of so many lengths is that of all clips, nearly: samples come in random order, so these are a random part
_LENGTHS_KEPT = 1000


@dataclass(frozen=True)
class StepReport:
    """One optimizer step.

    Attributes:
        step: index of the step, counted from 0.
        total: number of steps in the training.
        epoch: index of the epoch, counted from 0.
        loss: mean loss of the clips of all processes.
        lr: learning rate of CLIP's own parameters.
        clips: number of clips, over all processes.
        seconds: duration of the step.
        waited: seconds of the step in which it waited for clips.
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
class LoopResult:
    """How a training loop ended.

    Attributes:
        model: the unwrapped model with the last weights, or with their moving average if there is one.
        step: number of steps that are done.
        finished: False if the training was asked to stop.
        unreadable: why videos could not be read, by path.
        clip_seconds: known lengths of training clips, at most about a thousand for each process.
    """

    model: XCLIPModel
    step: int
    finished: bool
    unreadable: dict[str, str]
    clip_seconds: tuple[float, ...] = ()


class TrainingLoop:
    """Train a model. Resume from the folder's state if there is one.

    Args:
        setup: recipe, model and data; the model is trained in place.
        folder: folder for the state and the log.
        stop: event that ends the training after the current step, once the state is saved.
        on_step: called after each step.
        on_epoch: called in all processes after each epoch that is to be evaluated, once the state is saved. It gets
            the number of the epoch from 1, the model in eval mode, and the log (None except in the main process). It
            is called again for the same epoch if the training resumes there. If it returns True, the training ends.

    Attributes:
        step: number of finished steps.
        total_steps: number of steps in the training.

    Raises:
        StateError: the folder's state is damaged.
    """

    def __init__(
        self,
        setup: Setup,
        folder: Path,
        *,
        stop: threading.Event | None = None,
        on_step: Callable[[StepReport], None] = lambda report: None,
        on_epoch: Callable[[int, XCLIPModel, TrainingLog | None], Any] = lambda epoch, model, log: None,
    ) -> None:
        self._setup, self._recipe, self._processes, self._folder = setup, setup.recipe, setup.processes, folder
        self._stop = stop or threading.Event()
        self._on_step, self._on_epoch = on_step, on_epoch
        self._batches, self._schedule = plan_steps(setup)
        self.total_steps = self._schedule.total
        self._num_workers = max(1, num_cores() - 1) if self._recipe.workers is None else self._recipe.workers
        setup.model.to(self._processes.device)
        set_trainable(setup.model, towers=self._recipe.towers, loss=self._recipe.loss)
        texts = TextInputs(setup)  # encoded before the model is sharded
        dtype = choose_dtype(self._recipe, self._processes.device)
        self._state = _make_state(setup, dtype)
        self._gradients = GradientComputer(setup, self._state.model, texts, dtype)
        self._log: TrainingLog | None = None
        self._unreadable: dict[str, str] = {}
        self._clip_seconds: dict[int, float] = {}  # by the index of the sample
        self.step = self._saved_step = 0
        self._saved_at = time.monotonic()
        self._clips_in_epoch = 0  # clips that were read since the epoch began or the training resumed
        self._has_ended_early = False
        self._resume()

    def run(self) -> LoopResult:
        """Run all steps that aren't done yet.

        Raises:
            DivergedError: the loss or the model's outputs are not finite; the last saved state stays.
            StoppedError: memory ran out or a worker was killed; the state was saved if possible.
            NothingReadError: no video can be read.
        """
        with self._open_log(), read_ahead(self._make_loader()) as reader:
            if self._is_evaluation_due():  # the training may have been interrupted before this evaluation
                self._evaluate()
            while not self._is_done():
                began = time.perf_counter()
                outcome = self._compute_gradients(reader)
                if outcome.is_incomplete:
                    self._handle_worker_failure(reader)
                    break
                loss = self._optimise(outcome)
                self._report(outcome, loss, time.perf_counter() - began)
                self._count_step(outcome)
                if self._is_evaluation_due():
                    self._save()
                    self._evaluate()
                elif self._is_save_due():
                    self._save()
        if self.step > self._saved_step:
            self._save()
        is_finished = self._has_ended_early or self.step == self.total_steps
        lengths = tuple(self._gather_lengths().values())
        return LoopResult(self._full_model().eval(), self.step, is_finished, self._unreadable, lengths)

    def _is_done(self) -> bool:
        return self.step == self.total_steps or self._has_ended_early or self._is_asked_to_stop()

    def _is_asked_to_stop(self) -> bool:
        return self._processes.any(self._stop.is_set())

    def _is_evaluation_due(self) -> bool:
        epoch, step_in_epoch = divmod(self.step, self._batches.steps_per_epoch)
        every = self._recipe.eval_every
        is_chosen = self.step == self.total_steps or (every > 0 and epoch % every == 0)
        return self.step > 0 and step_in_epoch == 0 and is_chosen

    def _is_save_due(self) -> bool:
        minutes = (time.monotonic() - self._saved_at) / 60
        return self._processes.any(self._processes.is_main and minutes > self._recipe.save_every)

    def _compute_gradients(self, reader: PassReader) -> StepOutcome:
        """Run the forward and backward passes of a step."""
        self._schedule.apply(self._state.optimizer, self.step)
        generator = seeded_generator(self._recipe.seed, self.step, self._processes.rank)
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator, device="cpu")))  # for drop path
        self._state.model.train()
        try:
            return self._gradients.compute(reader, self._batches, self.step, self._state.scaler)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # after the except block, which keeps the tensors of the failed step alive
        torch.cuda.empty_cache()
        self._state.optimizer.zero_grad(set_to_none=True)
        if self._processes.world == 1:  # saving needs all processes, and the others may be elsewhere
            self._save_if_memory_allows()
        raise out_of_memory_error(self._recipe, self._folder, self.step, self._saved_step)

    def _handle_worker_failure(self, reader: PassReader) -> None:
        """Save the state of the last complete step, and raise an error unless the signal to stop ended the worker."""
        self._state.optimizer.zero_grad(set_to_none=True)
        self._save_if_memory_allows()
        if not self._is_asked_to_stop():
            raise worker_error(self._folder, reader.failure, self._num_workers, self._saved_step)

    def _optimise(self, outcome: StepOutcome) -> float:
        """Update the weights, and return the mean loss."""
        loss = outcome.loss / max(outcome.clips, 1)
        if not math.isfinite(loss):
            problem = f"the loss of step {self.step + 1} is {loss}"
            raise diverged_error(self._recipe, self._folder, problem, self._saved_step)
        if outcome.clips:
            self._update_weights(correction=self._batches.num_clips(self.step) / outcome.clips)
        self._state.optimizer.zero_grad(set_to_none=True)
        return loss

    def _update_weights(self, correction: float) -> None:
        """Take an optimizer step; `correction` scales the gradients to a mean over the clips that could be read."""
        model, optimizer, scaler = self._state.model, self._state.optimizer, self._state.scaler
        scaler.unscale_(optimizer)
        if correction != 1.0:
            torch._foreach_mul_([p.grad for p in model.parameters() if p.grad is not None], correction)
        if self._recipe.clip_grad is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self._recipe.clip_grad)
        scaler.step(optimizer)
        scaler.update()
        if self._state.average is not None and self._recipe.ema is not None:
            parameters = dict(self._setup.model.named_parameters())
            with torch.no_grad():
                for name, average in self._state.average.items():
                    average.lerp_(parameters[name], 1 - self._recipe.ema)

    def _report(self, outcome: StepOutcome, loss: float, seconds: float) -> None:
        report = StepReport(
            self.step, self.total_steps, self.step // self._batches.steps_per_epoch, loss,
            self._schedule.rate(self.step, self._recipe.lr), outcome.clips, seconds, outcome.waited,
        )  # fmt: skip
        samples = self._setup.dataset.samples
        unreadable = [(samples[i].source, reason) for i, reason in outcome.errors.items()]
        self._unreadable.update(unreadable)
        if self._log is not None:
            self._log.write("step", self.step, epoch=report.epoch, loss=loss, lr=report.lr, clips=report.clips,
                            seconds=round(seconds, 4), waited=round(report.waited, 4))  # fmt: skip
            for path, reason in unreadable:
                self._log.write("unreadable", self.step, path=path, why=reason)
        self._on_step(report)

    def _count_step(self, outcome: StepOutcome) -> None:
        """Count a finished step; at the end of an epoch in which no clip could be read, check that any video can be."""
        self.step += 1
        self._clips_in_epoch += outcome.clips
        if len(self._clip_seconds) < _LENGTHS_KEPT:
            self._clip_seconds.update((i, length) for i, length in outcome.seconds.items() if 0 < length < math.inf)
        if self.step % self._batches.steps_per_epoch:
            return
        if not self._clips_in_epoch:
            self._check_any_readable()
        self._clips_in_epoch = 0

    def _check_any_readable(self) -> None:
        dataset, unreadable = self._setup.dataset, self._gather_unreadable()
        if all(sample.source in unreadable for sample in dataset.samples):
            path, reason = next(iter(unreadable.items()))
            raise NothingReadError(
                f"{dataset.name}: none of the {len(unreadable)} videos can be read, so there is nothing to learn "
                f"from; the first: {path}: {reason}"
            )

    def _gather_unreadable(self) -> dict[str, str]:
        return {path: reason for part in self._processes.gather(self._unreadable) for path, reason in part.items()}

    def _gather_lengths(self) -> dict[int, float]:
        return {i: length for part in self._processes.gather(self._clip_seconds) for i, length in part.items()}

    def _resume(self) -> None:
        """Load the folder's state if there is one."""
        path = self._folder / "state.safetensors"
        progress = self._processes.broadcast(read_progress(path))
        if progress is not None:
            load_state(path, self._state, progress)
            self.step = self._saved_step = int(progress["step"])
            self._unreadable = dict(progress["unreadable"])
            # absent from the states of earlier versions
            self._clip_seconds = {int(i): length for i, length in progress.get("clip_seconds", {}).items()}

    def _open_log(self) -> AbstractContextManager[Any]:
        if not self._processes.is_main:
            return nullcontext()
        self._log = TrainingLog(self._folder, first_step=self.step)
        return closing(self._log)

    def _make_loader(self) -> DataLoader[Pass]:
        vision, recipe = self._setup.model.config.vision_config, self._recipe
        clips = TrainClips(
            self._setup.dataset.samples, num_frames=vision.num_frames, size=vision.image_size,
            crop_scales=recipe.augment.crop_scales, seed=recipe.seed, steps_per_epoch=self._batches.steps_per_epoch,
            sampling=recipe.sampling,
        )  # fmt: skip
        pin = self._processes.device.type == "cuda"
        return make_loader(
            clips, self._batches, first=self.step, last=self.total_steps, workers=self._num_workers, pin=pin
        )

    def _save(self) -> None:
        """Save the state, unless the model is not finite."""
        if not self._gradients.is_model_finite():
            problem = f"the outputs of the model after step {self.step} are not finite numbers"
            raise diverged_error(self._recipe, self._folder, problem, self._saved_step)
        self._unreadable.update(self._gather_unreadable())
        self._clip_seconds = self._gather_lengths()
        progress = {"step": self.step, "unreadable": self._unreadable, "clip_seconds": self._clip_seconds}
        save_state(self._folder / "state.safetensors", self._state, progress, self._processes)
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def _save_if_memory_allows(self) -> None:
        if self.step == self._saved_step:
            return
        try:
            self._save()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise

    def _evaluate(self) -> None:
        self._state.model.eval()
        epoch = self.step // self._batches.steps_per_epoch
        self._has_ended_early = bool(self._on_epoch(epoch, self._full_model(), self._log))

    def _full_model(self) -> XCLIPModel:
        """Return the unwrapped and unsharded model, with the averaged weights if there are any."""
        model = self._setup.model
        if self._state.average is None and not isinstance(model, FSDPModule):
            return model
        weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
        full_model = XCLIPModel(model.config).to(model.device)
        full_model.load_state_dict({**weights, **(self._state.average or {})})
        return full_model.eval()


def _make_state(setup: Setup, dtype: torch.dtype) -> TrainingState:
    recipe, model, device = setup.recipe, setup.model, setup.processes.device
    wrapped = _wrap(model, recipe, setup.processes)
    groups = parameter_groups(model, lr=recipe.lr, fresh_factor=recipe.fresh_factor, weight_decay=recipe.weight_decay)
    return TrainingState(
        wrapped,
        make_optimizer(model, groups, betas=recipe.betas, eps=recipe.eps),
        torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad} if recipe.ema else None,
    )


def _wrap(model: XCLIPModel, recipe: Recipe, processes: Processes) -> nn.Module:
    """Wrap the model for several processes: shard it in place, or replicate it."""
    if processes.world == 1:
        return model
    if recipe.sharded:
        for block in [*model.vision_model.encoder.layers, *model.text_model.encoder.layers]:
            fully_shard(block)
        fully_shard(model, ignored_params={model.logit_scale})  # a scalar can't be sharded
        return model
    is_on_gpu = processes.device.type == "cuda"
    return DistributedDataParallel(model, device_ids=[processes.device] if is_on_gpu else None)
