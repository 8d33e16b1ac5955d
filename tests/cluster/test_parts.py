"""Indexing in parts and from a manifest, in this process."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from index_rows import assert_equal_indexes

import openxclip
from openxclip.cli.index import command as index_command
from openxclip.cluster import IndexSettings, commit_parts, index_part
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.receipts import Receipt, new_id

pytest.importorskip("lance")
pytest.importorskip("obstore")

SAMPLES = Path(__file__).parent.parent.parent / "samples"
MINI = IndexSettings(model="mini", window=1.0, device="cpu")


def test_two_parts_make_the_index_of_one_machine(tmp_path: Path) -> None:
    to, reports = tmp_path / "index", list[Any]()
    seen: list[str] = []
    parts = [
        index_part(SAMPLES, to, (number, 2), settings=MINI, on_report=reports.append,
                   on_video=lambda path, error: seen.append(path))
        for number in (1, 2)
    ]  # fmt: skip
    assert sum(part.videos for part in parts) == sum(part.waiting for part in parts) == len(seen) == 6
    assert reports[-1].left == 0
    assert len(openxclip.VideoIndex.open(to)) == 0
    again = index_part(SAMPLES, to, (1, 2), settings=MINI)
    assert (again.videos, again.waiting) == (0, parts[0].waiting)
    objects = Objects.open(str(to))
    objects.put("_receipts/torn.json", b"{")
    replace(next(Receipt.list(objects)), id=new_id(), weights="other").put(objects)
    said: list[str] = []
    done = commit_parts(SAMPLES, to, say=said.append)
    assert (done.videos, done.windows, done.missing) == (6, 12, 0)
    assert said[0].endswith("deleted, and their videos have to be indexed again: 1, such as _receipts/torn.json.")
    assert said[1:] == ["1 receipt could not be used, being of another model or of videos indexed twice."]
    local = openxclip.VideoIndex.open(tmp_path / "local", model="mini", window=1.0, patches=False, device="cpu")
    local.add(SAMPLES)
    assert_equal_indexes(str(to), str(tmp_path / "local"))
    with pytest.raises(ValueError, match=r"part=3/2: must be from 1/2 to 2/2"):
        index_part(SAMPLES, to, (3, 2))
    unsure = CliRunner().invoke(index_command, ["--commit", "--to", str(to)])
    assert "0 videos and 0 windows committed; name the videos to look for missing ones" in unsure.stdout


def test_a_manifest_is_indexed_here_and_failures_are_tried_again(tmp_path: Path) -> None:
    samples = sorted(SAMPLES.glob("*.mp4"))[:2]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with (tmp_path / "videos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "shelf"], *([str(path), "top"] for path in (*samples, broken))])

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(index_command, [*map(str, arguments), "--to", str(tmp_path / "index")])

    first = run(tmp_path / "videos.csv", "--model", "mini", "--window", "1", "--device", "cpu", "--progress", "json")
    assert first.exit_code == 1, first.output
    assert "2 added, 1 failed; 4 windows" in first.stdout
    lines = [json.loads(line) for line in first.stderr.splitlines()]
    assert [line["failed"] for line in lines if "videos" in line][-1] == 1
    messages = [line["message"] for line in lines if "message" in line]
    assert any(message.startswith("1 × ") for message in messages)
    assert "1 video could not be indexed: --retry-failed tries again" in messages[-1]
    second = run(tmp_path / "videos.csv", "--device", "cpu")
    assert second.exit_code == 1, second.output
    assert "0 added, 2 unchanged, 1 failed before" in second.stdout
    broken.write_bytes(samples[0].read_bytes())
    third = run("--retry-failed", "--device", "cpu")
    assert third.exit_code == 0, third.output
    assert "1 added; 2 windows" in third.stdout
    index = openxclip.VideoIndex.open(tmp_path / "index")
    assert {hit.path for hit in index.search("a cat", where="shelf = 'top'")} == {
        str(path) for path in (*samples, broken)
    }
