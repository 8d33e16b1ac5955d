"""Missing and left-out files are counted and shown in datasets, plans, evaluations and results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from openxclip.datasets import Dataset, describe_problems, hold_out, only_classes, open_dataset, with_classes
from openxclip.evaluation import evaluate_recipe
from openxclip.evaluation.results import Results
from openxclip.training import plan_training

ABSENT = 13


@pytest.fixture
def listed(class_folder: Path, tmp_path: Path) -> Path:
    """A list of six videos of two classes that exist, and thirteen that don't."""
    lines = ["path,label"]
    for name in ("goes_down", "goes_right"):
        lines += [f"{path},{name}" for path in sorted((class_folder / name).iterdir())]
    lines += [f"gone/{i}.mp4,{'goes_down' if i < 10 else 'goes_right'}" for i in range(ABSENT)]
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_dataset_counts_missing_videos(listed: Path) -> None:
    dataset = open_dataset(listed)
    assert (len(dataset.samples), dataset.num_missing(), dataset.num_expected) == (6, ABSENT, 19)
    lines = describe_problems(dataset).splitlines()
    assert lines[0] == "list: 13 problems, 13 of 19 videos missing (68.4%):"
    assert len(lines) == 1 + 10 + 1
    assert lines[-1] == "  and 3 more"


def test_parts_of_a_dataset_count_their_own_missing_videos(listed: Path) -> None:
    dataset = open_dataset(listed)
    right = only_classes(dataset, ["goes right"])
    assert (len(right.samples), right.num_missing(), right.num_expected) == (3, 3, 6)
    assert len(right.problems) == 3
    assert all(sample.label == 0 for sample, _ in right.missing)
    wider = with_classes(right, ["a", "goes right"])
    assert all(sample.label == 1 for sample, _ in wider.missing)
    kept, held = hold_out(dataset, 0.3, seed=0)
    assert kept.num_missing() == held.num_missing() == ABSENT
    assert kept.num_expected == held.num_expected == 19


def test_a_missing_video_with_many_captions_counts_once(tmp_path: Path) -> None:
    (tmp_path / "there.mp4").write_bytes(b"video")
    lines = [{"path": name, "text": text} for name in ("there.mp4", "gone.mp4") for text in ("a", "b", "c")]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    dataset = open_dataset(tmp_path / "list.jsonl")
    assert (dataset.num_missing(), dataset.num_expected, len(dataset.missing)) == (1, 2, 3)


def test_a_plan_shows_ten_problems_and_counts_the_rest(listed: Path, tiny_folder: Path) -> None:
    planned = plan_training("my-videos", f"model={tiny_folder}", f"data={listed}", "hold_out=0", "jitter=0")
    lines = str(planned).splitlines()
    assert sum("gone/" in line for line in lines) == 10
    assert any("13 of 19 videos missing (68.4%)" in line for line in lines)
    assert "  and 3 more" in lines


@pytest.mark.slow
def test_results_have_all_problems(listed: Path, tiny_folder: Path, tmp_path: Path) -> None:
    messages: list[str] = []
    results = evaluate_recipe("my-videos", f"data={listed}", "hold_out=0", model=tiny_folder, out=tmp_path / "out",
                              say=messages.append)  # fmt: skip
    assert "; 13 of 19 videos are missing (68.4 %)" in str(results)
    assert len(messages) == 1
    assert messages[0].count("gone/") == 10
    again = Results.load(tmp_path / "out/results.json")
    assert (again.missing, again.named, len(again.problems)) == (13, 19, 13)
    assert again == results
    content = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    for key in ("missing", "named", "problems"):
        del content[key]
    (tmp_path / "old.json").write_text(json.dumps(content), encoding="utf-8")
    assert Results.load(tmp_path / "old.json").problems == ()


# -- hidden files


@pytest.fixture
def with_hidden(class_folder: Path, tmp_path: Path) -> Path:
    """Three classes of three videos with one hidden video each, beside a system file."""
    folder = shutil.copytree(class_folder, tmp_path / "classes")
    for name in ("goes_down", "goes_right", "staysPut"):
        (folder / name / "0.mp4").rename(folder / name / ".0.mp4")
    (folder / ".DS_Store").write_bytes(b"x")
    return folder


def sizes(dataset: Dataset) -> tuple[int, int]:
    return len(dataset.samples), len(dataset.problems)


def test_hidden_files_are_counted_or_included(with_hidden: Path) -> None:
    left_out = open_dataset(with_hidden)
    assert sizes(left_out) == (6, 1)
    (problem,) = left_out.problems
    assert problem.startswith("left out 4 hidden files and folders (--hidden or hidden=true includes them): ")
    included = open_dataset(with_hidden, hidden=True)
    assert sizes(included) == (9, 1)
    assert included.problems == ("left out 1 file that is not a video: .DS_Store",)


def test_hidden_videos_of_public_datasets(tmp_path: Path) -> None:
    table = tmp_path / "k400" / "val.csv"
    table.parent.mkdir()
    rows = [f"{label},{i * 11:011},0,10,val" for i, label in enumerate(("run", "walk"))]
    table.write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows]), encoding="utf-8")
    for i, folder in enumerate((".cache", "val")):
        (table.parent / folder).mkdir()
        (table.parent / folder / f"{i * 11:011}_000000_000010.mp4").write_bytes(b"video")
    dataset = open_dataset(table.parent)
    assert (len(dataset.samples), dataset.num_missing()) == (1, 1)
    assert any("left out 1 hidden file or folder" in problem for problem in dataset.problems)
    assert len(open_dataset(table.parent, hidden=True).samples) == 2


def test_recipes_can_include_hidden_files(with_hidden: Path, tiny_folder: Path) -> None:
    common = (f"model={tiny_folder}", f"data={with_hidden}", "hold_out=0", "jitter=0")
    assert plan_training("my-videos", *common).clips == 6
    assert "left out 4 hidden files and folders" in str(plan_training("my-videos", *common))
    assert plan_training("my-videos", *common, "hidden=true").clips == 9
