"""Trainings that stop early: a loss that is not finite, unreadable videos, out of memory, killed workers, signals."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from openxclip.common.memory import is_out_of_memory
from openxclip.training import train
from openxclip.training.errors import DivergedError, NothingReadError, StoppedError, TrainingError
from openxclip.training.gradients import GradientComputer
from openxclip.training.log import read_log

PLAIN = ("flip=0", "jitter=0", "grey=0", "mixup=0", "cutmix=0", "workers=0", "hold_out=0", "warmup_epochs=0",
         "batch=3", "epochs=2", "lr=1e-3", "eval_every=0", "precision=fp32")  # fmt: skip


def quiet(text: str) -> None:
    """Say nothing."""


def train_tiny(tiny_folder: Path, class_folder: Path, out: Path, *changes: str, **options: Any) -> Any:
    arguments = {"say": quiet, **options}
    return train("my-videos", f"model={tiny_folder}", f"data={class_folder}", *PLAIN, *changes, out=out, **arguments)


# -- values that are not finite


def test_a_loss_that_is_not_finite_stops_the_training(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    out, steps = tmp_path / "out", []
    with pytest.raises(DivergedError, match=r"the loss of step \d+ is (nan|inf).*a lower lr \(it is 1e\+30\)"):
        train_tiny(
            tiny_folder, class_folder, out, "lr=1e30", "epochs=50", on_step=lambda report: steps.append(report.loss)
        )
    assert 1 <= len(steps) < 150
    assert all(map(math.isfinite, steps))
    assert all(math.isfinite(line["loss"]) for line in read_log(out / "training"))
    assert not (out / "config.json").exists()
    assert not (out / "model.safetensors").exists()


def test_the_last_good_state_is_kept(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the last epoch is kept, and the same command fails again in the same way."""
    plain = GradientComputer.compute

    def broken(self: GradientComputer, reader: Any, batches: Any, step: int, scaler: Any) -> Any:
        outcome = plain(self, reader, batches, step, scaler)
        return outcome._replace(loss=math.inf) if step == 4 else outcome

    monkeypatch.setattr(GradientComputer, "compute", broken)
    out, saved = tmp_path / "out", tmp_path / "out/training/state.safetensors"
    for _ in range(2):
        with pytest.raises(DivergedError, match=r"the loss of step 5 is inf.*The state after step 3 is saved"):
            train_tiny(tiny_folder, class_folder, out, "eval_every=1")
        assert all(tensor.isfinite().all() for tensor in load_file(saved).values())


@pytest.mark.parametrize("towers", ["visual", "none"])
def test_weights_that_are_not_finite_are_not_saved(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, towers: str
) -> None:
    """The weights become infinite in the last step, whose loss was still finite."""
    with pytest.raises(DivergedError, match="after step 1 are not finite"):
        train_tiny(tiny_folder, class_folder, tmp_path / "out", "epochs=1", "batch=9", "lr=1e38", f"towers={towers}")
    assert not (tmp_path / "out/config.json").exists()
    assert not (tmp_path / "out/training/state.safetensors").exists()


# -- unreadable videos


