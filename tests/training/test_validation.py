"""Evaluation during training: the epoch whose weights are kept, early stopping, and reports."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from openxclip import OpenXCLIPError
from openxclip.evaluation.results import Results
from openxclip.recipes import RECIPES, read_recipe
from openxclip.recipes.recipe import RecipeError
from openxclip.training import EvalReport, job, train, validation
from openxclip.training.errors import StateError, TrainingError
from openxclip.training.log import read_log

PLAIN = ("flip=0", "jitter=0", "grey=0", "mixup=0", "cutmix=0", "workers=0", "warmup_epochs=0", "batch=6", "lr=1e-3",
         "precision=fp32", "hold_out=0.3", "eval_every=1")  # fmt: skip
ACCURACIES = [0.2, 0.6, 0.4, 0.6, 0.5, 0.7]


def train_tiny(tiny_folder: Path, class_folder: Path, out: Path, *changes: str, **options: Any) -> Any:
    arguments = {"say": lambda text: None, **options}
    return train("my-videos", f"model={tiny_folder}", f"data={class_folder}", *PLAIN, *changes, out=out, **arguments)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Make evaluations return `ACCURACIES` one after the other; return the list of the evaluated weights."""
    weights: list[dict[str, torch.Tensor]] = []
    plain, once = job.validate, list[Results]()

    def validate(setup: Any, model: Any, stop: Any) -> Any:
        if not once:
            once.append(plain(setup, model, stop))
        results = replace(once[0], metrics={**once[0].metrics, "top1": ACCURACIES[len(weights)]})
        weights.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return results

    monkeypatch.setattr(job, "validate", validate)
    return weights


def same(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("keep", "epoch"), [("last", 3), pytest.param("best", 2, marks=pytest.mark.slow)])
def test_keep_chooses_the_epoch(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, scored: list[dict[str, torch.Tensor]], keep: str, epoch: int
) -> None:
    reports: list[EvalReport] = []
    out = tmp_path / "out"
    done = train_tiny(tiny_folder, class_folder, out, "epochs=3", f"keep={keep}", on_eval=reports.append)
    assert done.epoch == epoch
    assert same(load_file(out / "model.safetensors"), scored[epoch - 1])
    assert not same(load_file(out / "model.safetensors"), scored[0])
    assert Results.load(out / "results.json").metrics["top1"] == ACCURACIES[epoch - 1]
    assert done.results.metrics["top1"] == ACCURACIES[epoch - 1]
    assert [(report.epoch, report.step, report.metric, report.value, report.is_best) for report in reports] == [
        (1, 0, "top1", 0.2, True), (2, 1, "top1", 0.6, True), (3, 2, "top1", 0.4, False)]  # fmt: skip
    assert "(the best top1 so far)" in str(reports[1])
    assert f"after epoch {epoch} of 3" in (out / "README.md").read_text(encoding="utf-8")
    assert not list((out / "training").glob("best*"))
    evals = [line for line in read_log(out / "training") if line["kind"] == "eval"]
    assert [line["top1"] for line in evals] == ACCURACIES[:3]


@pytest.mark.slow
def test_early_stopping(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, scored: list[dict[str, torch.Tensor]]
) -> None:
    """After 0.2, 0.6, 0.4 and 0.6, the last two evaluations were no better than 0.6."""
    messages: list[str] = []
    done = train_tiny(tiny_folder, class_folder, tmp_path / "out", "epochs=6", "keep=best", "patience=2",
                      say=messages.append)  # fmt: skip
    assert (done.finished, done.steps, done.epoch) == (True, 4, 2)
    assert any("ended after 4 of 6 epochs: 2 evaluations in a row were no better" in line for line in messages)
    assert same(load_file(tmp_path / "out/model.safetensors"), scored[1])


@pytest.mark.slow
def test_the_best_weights_survive_an_interruption(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, scored: list[dict[str, torch.Tensor]]
) -> None:
    out = tmp_path / "out"

    def stop(report: EvalReport) -> None:
        if report.epoch == 3:
            signal.raise_signal(signal.SIGTERM)

    stopped = train_tiny(tiny_folder, class_folder, out, "epochs=5", "keep=best", on_eval=stop)
    assert (stopped.finished, stopped.steps) == (False, 3)
    assert json.loads((out / "training/history.json").read_text(encoding="utf-8")) == {"1": 0.2, "2": 0.6, "3": 0.4}
    done = train_tiny(tiny_folder, class_folder, out, "epochs=5", "keep=best")
    assert (done.finished, done.epoch, len(scored)) == (True, 2, 5)
    assert same(load_file(out / "model.safetensors"), scored[1])


