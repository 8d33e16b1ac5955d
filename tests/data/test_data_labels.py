"""Texts of classes from the labels of datasets."""

from __future__ import annotations

from pathlib import Path

import pytest

from openxclip.datasets import DatasetError, readable_name
from openxclip.datasets.labels import class_names, number_labels, read_class_list, read_names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("HandstandPushups", "handstand pushups"),
        ("TaiChi", "tai chi"),
        ("YoYo", "yo yo"),
        ("CleanAndJerk", "clean and jerk"),
        ("Archery", "archery"),
        ("brush_hair", "brush hair"),
        ("Brush_Hair", "brush hair"),
        ("shoot__ball_", "shoot ball"),
        ("playing guitar", "playing guitar"),
        ("passing American football (in game)", "passing American football (in game)"),
        (" massaging person's head ", "massaging person's head"),
        ("t-shirt", "t-shirt"),
        ("HTMLPage", "html page"),
        ("TV", "tv"),
        ("Level2Jump", "level2 jump"),
        ("ÉcrireTexte", "écrire texte"),
        ("歩く", "歩く"),
        ("E\u0301crire", "écrire"),
        ("_", "_"),
    ],
)
def test_names_are_split_into_words(name: str, words: str) -> None:
    assert readable_name(name) == words
    assert readable_name(words) == words


def test_two_classes_with_the_same_text_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"'BrushHair' and 'brush_hair' have the same text, 'brush hair'"):
        class_names(["BrushHair", "run", "brush_hair"])
    with pytest.raises(DatasetError, match="have the same text, 'Playing  Guitar'"):
        class_names(["playing guitar", "Playing  Guitar"])
    assert class_names(["BrushHair", "brush_hair"], {"brush_hair": "brushing"}) == ("brush hair", "brushing")
    with pytest.raises(DatasetError, match="'run' and 'walk' have the same text, 'Going'"):
        class_names(["run", "walk"], {"run": "going", "walk": "Going"})


def test_names_replace_texts() -> None:
    given = {"ApplyEyeMakeup": "putting on MAKE-UP", "tai chi": "t'ai chi"}
    assert class_names(["ApplyEyeMakeup", "TaiChi", "YoYo"], given) == ("putting on MAKE-UP", "t'ai chi", "yo yo")
    with pytest.raises(DatasetError, match=r"no class 'Taichee': the classes are 'TaiChi', 'YoYo'"):
        class_names(["TaiChi", "YoYo"], {"Taichee": "x"})
    with pytest.raises(DatasetError, match=r"numbered list of 1 names is not of these 2 classes.*a tab"):
        class_names(["TaiChi", "YoYo"], {"0": "x"})


def test_labels_can_be_names() -> None:
    labels = [("l. 1", "walk"), ("l. 2", "clip10"), ("l. 3", "clip2"), ("l. 4", "walk")]
    assert number_labels(labels) == (("clip2", "clip10", "walk"), [2, 1, 0, 2])
    assert number_labels([("l. 1", "7"), ("l. 2", "walk")]) == (("7", "walk"), [0, 1])


def test_labels_can_be_numbers() -> None:
    with pytest.raises(DatasetError, match=r"a\.txt, line 1: the labels are numbers \('3'\).*give names"):
        number_labels([("a.txt, line 1", "3")])
    names = {"0": "BrushHair", "1": "walk", "2": "run"}
    assert number_labels([("1", "2"), ("2", "00"), ("3", "2")], names) == (("brush hair", "walk", "run"), [2, 0, 2])
    for wrong in ("3", "-1", "999999999999"):
        with pytest.raises(DatasetError, match=rf"a\.txt, line 2: the label '{wrong}' is not in names, which has 3"):
            number_labels([("a.txt, line 1", "0"), ("a.txt, line 2", wrong)], names)
    assert number_labels([("1", "1"), ("2", "2")], {"1": "walk", "2": "run"})[1] == [0, 1]


def test_a_numbered_list_of_names_fixes_the_classes() -> None:
    names = {"0": "walk", "1": "BrushHair", "2": "run"}
    assert number_labels([("1", "brush_hair"), ("2", "Walk")], names) == (("walk", "brush hair", "run"), [1, 0])
    with pytest.raises(DatasetError, match=r"line 2: the label 'swim' is not in names, which has 3, such as 'walk'"):
        number_labels([("line 1", "walk"), ("line 2", "swim")], names)


