"""`openxclip index` and `openxclip search` as a shell sees them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INDEX = [sys.executable, "-m", "openxclip.cli.main", "index"]
SEARCH = [sys.executable, "-m", "openxclip.cli.main", "search"]


def run(command: list[str], *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment
    )


@pytest.fixture(scope="module")
def made(clip_folder: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of three videos and a broken one, and its index."""
    folder = tmp_path_factory.mktemp("search")
    videos = Path(shutil.copytree(clip_folder, folder / "videos"))
    (videos / "broken.mp4").write_bytes(b"no video")
    ran = run(INDEX, videos, "--to", folder / "index", "--model", tiny_folder, "--device", "cpu", "--window", "0.5")
    assert ran.returncode == 1
    assert f"{videos / 'broken.mp4'}: " in ran.stderr
    assert "1 videos could not be read" in ran.stderr
    assert "3 added, 1 unreadable; 3 videos, 6 windows" in ran.stdout
    assert "Traceback" not in ran.stderr
    return videos, folder / "index"


def test_moments_are_found(made: tuple[Path, Path], tmp_path: Path) -> None:
    videos, index = made
    ran = run(
        SEARCH, "a red video", "--top", 4, "--where", "start > 0.2", "--device", "cpu", OPENXCLIP_INDEX=str(index)
    )
    hits = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0
    assert {hit["path"] for hit in hits} == {str(path) for path in videos.rglob("*.mp4") if path.name != "broken.mp4"}
    assert all(set(hit) == {"path", "start", "end", "duration", "score", "similarity", "reranked"} for hit in hits)
    like = run(SEARCH, "--video", videos / "red2.mp4", "--in", index, "--top", 1, "--device", "cpu")
    assert json.loads(like.stdout)["score"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "say what to search for"), (("a", "--video", "b.mp4"), "say what to search for"),
        (("a", "--where", "colour = 3"), "can't be understood"), (("--video", "missing.mp4"), "no such file"),
    ],
)  # fmt: skip
def test_mistakes_of_a_search(made: tuple[Path, Path], arguments: tuple[str, ...], what: str) -> None:
    ran = run(SEARCH, *arguments, "--in", made[1], "--device", "cpu")
    assert ran.returncode != 0
    assert what in ran.stderr
    assert "Traceback" not in ran.stderr


def test_mistakes_of_an_index(made: tuple[Path, Path], tmp_path: Path) -> None:
    videos, index = made
    for arguments, what in (
        ((videos, "--to", index, "--window", 3), "was made with window=0.5"),
        (("--to", index), "no videos are named"),
        ((videos / "red2.mp4", "--to", index, "--remove", "--update"), "--remove takes files out"),
        ((tmp_path / "none.mp4", "--to", index, "--remove"), "isn't in the index"),
        ((videos, "--to", videos), "is no index of videos"),
    ):
        ran = run(INDEX, *arguments)
        assert ran.returncode != 0
        assert what in ran.stderr
        assert "Traceback" not in ran.stderr
    ran = run(SEARCH, "a", "--in", tmp_path / "nothing")
    assert "there is no index" in ran.stderr