def test_unreadable_videos_only(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    """Nothing is written, so the same command can be run once the videos are repaired."""
    folder = shutil.copytree(class_folder, tmp_path / "classes")
    for path in folder.glob("*/*.mp4"):
        path.write_bytes(b"no video")
    with pytest.raises(NothingReadError, match=r"none of the 9 videos can be read.*the first: "):
        train_tiny(tiny_folder, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- out of memory


OUT_OF_MEMORY = (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
             torch.OutOfMemoryError("CUDA out of memory."), MemoryError())  # fmt: skip


def no_memory_in_step_4(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let passes of several clips fail in the fourth step."""
    plain = GradientComputer._loss

    def failing(self: GradientComputer, batch: Any) -> Any:
        if batch.step == 3 and len(batch.clips) > 1:
            raise error
        return plain(self, batch)

    monkeypatch.setattr(GradientComputer, "_loss", failing)


def test_out_of_memory(tiny_folder: Path, class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_memory_in_step_4(monkeypatch, OUT_OF_MEMORY[0])
    with pytest.raises(StoppedError, match=r"memory ran out in step 4\. The state after step 3 is saved .*"
                       r"batch_per_pass=1 \(it is 3\) or checkpoint_gradients=true to resume"):  # fmt: skip
        train_tiny(tiny_folder, class_folder, tmp_path / "out", "batch_per_pass=3")
    assert (tmp_path / "out/training/state.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_resume_with_smaller_passes_after_out_of_memory(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    train_tiny(tiny_folder, class_folder, tmp_path / "whole", "batch_per_pass=3")
    no_memory_in_step_4(monkeypatch, error)
    out, messages = tmp_path / "out", list[str]()
    with pytest.raises(StoppedError):
        train_tiny(tiny_folder, class_folder, out, "batch_per_pass=3")
    assert train_tiny(tiny_folder, class_folder, out, "batch_per_pass=1", say=messages.append).finished
    assert any("3 of 6 steps are done" in line for line in messages)
    whole, parts = (
        [line["loss"] for line in read_log(tmp_path / name / "training") if line["kind"] == "step"]
        for name in ("whole", "out")
    )
    assert parts == pytest.approx(whole, abs=1e-5)


def test_is_out_of_memory() -> None:
    assert all(map(is_out_of_memory, OUT_OF_MEMORY))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError(12, "Cannot allocate memory"))


# -- killed workers and signals


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is saved, and the resumed training has the same weights as an uninterrupted one."""
    train_tiny(tiny_folder, class_folder, tmp_path / "whole", "epochs=8")
    monkeypatch.setattr("torch.utils.data.dataloader._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    before = set(active_children())
    out = tmp_path / "out"

    def kill(report: Any) -> None:
        if report.step == 2:
            for child in set(active_children()) - before:
                os.kill(int(child.pid or 0), number)
                child.join()

    with pytest.raises(StoppedError, match=r"a process that reads videos was killed or crashed, .*The state after step "
                       r"\d+ is saved in .*workers=0 if it happens again"):  # fmt: skip
        train_tiny(tiny_folder, class_folder, out, "workers=1", "epochs=8", on_step=kill)
    assert train_tiny(tiny_folder, class_folder, out, "epochs=8").finished
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_sigterm_to_the_process_group(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    """Job schedulers send SIGTERM to the workers as well."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "openxclip.cli.main", "train", "my-videos", f"model={tiny_folder}",
               f"data={class_folder}", *PLAIN, "epochs=1000", "workers=2", "--out", str(out)]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stderr is not None
        log = out / "training/log.jsonl"
        while not (log.exists() and log.stat().st_size):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        messages = process.stderr.read()
        assert process.wait() != 0
    assert "run the same command to resume" in messages
    assert "Traceback" not in messages
    assert (out / "training/state.safetensors").exists()
    assert json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["kind"] == "step"


@pytest.mark.slow
def test_a_signal_within_a_step(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    """The step is finished and saved, and the next call reports from where it resumes."""
    out, messages = tmp_path / "out", []

    def stop(report: Any) -> None:
        if report.step == 1:
            signal.raise_signal(signal.SIGTERM)

    stopped = train_tiny(tiny_folder, class_folder, out, on_step=stop)
    assert (stopped.finished, stopped.steps, stopped.epoch) == (False, 2, None)
    done = train_tiny(tiny_folder, class_folder, out, say=messages.append)
    assert (done.finished, done.steps, done.epoch) == (True, 6, 2)
    assert f"resumes from the state in {out / 'training'}: 2 of 6 steps are done (0.67 of 2 epochs)" in messages


def test_pairs_cannot_resume_with_other_passes(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    """Pairs are contrasted within a pass, so the size of passes can't change when a training resumes."""
    lines = [{"path": str(path), "text": f"{path.parent.name} {path.stem}"} for path in class_folder.glob("*/*.mp4")]
    listed = tmp_path / "pairs.jsonl"
    listed.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    changes = ("loss=pairs", f"data={listed}")
    train_tiny(tiny_folder, class_folder, tmp_path / "out", *changes,
               on_step=lambda report: signal.raise_signal(signal.SIGTERM))  # fmt: skip
    with pytest.raises(TrainingError, match="batch_per_pass=1, was 4"):
        train_tiny(tiny_folder, class_folder, tmp_path / "out", *changes, "batch_per_pass=1")
