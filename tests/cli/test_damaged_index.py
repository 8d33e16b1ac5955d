"""A damaged index gives an error of one sentence; a search on a full disk still prints its hits."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip import VideoIndex, VideoPipeline

Run = Callable[..., Any]
FULL = "No space left on device"


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three small videos."""
    folder = tmp_path_factory.mktemp("made") / "index"
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    VideoIndex.open(folder, model=pipeline, window=0.5).add(clip_folder)
    return folder


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def damage(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    else:
        path.write_bytes(b"\xa5" * path.stat().st_size)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in what reads the index
@pytest.mark.parametrize(
    "how", ["cut", pytest.param("gone", marks=pytest.mark.slow), pytest.param("overwritten", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("table", ["windows", "videos"])
def test_every_verb_reports_damaged_data_in_one_sentence(
    table: str, how: str, run: Run, index: Path, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    data = sorted(index.glob(f"{table}.lance/data/*.lance"))
    assert data
    for path in data:
        damage(path, how)
    told = 0
    for arguments in (
        ("search", "red", "--in", index, "--device", "cpu"),
        ("dedup", "--in", index),
        ("index", "--update", "--to", index, "--model", tiny_folder, "--device", "cpu"),
        ("index", "--to", index, "--export", tmp_path / "e.parquet", "--model", tiny_folder, "--device", "cpu"),
    ):
        ran = run(*arguments)
        assert "Traceback" not in ran.stderr
        if ran.returncode:  # not every verb reads every table
            told += 1
            last = ran.stderr.splitlines()[-1]
            assert last.startswith(f"openxclip: {index}: the index can't be read"), ran.stderr
            assert len(last) < 500
    assert told >= 1
    assert not (tmp_path / "e.parquet").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["cut", "overwritten"])
def test_damaged_manifests(how: str, run: Run, index: Path) -> None:
    for path in index.glob("*.lance/_versions/*.manifest"):
        damage(path, how)
    ran = run("search", "red", "--in", index, "--device", "cpu")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(f"openxclip: {index}: ")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("option", "name"), [("--html", "page.html"), ("--thumbnails", "pictures")])
def test_a_search_on_a_full_disk_prints_what_it_found(
    option: str, name: str, run: Run, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def full(original: Any) -> Any:
        def write(self: Path, *args: Any, **options: Any) -> Any:
            nonlocal written
            if self.is_relative_to(tmp_path) and not self.is_relative_to(index):
                written += 1
                if option == "--html" or written > 1:  # the first picture still finds room
                    raise OSError(errno.ENOSPC, FULL)
            return original(self, *args, **options)

        return write

    for method in ("write_bytes", "write_text"):
        monkeypatch.setattr(Path, method, full(getattr(Path, method)))
    ran = run("search", "red", "--in", index, "--top", 3, "--device", "cpu", option, tmp_path / name)
    hits = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 1
    assert len(hits) == 3
    target = tmp_path / name if option == "--html" else tmp_path / name / "002.jpg"
    assert ran.stderr.splitlines()[-1] == f"openxclip: {target}: {FULL}"
    if option == "--thumbnails":
        assert [hit["thumbnail"] for hit in hits] == [str(tmp_path / name / "001.jpg"), None, None]
        assert [path.name for path in (tmp_path / name).iterdir()] == ["001.jpg"]
    else:
        assert not (tmp_path / name).exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_folder_of_pictures_is_checked_before_the_search(run: Run, index: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/mine.jpg").write_bytes(b"x")
    ran = run("search", "red", "--in", tmp_path / "none", "--thumbnails", tmp_path / "pictures")
    assert (ran.returncode, "is not empty: choose" in " ".join(ran.stderr.split())) == (2, True)
