"""docs/json.md has the fields that the verbs print."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from openxclip.evaluation.results import EvaluationProtocol, Prediction, Results
from openxclip.playground.films import Event
from openxclip.search import Duplicate, DuplicateGroup, Hit
from openxclip.timelines.annotations import AnnotatedVideo, Annotations, Moment
from openxclip.timelines.evaluation_run import results_of
from openxclip.timelines.results import TimelineData

Run = Callable[..., Any]
PAGE = Path(__file__).parents[2] / "docs/json.md"


def section(name: str) -> str:
    """The text below a heading."""
    (text,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(text)


def documented(name: str) -> set[str]:
    """The fields in the first column of a section's table."""
    cells = re.findall(r"^\| (`.*?) \|", section(name), re.MULTILINE)
    return {field for cell in cells for field in re.findall(r"`(\w+)`", cell)}


def printed(run: Run, *arguments: object) -> dict[str, Any]:
    ran = run(*arguments, "--json")
    row: dict[str, Any] = json.loads(ran.stdout.splitlines()[0])
    return row


def names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


def test_fields_that_verbs_print(run: Run, clip_folder: Path, tiny_folder: Path) -> None:
    clip = clip_folder / "red2.mp4"
    row = printed(run, "classify", clip, "--labels", "a", "--model", tiny_folder)
    assert set(row) == documented("classify")
    assert all(f"`{field}`" in section("classify") for field in row["labels"][0])
    timeline = printed(run, "timeline", clip, "--query", "a", "--model", tiny_folder, "--threshold", 0, "--scores")
    assert set(timeline) | {"cuts", "error"} == documented("timeline")
    for values in (timeline["labels"][0], timeline["segments"][0], timeline["scores"]):
        assert all(f"`{field}`" in section("timeline") for field in values)
    assert set(printed(run, "check", clip)) == documented("check") == set(printed(run, "info", clip))
    assert set(printed(run, "info", tiny_folder)) == documented("info")
    assert set(printed(run, "models")) == documented("models")
    profile = printed(run, "profile", tiny_folder)
    assert set(profile) == documented("profile")
    assert all(f"`{field}`" in section("profile") for field in profile["total"])


def test_fields_that_search_and_dedup_print() -> None:
    assert names(Hit) | {"thumbnail"} == documented("search")
    assert names(DuplicateGroup) == documented("dedup")
    inner = set(re.findall(r"`(?:duplicates\[\])?\.(\w+)`", section("dedup")))
    assert inner == names(Duplicate) | {"score"}


def test_fields_of_written_files() -> None:
    assert {"format", *names(Results)} == documented("eval")
    for kind in (EvaluationProtocol, Prediction):
        assert all(f"`{field}`" in section("eval") for field in names(kind))
    assert all(f"`{field}`" in section("playground") for field in names(Event))


def test_fields_of_results_of_timelines() -> None:
    found = TimelineData(path="a.mp4", labels=("a",), segments=())
    video = AnnotatedVideo(name="a", labels=("a",), moments=(Moment("a", 0, 1),), duration=1.0)
    annotations = Annotations(form="ActivityNet", videos=(video,))
    results = results_of([(video, found)], [], annotations, paths=[], model=None, settings={}).to_dict()
    assert {name for name in results if f"`{name}`" not in section("eval timeline")} == set()
    for part in (results["counts"], results["labels"]["a"], results["videos"][0]):
        assert all(f"`{field}`" in section("eval timeline") for field in part)


def test_rows_of_bench() -> None:
    measuring = pytest.importorskip("openxclip.benchmarking.measuring")
    assert set(measuring.Row("", "", 1.0).as_dict()) == documented("bench")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_metadata_of_features(clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    import numpy as np

    import openxclip

    openxclip.embed(clip_folder / "red2.mp4", tmp_path / "features.npz", model=str(tiny_folder), device="cpu")
    with np.load(tmp_path / "features.npz") as file:
        assert set(json.loads(str(file["openxclip"]))) == documented("embed")
