"""Samples and datasets: what they are called, what their hash depends on, what is wanting in them."""

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


def test_a_path_is_opened_as_it_is(two: Dataset) -> None:
    assert two.samples[0].open() == two.samples[0].source
    assert two.samples[0].size() == 5


def test_names_count_from_the_root(two: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [two.name_of(sample) for sample in two.samples] == ["jump/a.mp4", "run/a.mp4"]
    assert two.name_of(Sample("/elsewhere/b.mp4")) == "b.mp4"
    assert two.name_of(Sample(f"{tmp_path}/data2/b.mp4")) == "b.mp4"  # begins with the root's letters, isn't in it
    assert two.name_of(Sample(f"{tmp_path}/data/x/s.tar::k/a.mp4")) == "x/s.tar::k/a.mp4"
    assert dataclasses.replace(two, root="").name_of(two.samples[0]) == "a.mp4"
    here = dataclasses.replace(two, root=".")
    assert here.name_of(Sample("jump/a.mp4")) == "jump/a.mp4"
    assert here.name_of(two.samples[0]) == "a.mp4"


def test_the_hash_is_that_of_the_data_wherever_they_lie(
    two: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_the_hash_is_of_every_fact(two: Dataset, tmp_path: Path, change: dict[str, object]) -> None:
    if "source" in change:
        change = {"source": str(tmp_path / "data" / str(change["source"]))}
    changed = dataclasses.replace(two.samples[0], **change)  # type: ignore[arg-type]
    other = dataclasses.replace(two, samples=(changed, two.samples[1]))
    assert other.hash() != two.hash()
    assert dataclasses.replace(two, classes=("jump", "walk")).hash() != two.hash()
    assert dataclasses.replace(two, samples=two.samples[::-1]).hash() != two.hash()


def test_the_hash_is_of_sizes_and_of_files_that_are_there(two: Dataset) -> None:
    before = two.hash()
    Path(two.samples[0].source).write_bytes(b"longer video")
    assert two.hash() != before
    Path(two.samples[0].source).unlink()
    with pytest.raises(DatasetError, match=r"jump.a\.mp4: can't be found any more"):
        two.hash()


def test_accents_are_the_same_composed_or_apart(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "Crêpe é.mp4")
        put(tmp_path / form / "faire" / name)
        put(tmp_path / form / unicodedata.normalize(form, "dîner") / name)
    assert open_dataset(tmp_path / "NFC").hash() == open_dataset(tmp_path / "NFD").hash()


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no text are Linux's")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    put(tmp_path / "run" / "a.mp4")
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/jump/\xff\xfe.mp4")))
    dataset = open_dataset(tmp_path)
    assert len(dataset.hash()) == 64
    assert Path(str(dataset.samples[0].open())).read_bytes() == b"video"


def test_problems_are_counted_and_named(two: Dataset) -> None:
    assert describe_problems(two) == ""
    one = dataclasses.replace(two, problems=("a.mp4: is empty",))
    assert describe_problems(one) == "two: 1 problem:\n  a.mp4: is empty"
    many = dataclasses.replace(two, problems=tuple(f"{i}.mp4: is empty" for i in range(12)))
    lines = describe_problems(many, most=3).splitlines()
    assert lines == ["two: 12 problems:", "  0.mp4: is empty", "  1.mp4: is empty", "  2.mp4: is empty", "  and 9 more"]


def test_datasets_travel_between_processes(two: Dataset) -> None:
    assert pickle.loads(pickle.dumps(two)) == two
