"""`openxclip index`, `search` and `dedup`."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from openxclip.cli.main import cli

FIELDS = {"path", "start", "end", "best_start", "best_end", "windows", "duration", "score", "similarity", "reranked"}
COMMAND = [sys.executable, "-m", "openxclip.cli.main"]
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def made(clip_folder: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of three videos and a broken one, and its index."""
    folder = tmp_path_factory.mktemp("search")
    videos = Path(shutil.copytree(clip_folder, folder / "videos"))
    (videos / "broken.mp4").write_bytes(b"no video")
    arguments = [videos, "--to", folder / "index", "--model", tiny_folder, "--device", "cpu", "--window", "0.5"]
    ran = CliRunner().invoke(cli, ["index", *map(str, arguments)])
    assert ran.exit_code == 1
    assert f"{videos / 'broken.mp4'}: " in ran.stderr
    assert "1 video could not be read" in ran.stderr
    assert "3 added, 1 unreadable; 3 videos, 6 windows" in ran.stdout
    return videos, folder / "index"


def test_search_finds_moments(run: Run, made: tuple[Path, Path], tmp_path: Path) -> None:
    videos, index = made
    ran = run(
        "search", "a red video", "--top", 4, "--where", "start > 0.2", "--device", "cpu", OPENXCLIP_INDEX=str(index)
    )
    hits = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0
    assert {hit["path"] for hit in hits} == {str(path) for path in videos.rglob("*.mp4") if path.name != "broken.mp4"}
    assert all(set(hit) == FIELDS for hit in hits)
    like = run("search", "--video", videos / "red2.mp4", "--in", index, "--top", 1, "--device", "cpu")
    assert json.loads(like.stdout)["similarity"] > 0.5
    assert json.loads(like.stdout)["score"] is None


def test_html_and_thumbnails(run: Run, made: tuple[Path, Path], tmp_path: Path) -> None:
    videos, index = made
    page, folder = tmp_path / "found.html", tmp_path / "stills"
    ran = run(
        "search",
        "a red video",
        "--in",
        index,
        "--raw",
        "--top",
        3,
        "--html",
        page,
        "--thumbnails",
        folder,
        "--device",
        "cpu",
    )
    hits = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [hit["thumbnail"] for hit in hits] == [str(folder / f"00{i}.jpg") for i in (1, 2, 3)]
    assert all(Path(hit["thumbnail"]).read_bytes().startswith(b"\xff\xd8") for hit in hits)
    assert page.read_text(encoding="utf-8").count("data:video/mp4") == 3
    wrong = run("search", "a red video", "--in", index, "--html", videos / "red2.mp4")
    assert "must end with .html" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_dedup_finds_copies(run: Run, made: tuple[Path, Path], tiny_folder: Path, tmp_path: Path) -> None:
    videos = Path(shutil.copytree(made[0], tmp_path / "videos"))
    shutil.copy(videos / "red2.mp4", videos / "copy.mp4")
    run("index", videos, "--to", tmp_path / "index", "--model", tiny_folder, "--device", "cpu")
    ran = run("dedup", "--in", tmp_path / "index", "--min-similarity", 0.99999)
    (group,) = (json.loads(line) for line in ran.stdout.splitlines())
    assert {group["path"], *(one["path"] for one in group["duplicates"])} >= {
        str(videos / "red2.mp4"), str(videos / "copy.mp4"),
    }  # fmt: skip
    assert any(one["identical"] for one in group["duplicates"])
    assert (videos / "copy.mp4").exists()
    for arguments, what in ((("--in", tmp_path / "none"), "there is no index"), ((), "Missing option '--in'")):
        ran = run("dedup", *arguments)
        assert what in ran.stderr
        assert "Traceback" not in ran.stderr


def test_an_index_is_exported_to_another_machine(run: Run, made: tuple[Path, Path], tmp_path: Path) -> None:
    _, index = made
    ran = run("index", "--to", index, "--export", tmp_path / "windows.parquet")
    assert (ran.returncode, ran.stdout.strip()) == (0, f"{tmp_path / 'windows.parquet'}: 6 windows")
    ran = run("index", tmp_path / "windows.parquet", "--to", tmp_path / "other")
    assert ran.returncode == 0
    assert "3 added; 3 videos, 6 windows" in ran.stdout
    both = [
        run("search", "a red video", "--raw", "--in", one, "--device", "cpu").stdout
        for one in (index, tmp_path / "other")
    ]
    assert len(both[0].splitlines()) == 6
    assert both[0] == both[1]


@pytest.mark.slow
def test_watching(run: Run, made: tuple[Path, Path], tiny_folder: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    command = [
        *COMMAND,
        "index",
        "--watch",
        videos,
        "--to",
        tmp_path / "index",
        "--model",
        tiny_folder,
        "--device",
        "cpu",
    ]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        try:
            shutil.copy(made[0] / "red2.mp4", tmp_path / "new.part")
            (tmp_path / "new.part").rename(videos / "new.mp4")  # as a recorder should: a name for what is whole
            for line in process.stdout:
                if "1 video, 1 window" in line:
                    break
            shutil.copy(made[0] / "red10.mp4", tmp_path / "new.part")
            (tmp_path / "new.part").rename(videos / "more.mp4")
            assert "1 added" in process.stdout.readline()
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in said
    assert len(run("search", "a", "--in", tmp_path / "index", "--device", "cpu").stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "give a sentence to search for"), (("a", "--video", "b.mp4"), "give a sentence to search for"),
        (("a", "--where", "colour = 3"), "can't be understood"), (("--video", "missing.mp4"), "no such file"),
    ],
)  # fmt: skip
def test_mistakes_of_a_search(run: Run, made: tuple[Path, Path], arguments: tuple[str, ...], what: str) -> None:
    ran = run("search", *arguments, "--in", made[1], "--device", "cpu")
    assert ran.returncode != 0
    assert what in ran.stderr
    assert "Traceback" not in ran.stderr


def test_mistakes_of_an_index(run: Run, made: tuple[Path, Path], tmp_path: Path) -> None:
    videos, index = made
    for arguments, what in (
        ((videos, "--to", index, "--window", 3), "was made with --window 0.5"),
        (("--to", index), "no videos are named"),
        ((videos / "red2.mp4", "--to", index, "--remove", "--update"), "--remove can't be combined with --update"),
        ((tmp_path / "none.mp4", "--to", index, "--remove"), "isn't in the index"),
        ((videos, "--to", videos), "is not an index of videos"),
        (
            (videos / "red2.mp4", "--to", index, "--remove", "--export", "a.parquet"),
            "--remove can't be combined with --export",
        ),
        (("--to", index, "--export", tmp_path / "a.csv"), "must end with .parquet"),
        (("a.parquet", "--to", index, "--watch"), "--watch is for videos"),
        ((tmp_path / "none.parquet", "--to", index), "can't be read as Parquet"),
    ):
        ran = run("index", *arguments)
        assert ran.returncode != 0
        assert what in ran.stderr
        assert "Traceback" not in ran.stderr
    ran = run("search", "a", "--in", tmp_path / "nothing")
    assert "there is no index" in ran.stderr