@pytest.mark.slow
def test_an_interrupted_evaluation_is_repeated_on_resume(
    tiny_folder: Path, class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plain = tmp_path / "out", validation.evaluate

    def interrupted(*arguments: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return plain(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "evaluate", interrupted)
        assert train_tiny(tiny_folder, class_folder, out, "epochs=3").steps == 1
    assert not (out / "training/history.json").exists()
    reports: list[EvalReport] = []
    assert train_tiny(tiny_folder, class_folder, out, "epochs=3", on_eval=reports.append).finished
    assert [report.epoch for report in reports] == [1, 2, 3]


def test_the_model_card_has_results_of_each_class(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    done = train_tiny(tiny_folder, class_folder, tmp_path / "out", "epochs=1")
    rows = [line for line in (tmp_path / "out/README.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    assert rows[0] == "| class | videos | right | recall | precision |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
    assert [row[0] for row in cells] == ["goes down", "goes right", "stays put"]
    assert [row[1] for row in cells] == ["1", "1", "1"]
    right = sum(int(row[2]) for row in cells)
    assert right == round(done.results.metrics["top1"] * 3)
    recall = done.results.metrics["class_accuracy"]
    assert [row[3] for row in cells] == [f"{100 * recall[row[0]]:.1f} %" for row in cells]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (("keep=best", "hold_out=0"), TrainingError, "keep=best: needs videos to evaluate on: give val_data="),
        (("patience=3", "hold_out=0"), TrainingError, "patience=3: needs videos to evaluate on"),
        (("metric=top5",), TrainingError, "metric=top5: is for more than 5 classes, and there are 3: use metric=top1"),
        (("keep=best", "eval_every=0"), RecipeError, "keep='best': needs evaluations before the end"),
        (("metric=text_to_video R@1",), RecipeError, "is for captions"),
        (("metric=top1", "loss=pairs"), RecipeError, "is for classes"),
        (("keep=first",), RecipeError, "keep='first'"),
        (("patience=0",), RecipeError, "patience=0"),
    ],
)
def test_invalid_keep_metric_and_patience_are_refused(
    tiny_folder: Path,
    class_folder: Path,
    tmp_path: Path,
    changes: tuple[str, ...],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message.replace("(", r"\(")):
        train_tiny(tiny_folder, class_folder, tmp_path / "out", *changes)
    assert not (tmp_path / "out").exists()


def test_an_unmeasured_metric_is_refused(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    """R@10 of three videos is always 1, so it isn't measured."""
    lines = [{"path": str(path), "text": f"{path.parent.name} {path.stem}"} for path in class_folder.glob("*/*.mp4")]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    changes = ("loss=pairs", f"data={tmp_path / 'pairs.jsonl'}", "epochs=1", "metric=text_to_video R@10")
    with pytest.raises(
        OpenXCLIPError, match=r"metric=text_to_video R@10: can.t be measured with so few validation videos"
    ):
        train_tiny(tiny_folder, class_folder, tmp_path / "out", *changes)


def test_a_damaged_history_is_refused(tiny_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train_tiny(tiny_folder, class_folder, out, "epochs=3", on_eval=lambda report: signal.raise_signal(signal.SIGTERM))
    (out / "training/history.json").write_text("[]", encoding="utf-8")
    with pytest.raises(StateError, match=r"history\.json: can't be read .*delete it to evaluate again"):
        train_tiny(tiny_folder, class_folder, out, "epochs=3")


def test_recipes_keep_the_last_epoch() -> None:
    assert {(read_recipe(name).keep, read_recipe(name).patience) for name in RECIPES} == {("last", None)}


@pytest.mark.slow
def test_tensorboard_curves(
    tmp_path: Path, tiny_folder: Path, class_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps and evaluations are written; a resumed training continues the curves at its step."""
    points: list[tuple[str, float, int]] = []
    resumed: list[int] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert Path(folder).name == "curves"
            resumed.append(purge_step)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            points.append((name, value, step))

        def close(self) -> None:
            points.append(("closed", 0, 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    out = tmp_path / "out"
    train_tiny(tiny_folder, class_folder, out, "epochs=2", on_step=lambda report: signal.raise_signal(signal.SIGTERM))
    train_tiny(tiny_folder, class_folder, out, "epochs=2")
    assert resumed == [0, 1]
    losses = [line["loss"] for line in read_log(out / "training") if line["kind"] == "step"]
    assert [point[1:] for point in points if point[0] == "step/loss"] == [(losses[0], 0), (losses[1], 1)]
    assert [step for name, _, step in points if name == "eval/top1"] == [0, 1]
    assert points[-1][0] == "closed"
