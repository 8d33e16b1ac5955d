"""`openxclip index --cluster` on a cluster of real processes, and an S3 server.

The benchmark kills what else can be killed: workers, machines, the driver, parts.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from index_rows import assert_equal_indexes

import openxclip
from openxclip.cluster import commit_parts, index_part

pytestmark = pytest.mark.slow

Command = Callable[..., Any]
NEW = ("--model", "mini", "--window", "0.5")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 clips of two seconds."""
    from openxclip.cli.main import cli

    folder = tmp_path_factory.mktemp("clips")
    cli(["playground", "-q", "--out", str(folder), "--clips", "48", "--size", "48", "--seconds", "2"],
        standalone_mode=False)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def local_index(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The local index of the clips."""
    index = openxclip.VideoIndex.open(
        tmp_path_factory.mktemp("local") / "index", model="mini", window=0.5, patches=False, device="cpu"
    )
    assert len(index.add(clips).added) == 48
    return str(index._store.uri)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_videos_of_a_store_with_readers_that_are_killed(
    start: Command, ray_cluster: Any, store: Any, clips: Path, local_index: str, tmp_path: Path
) -> None:
    from openxclip.search.bulk.failures import Failures
    from openxclip.search.bulk.objects import Objects

    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        videos, to = store.bucket("videos"), f"{store.bucket('indexes')}/archive.index"
        objects = Objects.open(videos)
        names = [path.name for path in sorted(clips.glob("*.mp4"))]
        broken = names[::8]
        for name in names:
            objects.put(f"a/{name}", b"no video" if name in broken else (clips / name).read_bytes())
        with (tmp_path / "manifest.csv").open("w", newline="") as file:
            rows = ([f"{videos}/a/{name}", f"cam{number % 3}", number // 10] for number, name in enumerate(names))
            csv.writer(file).writerows([["path", "camera", "shelf"], *rows])
        how = ("--to", to, "--cluster", ray_cluster.address)
        process = start("index", tmp_path / "manifest.csv", *how, *NEW, "--readers", "1", "--progress", "json")
        wait_for(lambda: bool([*Objects.open(f"{to}/windows.lance/data").list()]), process)
        for node in ray_cluster.nodes:
            for reader in node.actors("Reader"):
                reader.kill()
        out, err = process.communicate(timeout=400)
        assert process.returncode == 1, err
        assert "42 added, 6 failed; 168 windows" in out
        lines = [json.loads(line) for line in err.splitlines()]
        reports = [line for line in lines if "videos" in line]
        assert (reports[-1]["videos"], reports[-1]["failed"], reports[-1]["left"]) == (48, 6, 0)
        assert any("6 videos could not be indexed: --retry-failed" in line.get("message", "") for line in lines)
        failures = [row for rows in Failures(to).rows() for row in rows]
        assert {row.path for row in failures} == {f"{videos}/a/{name}" for name in broken}
        assert all(row.attempts == 1 and row.node and row.reason for row in failures)
        for name in broken:
            objects.put(f"a/{name}", (clips / name).read_bytes())
        assert index_part(None, to, (1, 1), retry_failed=True).waiting == 6
        assert commit_parts(None, to).windows == 24
        assert Failures(to).count() == 0
        assert_equal_indexes(to, local_index, prefix=f"{videos}/a/", other_prefix=f"{clips}/")
        assert not [*Objects.open(f"{to}/_receipts").list()]
        hits = openxclip.VideoIndex.open(to).search("a cat", k=100, where="camera = 'cam1' and shelf < 2", merge=False)
        assert {Path(hit.path).name for hit in hits} == {f"{number:05}.mp4" for number in range(1, 20, 3)}


def test_nothing_is_lost_when_processes_and_the_store_are_killed(tmp_path: Path) -> None:
    """The benchmark, on few videos: it ends with an error if an index differs from the local one."""
    script = Path(__file__).parent.parent.parent / "benchmarks" / "bulk.py"
    sizes = ["--clips", "40", "--films", "1", "--seconds", "6", "--kills", "3", "--outages", "1", "--outage", "3"]
    ran = subprocess.run(
        [sys.executable, script, "--parts", "kill,parts", *sizes, "--between", "2", "3", "--data", tmp_path / "data",
         "--json", tmp_path / "bulk.json"],
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = json.loads((tmp_path / "bulk.json").read_text())["rows"]
    assert all(rows["kill"][f"killed_{name}"] == 1 for name in ("actor", "node", "driver", "store"))
    assert rows["parts"]["killed"] > 0
    assert rows["kill"]["windows"] == rows["parts"]["windows"] > 40
