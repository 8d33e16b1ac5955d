"""`openxclip train` and `openxclip eval`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip.cli.train import _SHOWN_STEPS, _describe_means
from openxclip.training import StepReport

Run = Callable[..., Any]


def a_class_folder(root: Path, clip_folder: Path) -> Path:
    for name in ("reds", "blues"):
        (root / name).mkdir(parents=True)
    for i in range(2):
        (root / "reds" / f"{i}.mp4").write_bytes((clip_folder / ("red2.mp4", "red10.mp4")[i]).read_bytes())
        (root / "blues" / f"{i}.mp4").write_bytes((clip_folder / "more/blue.mp4").read_bytes() + b"\0" * i)
    return root


@pytest.mark.slow
def test_train_then_eval_then_compare(run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    data = a_class_folder(tmp_path / "my clips", clip_folder)
    common = ("my-videos", f"model={tiny_folder}", f"data={data}", "hold_out=0")
    dry = run("train", *common, "--dry-run")
    assert "4 clips of 2 classes" in dry.stdout
    assert "\\n" not in dry.stdout
    assert not dry.stderr
    done = run("train", *common, "epochs=2", "warmup_epochs=0", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "wrote the model, its card and its results" in done.stdout
    assert "2 epochs of 1 steps" in done.stderr
    for name in ("a", "b"):
        judged = run("eval", *common, "--model", tmp_path / "out", "--out", tmp_path / name)
        assert judged.returncode == 0, judged.stderr
        assert "top1" in judged.stdout
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"results.json", "confusion.csv", "confusion.png", "reliability.png"}
    compared = run("eval", "--compare", tmp_path / "a/results.json", tmp_path / "b/results.json")
    assert compared.returncode == 0, compared.stderr
    assert "0.0" in compared.stdout
    over = run(
        "eval", *common[:3], "hold_out=0.5", "--model", tmp_path / "out", "--over", "seed=0,1", "--out", tmp_path / "o"
    )
    assert over.returncode == 0, over.stderr
    assert "mean ± standard deviation over 2: top1" in over.stdout
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"seed=0", "seed=1", "summary.json"}
    again = run("train", *common, "epochs=2", "warmup_epochs=0", "--out", tmp_path / "out")
    assert again.returncode == 1
    assert "this training is finished" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("my-video", "data=x"),
            "recipe 'my-video': must be few-shot, kinetics, my-videos, zero-shot, or a .yaml file",
        ),
        (("my-videos", "data=nowhere", "--dry-run"), "nowhere: there is no such file or folder"),
        (("my-videos", "--dry-run"), "the recipe names no data: give data="),
        (("my-videos", "epoch=3", "--dry-run"), "epoch=3: epoch is unknown: did you mean epochs?"),
        (("my-videos", "data=x"), "--out is missing"),
    ],
)
def test_mistakes_print_one_line(run: Run, arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    out = () if "--dry-run" in arguments or "--out" in said else ("--out", tmp_path / "out")
    done = run("train", *arguments, *out)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_eval_needs_a_model(run: Run) -> None:
    assert "give a recipe and --model" in run("eval", "my-videos").stderr
    missing = run("eval", "--compare", "a.json", "b.json")
    assert missing.returncode == 1
    assert "a.json: there is no such file" in missing.stderr


def test_a_training_that_diverges_prints_one_line(
    run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    data = a_class_folder(tmp_path / "clips", clip_folder)
    changes = ("hold_out=0", "warmup_epochs=0", "workers=0", "jitter=0", "lr=1e30")
    done = run("train", "my-videos", f"model={tiny_folder}", f"data={data}", *changes, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.count("diverged") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/config.json").exists()


def test_the_shown_loss_is_the_mean_of_the_last_steps() -> None:
    """The last 20 steps, or all if there are fewer; their number is shown."""
    last: deque[StepReport] = deque(maxlen=_SHOWN_STEPS)
    shown = []
    for i in range(30):
        last.append(StepReport(i, 100, 0, float(i), 1e-5, 8, 2.0, 0.5))
        shown.append(_describe_means(last))
    assert shown[0] == "loss 0.000 over 1 step, lr 1.0e-05, 4.0 clips/s, 25 % waiting for data"
    assert shown[2].startswith("loss 1.000 over 3 steps,")
    assert shown[29].startswith(f"loss {sum(range(10, 30)) / 20:.3f} over 20 steps,")


def test_hidden_and_missing_in_a_dry_run(run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    data = a_class_folder(tmp_path / "clips", clip_folder)
    (data / "reds/0.mp4").rename(data / "reds/.0.mp4")
    arguments = ("train", "my-videos", f"model={tiny_folder}", f"data={data}", "hold_out=0", "jitter=0", "--dry-run")
    plain, hidden = run(*arguments), run(*arguments, "--hidden")
    assert "3 clips of 2 classes" in plain.stdout
    assert "left out 1 hidden file or folder (--hidden or hidden=true includes them): reds/.0.mp4" in plain.stdout
    assert "4 clips of 2 classes" in hidden.stdout
    assert "left out" not in hidden.stdout


def test_eval_counts_what_is_missing_and_unreadable(
    run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    """Ten of each are named, and the rest counted; the share that is missing stands beside the accuracy."""
    lines = [f"{clip_folder / 'red2.mp4'} red", f"{clip_folder / 'more/blue.mp4'} blue"]
    lines += [f"{tmp_path / f'gone{i}.mp4'} red" for i in range(12)]
    for i in range(11):
        (tmp_path / f"broken{i}.mp4").write_bytes(b"no video")
        lines.append(f"{tmp_path / f'broken{i}.mp4'} blue")
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(lines), encoding="utf-8")
    done = run("eval", "my-videos", f"data={listed}", "hold_out=0", "--model", tiny_folder)
    assert done.returncode == 0, done.stderr
    assert "; 12 of 25 videos are missing (48.0 %)" in done.stdout
    assert sum("gone" in line for line in done.stderr.splitlines()) == 10
    assert done.stderr.count("could not be read: ") == 10
    assert "and 1 more: --out writes all to results.json" in done.stderr


def test_train_names_ten_unreadable_videos(run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    data = a_class_folder(tmp_path / "clips", clip_folder)
    for i in range(14):
        (data / f"reds/broken{i}.mp4").write_bytes(b"no video")
    changes = ("hold_out=0", "warmup_epochs=0", "epochs=1", "workers=0", "jitter=0", "batch=18")
    done = run("train", "my-videos", f"model={tiny_folder}", f"data={data}", *changes, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("could not be read and was skipped: ") == 10
    assert "and 4 more: " in done.stderr
    assert "training/log.jsonl lists all" in done.stderr
