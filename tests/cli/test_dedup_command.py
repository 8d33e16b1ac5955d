"""`openxclip dedup`: films with dark seconds, other encodings, parts and copies."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from openxclip import VideoIndex, VideoPipeline
from openxclip.video.writing import write_mp4


def scene(number: int, seconds: float, *, size: int = 64) -> list[np.ndarray]:
    """A coloured pattern that moves, at 8 frames a second."""
    random = np.random.default_rng(number)
    cell = size // 8
    picture = np.kron(random.integers(0, 256, (8, 8, 3), dtype=np.uint8), np.ones((cell, cell, 1), np.uint8))
    return [np.roll(picture, i * cell // 4, axis=1) for i in range(int(8 * seconds))]


def black(seconds: float) -> list[np.ndarray]:
    return [np.zeros((64, 64, 3), np.uint8)] * int(8 * seconds)


def write(path: Path, frames: list[np.ndarray], *, quality: int = 18) -> None:
    with path.open("wb") as file:
        write_mp4(frames, file, fps=8, quality=quality)


@pytest.fixture(scope="module")
def archive(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos with an index of it, in windows of a second."""
    folder = tmp_path_factory.mktemp("archive")
    film = [*scene(1, 2), *scene(2, 2), *scene(3, 2)]
    write(folder / "film.mp4", [*film, *black(2)])
    shutil.copy(folder / "film.mp4", folder / "film_copy.mp4")
    write(folder / "longer.mp4", [*film, *black(2), black(1)[0]], quality=30)
    write(folder / "part.mp4", film[32:48])
    write(folder / "black.mp4", black(2))
    shutil.copy(folder / "black.mp4", folder / "black_copy.mp4")
    write(folder / "black_too.mp4", black(3))
    write(folder / "frozen.mp4", [film[0]] * 24)
    write(folder / "small.mp4", scene(7, 3, size=32))
    write(folder / "big.mp4", scene(7, 3, size=64), quality=40)
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    index = VideoIndex.open(folder / "index", model=pipeline, window=1, num_frames=4)
    assert len(index.add(folder).added) == 10
    return folder


def groups(out: str) -> dict[str, dict[str, dict]]:
    read = [json.loads(line) for line in out.splitlines()]
    return {Path(group["path"]).name: {Path(one["path"]).name: one for one in group["duplicates"]} for group in read}


SURE = ("--min-similarity", 0.999)


def test_copies_of_a_film(run, archive: Path) -> None:
    ran = run("dedup", "--in", archive / "index", *SURE)
    found = groups(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    film = found["film.mp4"]  # the largest of those that are about as long
    assert set(film) == {"film_copy.mp4", "longer.mp4", "part.mp4"}
    assert {name: one["identical"] for name, one in film.items()} == {
        "film_copy.mp4": True, "longer.mp4": False, "part.mp4": False,
    }  # fmt: skip
    assert film["film_copy.mp4"]["identical_to"] == str(archive / "film.mp4")
    assert (film["part.mp4"]["begins"], film["longer.mp4"]["begins"]) == (4.0, 0.0)
    assert all(one["score"] is None and one["similarity"] >= 0.999 for one in film.values())


def test_black_and_frozen_windows_do_not_count(run, archive: Path) -> None:
    found = groups(run("dedup", "--in", archive / "index", *SURE).stdout)
    together = [{name, *those} for name, those in found.items()]
    assert {"black.mp4", "black_copy.mp4"} in together, "their bytes are the same"
    assert not any({"black_too.mp4", "frozen.mp4"} & those for those in together)


@pytest.mark.parametrize(("keep", "kept"), [("highest-resolution", "big.mp4"), ("largest", None), ("oldest", None)])
def test_keep(keep: str, kept: str | None, run, archive: Path) -> None:
    if keep == "largest":
        kept = max(("small.mp4", "big.mp4"), key=lambda name: (archive / name).stat().st_size)
    if keep == "oldest":
        kept = min(("small.mp4", "big.mp4"), key=lambda name: (archive / name).stat().st_mtime_ns)
    condition = ("--where", "path like '%/small.mp4' or path like '%/big.mp4'", "--min-similarity", 0.5)
    (group,) = groups(run("dedup", "--in", archive / "index", "--keep", keep, *condition).stdout)
    assert group == kept


def test_help_lists_the_choices_of_keep(run) -> None:
    shown = " ".join(run("dedup", "--help").stdout.split())
    assert "--keep [longest|largest|oldest|highest-resolution]" in shown
    assert "[default: longest]" in shown


def test_as_csv(run, archive: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("dedup", "--in", archive / "index", *SURE, "--format", "csv").stdout)))
    (copy,) = (row for row in rows if row["duplicate"].endswith("film_copy.mp4"))
    assert copy["path"] == copy["identical_to"] == str(archive / "film.mp4")
    assert (copy["identical"], copy["score"], copy["begins"], copy["duration"]) == ("true", "", "0.0", "8.0")
    nothing = run("dedup", "--in", archive / "index", "--where", "path like '%nothing%'", "--format", "csv")
    assert nothing.stdout.splitlines() == [",".join(rows[0])]


def test_as_a_table(run, archive: Path) -> None:
    shown = run("dedup", "--in", archive / "index", *SURE, columns=200).stdout
    assert f"{archive / 'film_copy.mp4'}  (identical)" in shown
    assert f"{archive / 'part.mp4'}  (100% of it at 1.000, from 0:04.0)" in shown
    assert "of 10 videos, " in shown
    shown = run("dedup", "--in", archive / "index", "--where", "path like '%part%'", columns=200).stdout
    assert shown == "of 1 video, none is contained in another\n"


def test_not_duplicates_are_remembered(run, archive: Path, tmp_path: Path) -> None:
    index, pairs = tmp_path / "index", tmp_path / "pairs.tsv"
    shutil.copytree(archive / "index", index)
    pairs.write_text(f"\ufeff{archive / 'film.mp4'}\t{archive / 'part.mp4'}\r\n\n", encoding="utf-8")
    assert "part.mp4" in str(groups(run("dedup", "--in", index, *SURE).stdout))
    for options in (("--not-duplicates", pairs), ()):
        found = groups(run("dedup", "--in", index, *SURE, *options).stdout)
        assert not any({"film.mp4", "part.mp4"} <= {name, *those} for name, those in found.items())
        assert any({"black.mp4", "black_copy.mp4"} <= {name, *those} for name, those in found.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"only one path\n", "pairs.tsv: line 1 must be two paths with a tab between, not 'only one path'."),
        (b"\na\tb\tc\n", "pairs.tsv: line 2 must be two paths with a tab between"),
        (b"a\t\n", "line 1 must be two paths"),
        (b"\xff\xfe", "pairs.tsv: can't be read: it isn't UTF-8."),
        (b"/none/a.mp4\t/none/b.mp4\n", "/none/a.mp4: isn't in the index"),
    ],
)
def test_an_unreadable_file_of_not_duplicates(text: bytes, message: str, run, archive: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_bytes(text)
    ran = run("dedup", "--in", archive / "index", "--not-duplicates", pairs)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert message in ran.stderr
    assert not (archive / "index/not-duplicates.tsv").exists()
    missing = run("dedup", "--in", archive / "index", "--not-duplicates", tmp_path / "none.tsv")
    assert missing.returncode == 2
