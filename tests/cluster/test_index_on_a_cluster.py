"""`openxclip index --cluster` on a cluster of real processes, and an S3 server."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from index_rows import assert_equal_indexes, rows_of_index

import openxclip

pytestmark = pytest.mark.slow

Command = Callable[..., Any]
NEW = ("--model", "mini", "--window", "0.5")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 clips of two seconds, and a manifest that lists them with two columns."""
    from openxclip.cli.main import cli

    folder = tmp_path_factory.mktemp("clips")
    cli(["playground", "-q", "--out", str(folder), "--clips", "48", "--size", "48", "--seconds", "2"],
        standalone_mode=False)  # fmt: skip
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "camera", "shelf"])
        for number, clip in enumerate(sorted(folder.glob("*.mp4"))):
            writer.writerow([clip.name, f"cam{number % 3}", number // 10])
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


def test_equals_the_local_index_though_a_worker_is_killed(
    start: Command, ray_cluster: Any, clips: Path, local_index: str, tmp_path: Path
) -> None:
    to = tmp_path / "index"
    process = start("index", clips / "manifest.csv", "--to", to, *NEW, "--cluster", ray_cluster.address, "--progress",
                    "json")  # fmt: skip
    wait_for(lambda: any((to / "_receipts").glob("*.json")), process)
    assert ray_cluster.kill_a_worker()
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert "48 added; 192 windows" in out
    lines = [json.loads(line) for line in err.splitlines()]
    assert any("a worker ended (it crashed or was killed)" in line.get("message", "") for line in lines)
    reports = [line for line in lines if "videos" in line]
    assert reports[-1]["videos"] == 48
    assert reports[-1]["left"] == 0
    assert_equal_indexes(str(to), local_index)
    hits = openxclip.VideoIndex.open(to).search("a cat", k=100, where="camera = 'cam1' and shelf < 2", merge=False)
    assert {Path(hit.path).name for hit in hits} == {f"{number:05}.mp4" for number in range(1, 20, 3)}
    assert not list((to / "_receipts").glob("*.json"))


def test_a_killed_driver_loses_nothing(
    start: Command, command: Command, ray_cluster: Any, clips: Path, local_index: str, tmp_path: Path
) -> None:
    to = tmp_path / "index"
    how = ("index", clips, "--to", to, *NEW, "--cluster", ray_cluster.address)
    process = start(*how)
    wait_for(lambda: any((to / "_receipts").glob("*.json")), process)
    second = command(*how)
    assert second.returncode == 1
    assert "is writing to the index, and holds its lease" in second.stderr
    process.send_signal(signal.SIGKILL)
    process.communicate()
    resumed = command(*how)
    assert resumed.returncode == 0, resumed.stderr
    assert "of an earlier run, which had not been committed, are now in the index" in resumed.stderr
    assert_equal_indexes(str(to), local_index)
    again = command(*how)
    assert "0 added, 48 unchanged" in again.stdout


def test_from_and_to_an_object_store_with_videos_that_fail_at_first(
    command: Command, ray_cluster: Any, store: Any, clips: Path, local_index: str
) -> None:
    from openxclip.search.bulk.failures import Failures
    from openxclip.search.bulk.objects import Objects

    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        videos, to = store.bucket("videos"), f"{store.bucket('indexes')}/archive.index"
        objects = Objects.open(videos)
        contents = {path.name: path.read_bytes() for path in sorted(clips.glob("*.mp4"))}
        broken = [*contents][::8]
        for name, content in contents.items():
            objects.put(f"a/{name}", b"no video" if name in broken else content)
        how = ("index", f"{videos}/a", "--to", to, "--cluster", ray_cluster.address)
        first = command(*how, *NEW)
        assert first.returncode == 1, first.stderr
        assert "42 added, 6 failed; 168 windows" in first.stdout
        assert "6 videos could not be indexed: --retry-failed tries again" in first.stderr
        failures = [row for rows in Failures(to).rows() for row in rows]
        assert {row.path for row in failures} == {f"{videos}/a/{name}" for name in broken}
        assert all(row.attempts == 1 and row.node and row.reason for row in failures)
        for name in broken:
            objects.put(f"a/{name}", contents[name])
        retried = command("index", "--to", to, "--cluster", ray_cluster.address, "--retry-failed")
        assert retried.returncode == 0, retried.stderr
        assert "6 added; 24 windows" in retried.stdout
        assert Failures(to).count() == 0
        assert_equal_indexes(to, local_index, prefix=f"{videos}/a/", other_prefix=f"{clips}/")


def test_readers_and_models_in_separate_processes(
    start: Command, ray_cluster: Any, store: Any, clips: Path, local_index: str, tmp_path: Path
) -> None:
    from openxclip.search.bulk.objects import Objects

    to = tmp_path / "index"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        videos = store.bucket("to-readers")
        objects = Objects.open(videos)
        for path in clips.glob("*.mp4"):
            objects.put(path.name, path.read_bytes())
        objects.put("broken.mp4", b"no video")
    process = start("index", videos, "--to", to, *NEW, "--cluster", ray_cluster.address, "--readers", "1")
    wait_for(lambda: any((to / "windows.lance" / "data").glob("*")), process)
    for node in ray_cluster.nodes:
        for reader in node.actors("Reader"):
            reader.kill()
    out, err = process.communicate(timeout=400)
    assert process.returncode == 1, err
    assert "48 added, 1 failed; 192 windows" in out
    openxclip.VideoIndex.open(to).remove(f"{videos}/broken.mp4")
    assert_equal_indexes(str(to), local_index, prefix=f"{videos}/", other_prefix=f"{clips}/")


def test_a_node_is_lost_and_another_joins(
    start: Command, ray_cluster: Any, clips: Path, local_index: str, tmp_path: Path
) -> None:
    to = tmp_path / "index"
    process = start("index", clips, "--to", to, *NEW, "--cluster", ray_cluster.address)
    wait_for(lambda: all(node.actors() for node in ray_cluster.nodes), process)
    ray_cluster.nodes.pop().kill()
    ray_cluster.add_node()
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert "48 added" in out
    assert "left the cluster" in err
    assert_equal_indexes(str(to), local_index)


def test_two_parts_and_a_commit(
    start: Command, command: Command, clips: Path, local_index: str, tmp_path: Path
) -> None:
    videos, to = tmp_path / "videos", tmp_path / "index"
    shutil.copytree(clips, videos)
    (videos / "broken.mp4").write_bytes(b"no video")
    how = ("index", videos, "--to", to)
    parts = [start(*how, *NEW, "--part", f"{number}/2") for number in (1, 2)]
    ended = [(*part.communicate(timeout=400), part.returncode) for part in parts]
    assert sorted(status for *_, status in ended) == [0, 1], ended
    assert all("for a commit" in err for _, err, _ in ended)
    assert rows_of_index(str(to)) == ({}, {})
    committed = command(*how, "--commit")
    assert committed.returncode == 1
    assert "48 videos and 192 windows committed; 1 video missing:\n  " in committed.stdout
    assert str(videos / "broken.mp4") in committed.stdout
    (videos / "broken.mp4").unlink()
    whole = command(*how, "--commit")
    assert whole.returncode == 0, whole.stderr
    assert "nothing is missing" in whole.stdout
    index = openxclip.VideoIndex.open(to)
    index.remove(str(videos / "broken.mp4"))
    assert_equal_indexes(str(to), local_index, prefix=f"{videos}/", other_prefix=f"{clips}/")
