"""`openxclip eval timeline`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """ActivityNet's form, for the videos of `clip_folder` and one that is missing."""
    database = {
        name: {"subset": "validation", "duration": 1.0, "annotations": [{"label": label, "segment": [0.1, 0.9]}]}
        for name, label in (("red2", "red"), ("blue", "blue"), ("gone", "red"))
    }
    path = tmp_path / "val.json"
    path.write_text(json.dumps({"database": database}))
    return path


def test_a_model_is_measured(run: Run, annotations: Path, clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("a horse\n\na boat\nred\n")
    model = ("--model", tiny_folder, "--device", "cpu", "--window", "0.5", "--threshold", "0")
    ran = run("eval", "timeline", annotations, "--videos", clip_folder, *model, "--absent", tmp_path / "more.txt",
              "--out", tmp_path / "out")  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    for shown in ("2 videos, annotated as by ActivityNet", "mAP@0.5", "F1@0.5", "R1@0.7", "frame mAP", "false alarms"):
        assert shown in ran.stdout
    assert "HIT@1" not in ran.stdout, "nothing is rated"
    assert "1 of 3 videos is missing and not counted: gone." in ran.stderr
    assert "--absent: 'red' happens in 2 videos, where it isn't counted as absent." in ran.stderr
    saved = json.loads((tmp_path / "out/results.json").read_text())
    assert set(saved["labels"]) == {"red", "blue", "a horse", "a boat"}
    assert saved["settings"]["window"] == 0.5
    assert saved["metrics"]["recall@0.5"] == 1, "at a threshold of 0 all labels are always there"
    assert saved["metrics"]["precision@0.5"] == pytest.approx(2 / 8)
    assert saved["counts"]["queries"] == 2


def test_timelines_of_a_file_are_measured(
    run: Run, annotations: Path, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    model = ("--model", tiny_folder, "--device", "cpu", "--window", "0.5", "--threshold", "0")
    found = run("timeline", clip_folder, "--labels", "red,blue", *model, "--json", "--scores")
    (tmp_path / "found.jsonl").write_text(found.stdout)
    ran = run("eval", "-q", "timeline", annotations, "--predictions", tmp_path / "found.jsonl")
    assert ran.returncode == 0, ran.stderr
    direct = run("eval", "timeline", "-q", annotations, "--videos", clip_folder, *model)
    assert ran.stdout == direct.stdout
    assert "frame mAP" in ran.stdout
    refused = run("eval", "timeline", annotations, "--predictions", tmp_path / "found.jsonl", "--stop", "0.1")
    assert refused.stderr.splitlines()[-1] == (
        "Error: --stop doesn't go with --predictions, which has the segments already."
    )


def test_videos_that_cannot_be_read(
    run: Run, annotations: Path, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/blue.mp4").write_bytes(b"nothing")
    (tmp_path / "videos/red2.mp4").write_bytes((clip_folder / "red2.mp4").read_bytes())
    model = ("--model", tiny_folder, "--device", "cpu", "--window", "0.5")
    ran = run("eval", "timeline", annotations, "--videos", tmp_path / "videos", *model, "--out", tmp_path / "out")
    assert ran.returncode == 1
    assert "openxclip: blue: " in ran.stderr
    assert "1 video, annotated" in ran.stdout
    assert set(json.loads((tmp_path / "out/results.json").read_text())["errors"]) == {"blue"}


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("{path}", "--videos", "{path}/nowhere"), 1, "there is no such folder of videos"),
        (("{folder}/none.json",), 1, "there is no such file"),
        (("{path}", "--videos", "{folder}/empty"), 1, "there are no videos in this folder"),
        (("{path}", "--videos", "{folder}/other"), 1, "has none of the 3 videos of the annotations"),
        (("{path}", "--subset", "train"), 1, "has no annotated moments: its subsets are validation"),
        (("{path}", "--videos", "{clips}", "--stop", "0.9", "--threshold", "0.5"), 2, "--stop 0.9: must not be above"),
        ((), 2, "Missing argument 'ANNOTATIONS...'"),
        (("{path}", "--predictions", "{folder}/none.jsonl"), 1, "there is no such file"),
        (("{path}", "--out", "{path}"), 2, "is a file"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_line(
    run: Run, annotations: Path, clip_folder: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, told: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x.mp4").write_bytes((clip_folder / "red2.mp4").read_bytes())
    places = {"path": annotations, "folder": tmp_path, "clips": clip_folder}
    model = () if "--predictions" in arguments else ("--model", "mini")
    ran = run("eval", "timeline", *(argument.format(**places) for argument in (*arguments, *model)))
    assert ran.returncode == status
    assert told in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr


def test_help_of_both(run: Run) -> None:
    assert "openxclip eval timeline --help" in run("eval", "--help").stdout
    own = run("eval", "timeline", "--help", columns=50)
    assert own.returncode == 0
    assert "openxclip eval timeline" in own.stdout.splitlines()[0]
    assert "--quiet" in own.stdout
    assert max(map(len, own.stdout.splitlines())) <= 50


def test_a_recipe_may_be_called_timeline(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("timeline").write_text("data: nowhere\n")
    assert "ANNOTATIONS" not in run("eval", "./timeline", "--model", "mini").stderr


@pytest.mark.parametrize("columns", [20, 80])
def test_the_table_fits_any_terminal(
    run: Run, annotations: Path, clip_folder: Path, tiny_folder: Path, columns: int
) -> None:
    model = ("--model", tiny_folder, "--device", "cpu", "--window", "0.5", "--threshold", "0")
    ran = run("eval", "timeline", annotations, "--videos", clip_folder, *model, columns=columns)
    assert ran.returncode == 0, ran.stderr
    assert "…" not in ran.stdout
    assert "100.0 %" in ran.stdout
