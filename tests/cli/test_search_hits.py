"""`openxclip search`: its options, and the fields of its hits."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from openxclip import VideoIndex

Run = Callable[..., Any]
FIELDS = ["path", "start", "end", "best_start", "best_end", "windows", "duration", "score", "similarity", "reranked"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def made(clip_folder: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three videos of one second, in windows of a quarter."""
    index = tmp_path_factory.mktemp("search") / "index"
    VideoIndex.open(index, model=str(tiny_folder), window=0.25, device="cpu").add(clip_folder)
    return index


def found(run: Run, *arguments: object) -> list[dict[str, Any]]:
    ran = run("search", *arguments, "--device", "cpu")
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_neighbouring_windows_are_one_hit_unless_raw(run: Run, made: Path) -> None:
    raw = found(run, "a red video", "--in", made, "--raw", "--top", 100)
    assert [list(hit) for hit in raw] == 12 * [FIELDS]
    assert {hit["windows"] for hit in raw} == {1}
    assert all((hit["start"], hit["end"]) == (hit["best_start"], hit["best_end"]) for hit in raw)
    assert [hit["similarity"] for hit in raw] == sorted((hit["similarity"] for hit in raw), reverse=True)
    hits = found(run, "a red video", "--in", made, "--top", 100)
    assert sum(hit["windows"] for hit in hits) == 12
    assert len(hits) < 12
    assert all(hit["start"] <= hit["best_start"] < hit["best_end"] <= hit["end"] for hit in hits)
    assert (hits[0]["similarity"], hits[0]["score"]) == (raw[0]["similarity"], raw[0]["score"])
    single = found(run, "a red video", "--in", made, "--per-video", 1, "--raw")
    assert len(single) == len({hit["path"] for hit in single}) == 3


def test_minimum_score_and_similarity(run: Run, made: Path) -> None:
    raw = found(run, "a red video", "--in", made, "--raw", "--top", 100)
    for field, option in (("score", "--min-score"), ("similarity", "--min-similarity")):
        least = sorted(hit[field] for hit in raw)[4]
        few = found(run, "a red video", "--in", made, "--raw", "--top", 100, option, least)
        assert few == [hit for hit in raw if hit[field] >= least]
    none = run("search", "a red video", "--in", made, "--min-score", 1, "--device", "cpu", columns=80)
    assert (none.returncode, none.stdout) == (0, "no moment of the index meets the conditions.\n")


def test_search_by_a_part_of_a_video(run: Run, made: Path, clip_folder: Path) -> None:
    like = ("--video", clip_folder / "red2.mp4", "--in", made, "--raw", "--top", 1)
    (hit,) = found(run, *like, "--start", "0:00.25", "--end", 0.5, "--min-similarity", 0.999)
    assert (hit["path"], hit["start"], hit["end"]) == (str(clip_folder / "red2.mp4"), 0.25, 0.5)
    assert (hit["score"], hit["reranked"]) == (None, False)
    table = run("search", *like, "--device", "cpu", columns=120)
    assert click.unstyle(table.stdout).split()[:4] == ["similarity", "from", "to", "video"]


def test_a_table_and_csv(run: Run, made: Path) -> None:
    table = run("search", "a red video", "--in", made, "--device", "cpu", columns=200)
    assert click.unstyle(table.stdout).split()[:6] == ["score", "similarity", "from", "to", "best", "video"]
    lines = run("search", "a red video", "--in", made, "--format", "csv", "--device", "cpu").stdout.splitlines()
    assert lines[0].split(",") == FIELDS
    assert {row["reranked"] for row in csv.DictReader(lines)} == {"true"}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--video", "a.mp4", "--min-score", 0.5), "use --min-similarity"),
        (("a cat", "--start", 3), "give --video PATH too"), (("a cat", "--end", 3), "give --video PATH too"),
        (("--video", "a.mp4", "--start", 3, "--end", 2), "--end 2.0: must be after --start 3"),
        (("a cat", "--min-score", 1.5), "1.5"), (("a cat", "--per-video", 0), "--per-video"),
        (("a cat", "--threshold", 0.5), "No such option"),
    ],
)  # fmt: skip
def test_invalid_options_are_refused(run: Run, tmp_path: Path, arguments: tuple[object, ...], what: str) -> None:
    ran = run("search", *arguments, "--in", tmp_path / "none")
    assert ran.returncode == 2
    assert what in ran.stderr
    assert "Traceback" not in ran.stderr
