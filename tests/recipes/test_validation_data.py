"""The keys of val_data, the classes of Kinetics-600, and the commands in the recipes' comments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip.datasets import Dataset
from openxclip.datasets.subsets import RENAMED_IN_KINETICS_600, draw_classes, without_classes
from openxclip.recipes import read_recipe
from openxclip.recipes.data import DataError, evaluation_data, training_data
from openxclip.recipes.recipe import _FOLDER, RecipeError

Run = Callable[..., Any]


def put(path: Path, content: str = "video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Write base and novel classes, each with its list and its file of names, numbered from 0."""
    for i in range(4):
        put(tmp_path / "videos" / f"{i}.mp4")
        put(tmp_path / "others" / f"{i}.mp4")
    put(tmp_path / "base.txt", "0.mp4 0\n1.mp4 1\n")
    put(tmp_path / "novel.txt", "2.mp4 0\n3.mp4 1\n")
    put(tmp_path / "base.csv", "id,name\n0,run\n1,walk\n")
    put(tmp_path / "novel.csv", "id,name\n0,swim\n1,fly\n")
    return tmp_path


def data_of(lists: Path, *changes: str) -> tuple[Dataset, Dataset | None]:
    return training_data(read_recipe("my-videos", [f"data={lists / 'base.txt'}", f"videos={lists / 'videos'}",
                                                   f"names={lists / 'base.csv'}", *changes]))  # fmt: skip


def test_val_names(lists: Path) -> None:
    """The numbers of the two lists mean different classes."""
    changes = (f"val_data={lists / 'novel.txt'}", f"val_names={lists / 'novel.csv'}")
    train, val = data_of(lists, *changes)
    assert val is not None
    assert (train.classes, val.classes) == (("run", "walk"), ("swim", "fly"))
    assert [sample.label for sample in val.samples] == [0, 1]
    assert not any("val_names" in problem for problem in val.problems)
    recipe = read_recipe("my-videos", [f"videos={lists / 'videos'}", f"names={lists / 'base.csv'}", *changes])
    assert evaluation_data(recipe).classes == ("swim", "fly")


def test_shared_names_are_reported(lists: Path) -> None:
    """Without `val_names`, numbers mean the classes of `names`, as in another list of the same data."""
    _, val = data_of(lists, f"val_data={lists / 'novel.txt'}")
    assert val is not None
    assert val.classes == ("run", "walk")
    assert any("if its numbers mean other classes, give val_names=" in problem for problem in val.problems)


def test_val_videos(lists: Path) -> None:
    _, val = data_of(lists, f"val_data={lists / 'novel.txt'}", f"val_videos={lists / 'others'}")
    assert val is not None
    assert {Path(sample.source).parent.name for sample in val.samples} == {"others"}


def test_val_data_may_be_a_folder_if_data_is_a_list(lists: Path) -> None:
    """`videos` and `fold` don't apply to a folder of class folders."""
    for name in ("run", "walk"):
        put(lists / "folders" / name / "a.mp4")
    _, val = data_of(lists, f"val_data={lists / 'folders'}", "fold=1")
    assert val is not None
    assert len(val.samples) == 2


@pytest.mark.parametrize("key", ["val_names=x", "val_videos=x", "val_fold=2"])
def test_val_keys_need_val_data(key: str) -> None:
    with pytest.raises(RecipeError, match=r"is for val_data, which is missing: use (names|videos|fold)="):
        read_recipe("my-videos", [key])


def test_errors_name_the_val_keys(lists: Path) -> None:
    for name in ("run", "walk"):
        put(lists / "folders" / name / "a.mp4")
    put(lists / "captions.csv", "path,text\n0.mp4,someone runs\n1.mp4,someone walks\n")
    with pytest.raises(DataError, match=r"val_videos=.* is for lists and annotation files"):
        data_of(lists, f"val_data={lists / 'folders'}", f"val_videos={lists / 'others'}")
    with pytest.raises(DataError, match="val_fold=3 is for UCF-101 and HMDB-51"):
        data_of(lists, f"val_data={lists / 'folders'}", "val_fold=3")
    with pytest.raises(DataError, match="both must have classes, or both captions"):
        data_of(lists, f"val_data={lists / 'captions.csv'}", f"val_names={lists / 'novel.csv'}")


# -- Kinetics-600 without Kinetics-400


def of_classes(*classes: str) -> Dataset:
    from openxclip.datasets import Sample

    return Dataset("k600", tuple(Sample(f"{i}.mp4", i) for i in range(len(classes))), classes)


def test_renamed_kinetics_classes_are_left_out() -> None:
    """Eleven classes were renamed; other names, such as "hugging" alone, don't count."""
    assert len(RENAMED_IN_KINETICS_600) == len(set(RENAMED_IN_KINETICS_600.values())) == 11
    old, new = list(RENAMED_IN_KINETICS_600), list(RENAMED_IN_KINETICS_600.values())
    kinetics_600 = of_classes("archery", *new, "hugging baby", "tying shoe laces", "air drumming")
    assert without_classes(kinetics_600, ["archery", *old]).classes == (
        "hugging baby",
        "tying shoe laces",
        "air drumming",
    )
    assert len(without_classes(kinetics_600, ["archery", "hugging"]).classes) == 14
    assert len(draw_classes(without_classes(kinetics_600, old), 3, seed=0).classes) == 3


# -- the commands in the recipes


def commands_of(recipe: str) -> list[list[str]]:
    text = (_FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8")
    return [shlex.split(line) for line in re.findall(r"^# +(?:.*: )?openxclip (.*)$", text, re.MULTILINE)]


def test_recipes_contain_commands() -> None:
    assert [len(commands_of(name)) for name in ("zero-shot", "my-videos")] == [2, 1]


@pytest.mark.parametrize("number", [0, 1])
def test_commands_of_the_zero_shot_recipe(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data they name are found, for each value of --over."""
    for fold in (1, 2, 3):
        for name in ("run", "walk"):
            put(tmp_path / f"hmdb51/splits/{name}_test_split{fold}.txt", f"{name}{fold}.avi 2\nx.avi 1\n")
            put(tmp_path / f"hmdb51/hmdb51_org/{name}/{name}{fold}.avi")
    labels = [f"class {i}" for i in range(200)] + ["archery"]
    rows = [f"{label},{i:011},0,10,test" for i, label in enumerate(labels)]
    put(tmp_path / "k600/test.csv", "\n".join(["label,youtube_id,time_start,time_end,split", *rows]))
    for i in range(len(labels)):
        put(tmp_path / f"k600/test/{i:011}_000000_000010.mp4")
    put(tmp_path / "k400.txt", "archery\nabseiling\n")
    monkeypatch.chdir(tmp_path)
    verb, recipe, *words = commands_of("zero-shot")[number]
    assert verb == "eval"
    changes = [word for before, word in zip(["", *words], words, strict=False) if "=" in word and before != "--over"]
    key, _, values = words[words.index("--over") + 1].partition("=")
    datasets = [evaluation_data(read_recipe(recipe, [*changes, f"{key}={value}"])) for value in values.split(",")]
    assert len(datasets) == 3
    if number == 0:
        assert [sorted(Path(sample.source).stem for sample in dataset.samples) for dataset in datasets] == [
            [f"run{fold}", f"walk{fold}"] for fold in (1, 2, 3)]  # fmt: skip
    else:
        assert all(len(dataset.classes) == 160 and "archery" not in dataset.classes for dataset in datasets)
        assert len({dataset.classes for dataset in datasets}) == 3
