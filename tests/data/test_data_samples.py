"""Names, hashes and problems of samples and datasets."""

from __future__ import annotations

import dataclasses
import os
import pickle
import sys
import unicodedata
from pathlib import Path

import pytest

from openxclip.datasets import Dataset, DatasetError, Sample, describe_problems, open_dataset


def put(path: Path, content: bytes = b"video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def two(tmp_path: Path) -> Dataset:
    paths = [put(tmp_path / "data" / name / "a.mp4") for name in ("jump", "run")]
    samples = tuple(Sample(str(path), label=i) for i, path in enumerate(paths))
    return Dataset("two", samples, ("jump", "run"), root=str(tmp_path / "data"))


def test_open_returns_the_path_of_a_file(two: Dataset) -> None:
    assert two.samples[0].open() == two.samples[0].source
    assert two.samples[0].size() == 5


def test_names_are_relative_to_the_root(two: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [two.name_of(sample) for sample in two.samples] == ["jump/a.mp4", "run/a.mp4"]
    assert two.name_of(Sample("/elsewhere/b.mp4")) == "b.mp4"
    assert two.name_of(Sample(f"{tmp_path}/data2/b.mp4")) == "b.mp4"  # not below the root, whose name it begins with
    assert two.name_of(Sample(f"{tmp_path}/data/x/s.tar::k/a.mp4")) == "x/s.tar::k/a.mp4"
    assert dataclasses.replace(two, root="").name_of(two.samples[0]) == "a.mp4"
    here = dataclasses.replace(two, root=".")
    assert here.name_of(Sample("jump/a.mp4")) == "jump/a.mp4"
    assert here.name_of(two.samples[0]) == "a.mp4"


def test_the_hash_survives_a_move(two: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_dataset(tmp_path / "data").hash()
    assert len(before) == 64
    assert before == two.hash()
    monkeypatch.chdir(tmp_path / "data")
    assert open_dataset(".").hash() == before
    (tmp_path / "data").rename(tmp_path / "moved")
    assert open_dataset(tmp_path / "moved").hash() == before
    problems = dataclasses.replace(open_dataset(tmp_path / "moved"), name="other", problems=("a file is missing",))
    assert problems.hash() == before


@pytest.mark.parametrize(
    "change", [{"label": 1}, {"text": "a caption"}, {"start": 1.0}, {"end": 2.0}, {"source": "run/a.mp4"}]
)
def test_the_hash_depends_on_every_field(two: Dataset, tmp_path: Path, change: dict[str, object]) -> None:
    if "source" in change:
        change = {"source": str(tmp_path / "data" / str(change["source"]))}
    changed = dataclasses.replace(two.samples[0], **change)  # type: ignore[arg-type]
    other = dataclasses.replace(two, samples=(changed, two.samples[1]))
    assert other.hash() != two.hash()
    assert dataclasses.replace(two, classes=("jump", "walk")).hash() != two.hash()
    assert dataclasses.replace(two, samples=two.samples[::-1]).hash() != two.hash()


def test_the_hash_depends_on_sizes_and_needs_the_files(two: Dataset) -> None:
    before = two.hash()
    Path(two.samples[0].source).write_bytes(b"longer video")
    assert two.hash() != before
    Path(two.samples[0].source).unlink()
    with pytest.raises(DatasetError, match=r"jump.a\.mp4: can't be found any more"):
        two.hash()


def test_the_hash_ignores_how_accents_are_composed(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "Crêpe é.mp4")
        put(tmp_path / form / "faire" / name)
        put(tmp_path / form / unicodedata.normalize(form, "dîner") / name)
    assert open_dataset(tmp_path / "NFC").hash() == open_dataset(tmp_path / "NFD").hash()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that aren't text")
def test_file_names_that_arent_text(tmp_path: Path) -> None:
    put(tmp_path / "run" / "a.mp4")
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/jump/\xff\xfe.mp4")))
    dataset = open_dataset(tmp_path)
    assert len(dataset.hash()) == 64
    assert Path(str(dataset.samples[0].open())).read_bytes() == b"video"


def test_problems_are_counted_and_the_first_ten_shown(two: Dataset) -> None:
    assert describe_problems(two) == ""
    one = dataclasses.replace(two, problems=("a.mp4: is empty",))
    assert describe_problems(one) == "two: 1 problem:\n  a.mp4: is empty"
    many = dataclasses.replace(two, problems=tuple(f"{i}.mp4: is empty" for i in range(12)))
    lines = describe_problems(many).splitlines()
    assert lines == ["two: 12 problems:", *(f"  {i}.mp4: is empty" for i in range(10)), "  and 2 more"]


def test_datasets_can_be_pickled(two: Dataset) -> None:
    assert pickle.loads(pickle.dumps(two)) == two
