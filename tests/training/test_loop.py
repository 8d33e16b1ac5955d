"""The training loop: its arithmetic, its independence of passes, workers and processes, and resuming."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from openxclip import VideoPipeline, XCLIPModel, XCLIPProcessor
from openxclip.datasets import Dataset, open_dataset
from openxclip.evaluation.results import Results
from openxclip.recipes import Recipe, read_recipe
from openxclip.training import plan_training, train
from openxclip.training.batches import Batches, ClipKey, seeded_generator
from openxclip.training.distributed import Processes
from openxclip.training.errors import NothingReadError, TrainingError
from openxclip.training.loading import Pass, TrainClips, make_loader
from openxclip.training.log import read_log
from openxclip.training.loop import LoopResult, TrainingLoop
from openxclip.training.setup import Setup

ALONE = Processes(0, 1, torch.device("cpu"))
PLAIN = ("flip=0", "jitter=0", "grey=0", "mixup=0", "cutmix=0", "workers=0", "hold_out=0", "warmup_epochs=0",
         "epochs=1", "lr=1e-3", "eval_every=0", "precision=fp32")  # fmt: skip


def recipe(tiny_folder: Path, *changes: str) -> Recipe:
    return read_recipe("my-videos", [f"model={tiny_folder}", *PLAIN, *changes])


def setup_of(recipe: Recipe, dataset: Dataset) -> Setup:
    model, processor = XCLIPModel.from_pretrained(recipe.model), XCLIPProcessor.from_pretrained(recipe.model)
    return Setup(recipe, model, processor, dataset, None, ALONE)


def trained(recipe: Recipe, class_folder: Path, folder: Path, dataset: Dataset | None = None) -> LoopResult:
    torch.manual_seed(0)
    return TrainingLoop(setup_of(recipe, dataset or open_dataset(class_folder)), folder).run()


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_log(folder) if line["kind"] == "step"]


def plain_step(recipe: Recipe, class_folder: Path) -> tuple[float, dict[str, Tensor]]:
    """Compute the loss and gradients of a step in plain PyTorch, with all clips in one pass."""
    dataset = open_dataset(class_folder)
    model = XCLIPModel.from_pretrained(recipe.model).train()
    processor = XCLIPProcessor.from_pretrained(recipe.model)
    clips = TrainClips(dataset.samples, num_frames=4, size=32, crop_scales=recipe.augment.crop_scales,
                       seed=recipe.seed, steps_per_epoch=1)  # fmt: skip
    order = range(len(dataset.samples))
    videos = torch.stack([clips[ClipKey(i, 0, 0, True)][1] for i in order]).float() / 255  # type: ignore[misc]
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (processor.image_processor.image_mean, processor.image_processor.image_std)
    )
    tokens = processor(text=list(dataset.classes), return_tensors="pt", padding=True)
    with torch.no_grad():
        text = model.get_text_features(**tokens)
    logits = model(text_features=text, pixel_values=(videos - mean) / std).logits_per_video
    labels = torch.tensor([sample.label for sample in dataset.samples])
    loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("per_pass", [9, 4, 1])
def test_a_step_matches_plain_pytorch(tiny_folder: Path, class_folder: Path, tmp_path: Path, per_pass: int) -> None:
    """Compare loss and gradients of nine clips in one or several passes. (AdamW's first moment is a tenth of them.)"""
    settings = recipe(tiny_folder, "batch=9", f"batch_per_pass={per_pass}")
    trained(settings, class_folder, tmp_path)
    loss, gradients = plain_step(settings, class_folder)
    assert losses(tmp_path) == pytest.approx([loss], abs=1e-5)
    state = load_file(tmp_path / "state.safetensors")
    compared = 0
    for name, gradient in gradients.items():
        if name.startswith("text_") or name == "logit_scale":
            continue
        moment = state[f"optimizer.{name}:exp_avg"]
        assert (moment / (1 - 0.9) - gradient).abs().max() <= 1e-5 * max(1.0, float(gradient.abs().max())), name
        compared += 1
    assert compared > 50
    assert not any(name.startswith("model.text_") for name in state)


def test_every_sample_is_used_once_per_epoch() -> None:
    for world in (1, 2, 3):
        seen: list[int] = []
        counts = []
        for rank in range(world):
            batches = Batches(23, batch=8, batch_per_pass=3, seed=5, rank=rank, world=world)
            assert batches.steps_per_epoch == 3
            mine = list(batches.keys(3, 6))
            counts.append(len(mine))
            seen += [key.sample for keys in mine for key in keys if key.is_counted]
        assert sorted(seen) == list(range(23))
        assert len(set(counts)) == 1
    first, second = (Batches(23, 23, 23, 5).passes(epoch)[0] for epoch in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)


def test_sample_order_is_drawn_once_per_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is the same as if each step drew the permutation of its epoch."""

    def passes(batches: Batches, step: int) -> list[list[int]]:
        epoch, within = divmod(step, batches.steps_per_epoch)
        order = torch.randperm(batches.num_samples, generator=seeded_generator(batches.seed, epoch)).tolist()
        chosen = order[within * batches.batch : (within + 1) * batches.batch]
        return [chosen[i : i + batches.batch_per_pass] for i in range(0, len(chosen), batches.batch_per_pass)]

    for samples, batch, seed in ((1, 1, 0), (23, 8, 5), (100, 7, 1), (100, 7, 2), (1000, 256, 2**31 - 1)):
        batches = Batches(samples, batch, 3, seed)
        for step in (*range(3 * batches.steps_per_epoch), 0):
            assert batches.passes(step) == passes(batches, step)
    drawn: list[int] = []
    permutation = torch.randperm
    monkeypatch.setattr(
        torch, "randperm", lambda number, **options: drawn.append(number) or permutation(number, **options)
    )
    assert len(list(Batches(999, 10, 5, seed=3).keys(50, 250))) == 200 * 2
    assert drawn == [999, 999, 999]


def test_clips_do_not_depend_on_workers(class_folder: Path) -> None:
    dataset = open_dataset(class_folder)
    batches = Batches(len(dataset.samples), 4, 2, seed=0)

    def all_of(workers: int, first: int) -> list[Pass]:
        clips = TrainClips(dataset.samples, num_frames=4, size=32, crop_scales=(1, 0.66), seed=0, steps_per_epoch=3)
        return list(make_loader(clips, batches, first=first, last=6, workers=workers, pin=False))

    alone, shared, later = all_of(0, 0), all_of(2, 0), all_of(0, 4)
    assert len(alone) == len(shared)
    for expected, read in zip(alone, shared, strict=True):
        assert expected.samples == read.samples
        assert torch.equal(expected.clips, read.clips)
    for expected, read in zip(alone[-len(later) :], later, strict=True):
        assert (expected.step, expected.samples) == (read.step, read.samples)
        assert torch.equal(expected.clips, read.clips)
    epochs: list[dict[int, Tensor]] = [{}, {}]
    for part in alone:
        epochs[part.step // 3].update(zip(part.samples, part.clips, strict=True))
    assert epochs[0].keys() == epochs[1].keys() == set(range(9))
    assert any(not torch.equal(epochs[0][i], epochs[1][i]) for i in range(9))  # another epoch has other crops


def test_a_seeded_generator_depends_on_every_number() -> None:
    drawn = {
        int(torch.randint(2**60, (), generator=seeded_generator(*n))) for n in ((1, 2, 3), (1, 3, 2), (1, 2), (1, 2, 4))
    }
    assert len(drawn) == 4


@pytest.mark.slow
def test_unreadable_videos_are_skipped_and_logged(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(class_folder, tmp_path / "classes")
    (folder / "goes_down" / "0.mp4").write_bytes(b"no video")
    settings = recipe(tiny_folder, "batch=9", "batch_per_pass=3")
    result = trained(settings, folder, tmp_path / "run")
    assert list(result.unreadable) == [str(folder / "goes_down" / "0.mp4")]
    log = read_log(tmp_path / "run")
    assert [line["clips"] for line in log if line["kind"] == "step"] == [8]
    assert [Path(line["path"]).name for line in log if line["kind"] == "unreadable"] == ["0.mp4"]
    # the mean is over the videos that were read, as if the file were missing
    (folder / "goes_down" / "0.mp4").unlink()
    without = open_dataset(folder)
    loss = sum(_loss_of(settings, without, i) for i in range(8)) / 8
    drawn_alike = losses(tmp_path / "run")[0]
    assert abs(loss - drawn_alike) < 1.0  # crops differ, since indices do; but the mean is not over nine
    for path in folder.glob("*/*.mp4"):
        path.write_bytes(b"no video")
    with pytest.raises(NothingReadError, match="none of the 8 videos can be read"):
        trained(settings, folder, tmp_path / "nothing")


def _loss_of(settings: Recipe, dataset: Dataset, number: int) -> float:
    model, processor = XCLIPModel.from_pretrained(settings.model), XCLIPProcessor.from_pretrained(settings.model)
    clips = TrainClips(dataset.samples, num_frames=4, size=32, crop_scales=(1.0,), seed=0, steps_per_epoch=1)
    pixels = processor(videos=[list(clips[ClipKey(number, 0, 0, True)][1].numpy())], return_tensors="pt").pixel_values  # type: ignore[union-attr]
    tokens = processor(text=list(dataset.classes), return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model(**tokens, pixel_values=pixels).logits_per_video
    return F.cross_entropy(logits, torch.tensor([dataset.samples[number].label]), label_smoothing=0.1).item()


@pytest.mark.parametrize(
    "changes",
    [("precision=bf16", "towers=both"),
     *(pytest.param(changes, marks=pytest.mark.slow) for changes in (
         ("jitter=1", "grey=0.5", "flip=0.5", "mixup=0.8", "cutmix=1"),
         ("precision=bf16",), ("precision=fp16",), ("ema=0.5",), ("clip_grad=0.1",), ("towers=both",),
         ("towers=none", "drop_path=0.5"), ("checkpoint_gradients=true",)))],
)  # fmt: skip
def test_variants_learn_and_resume_to_the_bit(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    """Stop after the first epoch and resume: losses and weights are those of an uninterrupted training."""
    settings = recipe(tiny_folder, "batch=4", "epochs=3", "eval_every=1", *changes)
    whole = trained(settings, class_folder, tmp_path / "whole")
    folder = tmp_path / "parts"

    class _EnoughError(Exception):
        pass

    def stop(epoch: int, *_: Any) -> None:
        raise _EnoughError

    with pytest.raises(_EnoughError):
        TrainingLoop(setup_of(settings, open_dataset(class_folder)), folder, on_epoch=stop).run()
    parts = trained(settings, class_folder, folder)
    assert losses(folder) == losses(tmp_path / "whole")
    assert len(losses(folder)) == 9
    for (name, expected), resumed in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(expected, resumed), name
    start = XCLIPModel.from_pretrained(settings.model)
    moved = {name for (name, p), q in zip(start.named_parameters(), whole.model.parameters(), strict=True)
             if not torch.equal(p, q)}  # fmt: skip
    assert any(name.startswith("mit.") for name in moved)
    assert any(name.startswith("text_") for name in moved) == ("towers=both" in changes)
    assert "vision_model.post_layernorm.weight" in moved or "towers=none" in changes


@pytest.mark.slow
def test_pairs_are_learnt(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    lines = [
        {"path": str(path), "text": f"it {path.parent.name} {path.stem}"}
        for path in sorted(class_folder.glob("*/*.mp4"))
    ]
    listed = tmp_path / "pairs.jsonl"
    listed.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    settings = recipe(
        tiny_folder, "loss=pairs", "towers=both", "batch=9", "batch_per_pass=9", "epochs=12", "label_smoothing=0"
    )
    trained(settings, class_folder, tmp_path / "run", open_dataset(listed))
    first, *_, last = losses(tmp_path / "run")
    assert last < first - 0.2


# -- complete trainings


def test_train_writes_a_model_folder(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    changes = [f"model={tiny_folder}", f"data={class_folder}", *PLAIN, "hold_out=0.3", "epochs=2", "eval_every=1"]
    messages: list[str] = []
    result = train("my-videos", *changes, out=tmp_path / "out", say=messages.append)
    assert result.finished
    assert result.results is not None
    assert len(result.results.predictions) == 3  # one of each class was held out
    assert "6 clips of 3 classes" in messages[0]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "README.md", "results.json", "training"} <= names
    assert not (tmp_path / "out/training/state.safetensors").exists()
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "goes down, goes right, stays put" in card
    assert Results.load(tmp_path / "out/results.json").metrics == result.results.metrics
    pipeline = VideoPipeline.from_pretrained(tmp_path / "out")
    assert pipeline.model.config.vision_config.num_frames == 4
    pipeline.close()
    with pytest.raises(TrainingError, match="this training is finished"):
        train("my-videos", *changes, out=tmp_path / "out")
    with pytest.raises(TrainingError, match=r"a different training was started there \(lr=0.5, was 0.001\)"):
        train("my-videos", *changes, "lr=0.5", out=tmp_path / "out")
    with pytest.raises(TrainingError, match="exists already, and is not the folder of a training"):
        train("my-videos", *changes, out=tiny_folder)


@pytest.mark.parametrize(
    "setting",
    [
        lambda: torch.device("meta"),
        pytest.param(torch.inference_mode, marks=pytest.mark.slow),
        pytest.param(torch.no_grad, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_pytorch_global_settings_do_not_matter(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, setting: Callable[[], AbstractContextManager[object]]
) -> None:
    changes = [f"model={tiny_folder}", f"data={class_folder}", *PLAIN]
    with setting():
        result = train("my-videos", *changes, out=tmp_path / "changed", say=lambda line: None)
    train("my-videos", *changes, out=tmp_path / "plain", say=lambda line: None)
    assert result.finished
    assert losses(tmp_path / "changed/training") == losses(tmp_path / "plain/training") != []


@pytest.mark.slow
def test_resume_after_the_last_step(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a training is killed after its last step, the same call evaluates and writes the model."""
    changes = [f"model={tiny_folder}", f"data={class_folder}", *PLAIN, "hold_out=0.3", "eval_every=1"]

    class _KilledError(Exception):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise _KilledError

    with monkeypatch.context() as patch:
        patch.setattr("openxclip.training.job.validate", killed)
        with pytest.raises(_KilledError):
            train("my-videos", *changes, out=tmp_path / "out", say=lambda text: None)
    assert not (tmp_path / "out/config.json").exists()
    result = train("my-videos", *changes, out=tmp_path / "out", say=lambda text: None)
    assert result.finished
    assert result.results is not None
    assert (tmp_path / "out/results.json").exists()


def test_plan(tiny_folder: Path, class_folder: Path) -> None:
    plan = plan_training("my-videos", f"model={tiny_folder}", f"data={class_folder}", "hold_out=0.3", "batch=4")
    assert (plan.clips, plan.val_clips, plan.classes, plan.steps_per_epoch) == (6, 3, 3, 2)
    model = XCLIPModel.from_pretrained(tiny_folder)
    assert plan.trained + plan.frozen == model.num_parameters()
    assert "messages, MIT, prompts, with weight decay" in str(plan)


def test_estimated_memory_of_each_key(tiny_folder: Path, class_folder: Path) -> None:
    """Each key adds the expected bytes; Python and its libraries need the same for all."""

    def memory(*changes: str) -> int:
        common = (f"model={tiny_folder}", f"data={class_folder}", "hold_out=0", "jitter=0", "batch_per_pass=2")
        return plan_training("my-videos", *common, *changes).memory

    model = XCLIPModel.from_pretrained(tiny_folder)
    vision, tokens = model.config.vision_config, 2 * 4 * (4 * 4 + 2)
    plain, slack = memory(), 8 * 2**20  # the memory of the process itself may grow meanwhile
    wider = memory("batch_per_pass=2002")
    per_clip = (
        4 * 16 * (tokens // 2 * vision.hidden_size * vision.num_hidden_layers + 3 * 16 * model.config.prompt_layers)
    )
    assert wider - plain == pytest.approx(2000 * per_clip, abs=slack)
    checkpointed = memory("batch_per_pass=2002", "checkpoint_gradients=true")
    kept = (
        2000 * 4 * (tokens // 2) * vision.hidden_size * (16 * vision.num_hidden_layers - vision.num_hidden_layers - 16)
    )
    assert wider - checkpointed == pytest.approx(kept, abs=slack)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "mini"])
def test_estimated_memory_is_what_is_used(tiny_folder: Path, class_folder: Path, tmp_path: Path, name: str) -> None:
    """The peak memory of a training, as the system counts it, is within 20 % of its plan."""
    program = """
import sys
from openxclip.training import plan_training, train
planned = plan_training("my-videos", *sys.argv[2:]).memory
train("my-videos", *sys.argv[2:], out=sys.argv[1], say=lambda text: None)
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(planned, int(line.split()[1]) * 1024)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux reports the peak memory")
    model = "mini" if name == "mini" else tiny_folder
    changes = (f"model={model}", f"data={class_folder}", "epochs=1", "warmup_epochs=0", "workers=1")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "out"), *changes],
                          capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=True)  # fmt: skip
    planned, used = map(int, done.stdout.split())
    assert planned == pytest.approx(used, rel=0.2)


COMMAND = [sys.executable, "-m", "openxclip.cli.main"]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def arguments(tiny_folder: Path, class_folder: Path, out: Path, *changes: str) -> list[str]:
    return ["train", "my-videos", f"model={tiny_folder}", f"data={class_folder}", *PLAIN, "batch=4",
            "batch_per_pass=2", *changes, "--out", str(out)]  # fmt: skip


def finished(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
def test_resume_after_kills_at_random_moments(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    changes = ("epochs=40", "save_every=0.0001", "workers=1", "mixup=0.8", "jitter=0.8")
    finished([*COMMAND, *arguments(tiny_folder, class_folder, tmp_path / "whole", *changes)])
    command = [*COMMAND, *arguments(tiny_folder, class_folder, tmp_path / "killed", *changes)]
    log = tmp_path / "killed/training/log.jsonl"
    draw = random.Random(3)
    killed = 0
    for _ in range(3):
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        ) as process:
            size = log.stat().st_size if log.exists() else 0
            deadline = time.monotonic() + 120
            while process.poll() is None and (not log.exists() or log.stat().st_size <= size):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(draw.uniform(0.0, 0.6))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
    assert killed >= 2  # the last process may have finished before the signal
    if not (tmp_path / "killed/config.json").exists():
        finished(command)
    assert losses(log.parent) == losses(tmp_path / "whole/training")
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_the_command(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """SIGTERM goes to the main process only, Ctrl-C to its workers as well."""
    out = tmp_path / "out"
    command = [*COMMAND, *arguments(tiny_folder, class_folder, out, "epochs=1000", "workers=1")]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, start_new_session=True
    ) as process:
        assert process.stderr is not None
        while not ((out / "training/log.jsonl").exists() and losses(out / "training")):
            assert process.poll() is None
            time.sleep(0.05)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        messages = process.stderr.read()
        assert process.wait() != 0
    assert "run the same command to resume" in messages
    assert "Traceback" not in messages
    assert (out / "training/state.safetensors").exists()
    assert not list((out / "training").glob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_match_one(tiny_folder: Path, class_folder: Path, tmp_path: Path, sharded: bool) -> None:
    changes = ("hold_out=0.3", "epochs=2", "eval_every=1", "mixup=0.8", "cutmix=1", "jitter=0.5", "batch=5")
    alone = arguments(tiny_folder, class_folder, tmp_path / "alone", *changes)
    together = arguments(tiny_folder, class_folder, tmp_path / "together", *changes, f"sharded={str(sharded).lower()}")
    finished([*COMMAND, *alone])
    finished([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
              "-m", "openxclip.cli.main", *together])  # fmt: skip
    one, two = losses(tmp_path / "alone/training"), losses(tmp_path / "together/training")
    assert len(one) == 4
    assert two == pytest.approx(one, abs=1e-5)
    results = [Results.load(tmp_path / name / "results.json") for name in ("alone", "together")]
    assert [len(result.predictions) for result in results] == [3, 3]
    assert results[0].metrics["top1"] == results[1].metrics["top1"]
    for ours, theirs in zip(results[0].predictions, results[1].predictions, strict=True):
        assert ours.sample == theirs.sample
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_pairs_in_two_processes_match_one(tiny_folder: Path, class_folder: Path, tmp_path: Path, sharded: bool) -> None:
    """One process takes five pairs in a pass; two processes take three and two, and contrast them together."""
    lines = [
        {"path": str(path), "text": f"it {path.parent.name} {path.stem}"}
        for path in sorted(class_folder.glob("*/*.mp4"))
    ]
    listed = tmp_path / "pairs.jsonl"
    listed.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    changes = ("loss=pairs", "towers=both", "epochs=2", "batch=5", f"data={listed}")
    alone = arguments(tiny_folder, class_folder, tmp_path / "alone", *changes, "batch_per_pass=5")
    together = arguments(tiny_folder, class_folder, tmp_path / "together", *changes, "batch_per_pass=3",
                         f"sharded={str(sharded).lower()}")  # fmt: skip
    finished([*COMMAND, *alone])
    finished([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
              "-m", "openxclip.cli.main", *together])  # fmt: skip
    one, two = losses(tmp_path / "alone/training"), losses(tmp_path / "together/training")
    assert len(one) == 4
    assert two == pytest.approx(one, abs=1e-5)


@pytest.mark.slow
def test_train_from_a_clip_checkpoint(class_folder: Path, tmp_path: Path) -> None:
    """A CLIP of Hugging Face gets random messages, MIT and prompts by the recipe's seed, and the recipe's frames."""
    import transformers

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 49408, "eos_token_id": 49407},
        vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=64,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(tmp_path / "clip")
    for name in ("vocab.json", "merges.txt"):
        assert not (tmp_path / "clip" / name).exists()  # so the tokenizer of this package is used
    changes = (f"data={class_folder}", *PLAIN, "frames=5", "seed=3")
    result = train("my-videos", f"model={tmp_path / 'clip'}", *changes, out=tmp_path / "out", say=lambda text: None)
    assert result.finished
    model = XCLIPModel.from_pretrained(tmp_path / "out")
    assert model.config.vision_config.num_frames == 5
    start = XCLIPModel.from_clip(tmp_path / "clip", num_frames=5, seed=3)
    assert torch.equal(model.text_projection.weight, start.text_projection.weight)
    assert not torch.equal(model.mit.position_embedding, start.mit.position_embedding)
    assert (model.mit.position_embedding - start.mit.position_embedding).abs().max() < 0.1