def test_name_files_in_every_format(tmp_path: Path) -> None:
    def read(name: str, content: str) -> dict[str, str]:
        (tmp_path / name).write_bytes(content.encode())
        return read_names(tmp_path / name)

    numbered = {"0": "apply eye makeup", "1": "playing guitar"}
    assert read("a.txt", "\ufeffApplyEyeMakeup\r\nplaying guitar\r\n\r\n") == numbered
    assert read("a.txt", "0 ApplyEyeMakeup\n1 playing guitar\n") == numbered
    assert read("classInd.txt", "1 ApplyEyeMakeup\n2 TaiChi") == {"1": "apply eye makeup", "2": "tai chi"}
    assert read("a.txt", "0\tApplyEyeMakeup\n1\tplaying guitar\n") == numbered
    assert read("a.txt", "ApplyEyeMakeup\tMake-Up on\n") == {"ApplyEyeMakeup": "Make-Up on"}
    assert read("a.txt", "10 pin bowling\n400 m run\n") == {"0": "10 pin bowling", "1": "400 m run"}
    assert read("k400.csv", 'id,name\n0,ApplyEyeMakeup\n1,"playing guitar"\n') == numbered
    assert read("a.json", '["ApplyEyeMakeup", "playing guitar"]') == numbered
    assert read("a.json", '{"TaiChi": "T\'ai Chi"}') == {"TaiChi": "T'ai Chi"}
    (tmp_path / "list.txt").write_text("run\nwalk fast\n")
    assert read_class_list(tmp_path / "list.txt") == ("run", "walk fast")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "contains no names"),
        ("a.txt", b"run\n\nwalk\n", "line 2: is blank"),
        ("a.txt", b"run\tto run\nwalk\n", "line 2: 'walk': either every line must have a tab or none"),
        ("a.txt", b"0\trun\n0\twalk\n", "the number 0 is given to 'run' and to 'walk'"),
        ("a.txt", b"run\ncr\xe9er\n", "line 2: is not text in UTF-8"),
        ("a.csv", b"name\nrun\n", "line 1: must name the columns, including id, name, but is 'name'"),
        ("a.csv", b"id,name\nx,run\n", "line 2: must be a number and a name, but is 'x', 'run'"),
        ("a.csv", b"id,name\n3\n", "line 2: has 1 fields, but there are 2 columns"),
        ("a.csv", b"id,name\n3,\n", "line 2: must be a number and a name, but is '3', ''"),
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"3", "must be an object"),
        ("a.json", b'["run", 3]', "3 is no class name"),
    ],
)
def test_invalid_name_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_names(tmp_path / name)


def test_a_missing_name_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.txt: there is no such file"):
        read_names(tmp_path / "none.txt")


def test_a_numbered_list_is_matched_to_classes_by_name(tmp_path: Path) -> None:
    """The authors' `id,name` for HMDB-51 has `kick ball` before `kick`."""
    path = tmp_path / "hmdb_51_labels.csv"
    path.write_text("id,name\n0,kick ball\n1,kick\n2,sword exercise\n3,sword\n", encoding="utf-8")
    classes = ["kick", "kick_ball", "sword", "sword_exercise"]
    assert class_names(classes, path) == ("kick", "kick ball", "sword", "sword exercise")
    with pytest.raises(DatasetError, match=r"numbered list of 4 names is not of these 2 classes: 'kick"):
        class_names(["kick", "sword"], path)
    with pytest.raises(DatasetError, match="'wave' is not in both"):
        class_names([*classes, "wave"], path)
    ucf = tmp_path / "ucf_101_labels.csv"
    ucf.write_text("id,name\n0,ApplyEyeMakeup\n1,YoYo\n", encoding="utf-8")
    assert class_names(["YoYo", "ApplyEyeMakeup"], ucf) == ("yo yo", "apply eye makeup")


def test_json_of_numbers_by_name(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    for number in ('"1"', "1"):
        path.write_text(f'{{"Holding something": {number}, "Hitting it": "0"}}', encoding="utf-8")
        assert read_names(path) == {"1": "Holding something", "0": "Hitting it"}
    path.write_text('{"YoYo": "playing with a yo-yo", "archery": "7"}', encoding="utf-8")
    assert read_names(path) == {"YoYo": "playing with a yo-yo", "archery": "7"}
