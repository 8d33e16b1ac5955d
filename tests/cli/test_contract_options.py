"""What the verbs take from the model's contract of time, and say about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from made_contracts import with_contract

from openxclip import VideoIndex

Run = Callable[..., Any]


def test_embed_takes_the_windows_of_the_model(run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    model = with_contract(tiny_folder, tmp_path / "model", {"window": 0.5, "stride": 0.25})
    how = ("embed", clip_folder / "red2.mp4", "--device", "cpu", "--out", tmp_path / "f.npz", "--window", "auto")
    done = run(*how, "--model", model)
    assert done.returncode == 0, done.stderr
    assert "3 rows of 16 numbers from 1 video" in done.stdout
    refused = run(*how, "--model", tiny_folder, "--force")
    assert refused.returncode == 2
    said = f"--window auto: {tiny_folder} states no window in its contract of time: say how many seconds a window lasts"
    assert said in " ".join(refused.stderr.split())
    both = run(*how, "--model", model, "--clips", 2)
    assert (both.returncode, "not both" in both.stderr) == (2, True)


def test_index_and_search(run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    model = with_contract(tiny_folder, tmp_path / "model", {"window": 0.5, "threshold": 1.0})
    device = ("--device", "cpu")
    done = run("index", clip_folder / "red2.mp4", "--to", tmp_path / "index", "--model", model, *device)
    assert done.returncode == 0, done.stderr
    assert "1 video, 3 windows" in done.stdout
    info = VideoIndex.open(tmp_path / "index").info
    assert info is not None
    assert (info.window, info.stride) == (0.5, 0.25)
    searched = run("search", "a wall", "--in", tmp_path / "index", *device)
    assert searched.stdout
    above = run("search", "a wall", "--in", tmp_path / "index", "--min-score", "auto", *device)
    assert (above.returncode, above.stdout) == (0, "")
    wrong = run("search", "a wall", "--in", tmp_path / "index", "--min-score", "high", *device)
    assert (wrong.returncode, "'high'" in wrong.stderr) == (2, True)


def test_classify_takes_the_threshold_of_the_model(
    run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    how = ("classify", clip_folder / "red2.mp4", "--labels", "a wall, the sea", "--device", "cpu", "--json")
    outcomes = []
    for threshold in (0.0, 1.0):
        model = with_contract(tiny_folder, tmp_path / f"model{threshold:g}", {"threshold": threshold})
        outcomes.append(json.loads(run(*how, "--model", model).stdout)["outcome"])
    assert outcomes[0] in ("a wall", "the sea")
    assert outcomes[1] == "none of these"


@pytest.mark.parametrize("verb", ["classify", "embed", "index", "train"])
def test_an_invalid_contract_is_one_line(
    verb: str, run: Run, tiny_folder: Path, clip_folder: Path, class_folder: Path, tmp_path: Path
) -> None:
    model, out = with_contract(tiny_folder, tmp_path / "model", {"window": "2 s"}), tmp_path / "out.npz"
    options: dict[str, tuple[object, ...]] = {
        "classify": (clip_folder, "--labels", "a", "--model", model),
        "embed": (clip_folder, "--window", "auto", "--out", out, "--model", model),
        "index": (clip_folder, "--to", out, "--model", model),
        "train": ("my-videos", f"model={model}", f"data={class_folder}", "--out", out),
    }
    done = run(verb, *options[verb])
    assert done.returncode == 1
    said = f"openxclip: {model}: config.json: openxclip: window='2 s': must be a number of seconds, 0.001 or more."
    assert done.stderr.splitlines()[-1] == said
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_info_shows_a_line(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    own = {"threshold": 0.8, "false_alarms_per_hour": 1}
    contract = {"window": 3, "frames": 4, "threshold": 0.4, "labels": {"a": own, "b": own}}
    model = with_contract(tiny_folder, tmp_path / "model", contract)
    shown = " ".join(click.unstyle(run("info", model, columns=120).stdout).split())
    assert "moments windows of 3 s of 4 frames, one every 1.5 s; threshold 0.4; thresholds for 2 labels" in shown
    assert "moments" not in run("info", tiny_folder, columns=120).stdout
