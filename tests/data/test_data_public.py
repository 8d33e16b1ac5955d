"""Kinetics, UCF-101, HMDB-51 and MSR-VTT: small copies of their official layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openxclip.datasets import Dataset, DatasetError, dataset_splits, detect_format, open_dataset


def put(path: Path, content: bytes | str = b"video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def facts(dataset: Dataset) -> list[tuple[str, int | None]]:
    return [(dataset.name_of(sample), sample.label) for sample in dataset.samples]


# ------------------------------------------------------------------------------------------------------------- Kinetics

HEADER = "label,youtube_id,time_start,time_end,split\n"


@pytest.fixture
def kinetics(tmp_path: Path) -> Path:
    """The layout of CVDF: annotations beside a flat folder for each split."""
    folder = tmp_path / "k400"
    put(
        folder / "annotations" / "train.csv",
        HEADER
        + "testifying,---QUuC4vJs,84,94,train\n"
        + '"passing American football (in game)",-0aBcDeFgHi,5,15,train\n'
        + "eating spaghetti,AbCdEfGhIjK,12,22,train\n"
        + "eating spaghetti,gone_gone_g,1,11,train\n",
    )
    put(folder / "annotations" / "val.csv", HEADER + "testifying,wwwwwwwwwww,0,10,val\n")
    put(folder / "annotations" / "test.csv", HEADER + "testifying,vvvvvvvvvvv,0,10,test\n")
    for name in ("---QUuC4vJs_000084_000094", "-0aBcDeFgHi_000005_000015", "AbCdEfGhIjK_000012_000022"):
        put(folder / "train" / f"{name}.mp4")
    put(folder / "val" / "wwwwwwwwwww_000000_000010.mp4")
    return folder


def test_kinetics(kinetics: Path) -> None:
    assert detect_format(kinetics) == "kinetics"
    assert dataset_splits(kinetics) == ("train", "val", "test")
    train, val = (open_dataset(kinetics, split=split) for split in ("train", "val"))
    assert train.name == "k400/train"
    assert train.classes == ("eating spaghetti", "passing American football (in game)", "testifying") == val.classes
    assert facts(train) == [
        ("train/---QUuC4vJs_000084_000094.mp4", 2),
        ("train/-0aBcDeFgHi_000005_000015.mp4", 1),
        ("train/AbCdEfGhIjK_000012_000022.mp4", 0),
    ]
    assert all(sample.start is None and sample.end is None for sample in train.samples)  # already cut
    assert len(train.problems) == 1
    assert "train.csv, line 5: " in train.problems[0]
    assert "gone_gone_g_000001_000011.mp4: there is no such file" in train.problems[0]
    assert facts(val) == [("val/wwwwwwwwwww_000000_000010.mp4", 2)]
    with pytest.raises(DatasetError, match=r"there are no videos.*vvvvvvvvvvv"):
        open_dataset(kinetics, split="test")
    with pytest.raises(ValueError, match="has the splits train, val, test"):
        open_dataset(kinetics)


def test_kinetics_in_class_folders_and_as_whole_videos(tmp_path: Path) -> None:
    """The layout of ActivityNet's crawler, with DeepMind's own files."""
    table = put(
        tmp_path / "kinetics_600_validate.csv",
        "\ufefflabel,youtube_id,time_start,time_end,split,is_cc\r\n"
        "yoga,AAAAAAAAAAA,3.0,13.0,validate,0\r\n"
        "yoga,aaaaaaaaaaa,3,13,validate,1\r\n"
        "high kick,BBBBBBBBBBB,100,110,validate,0\r\n",
    )
    videos = tmp_path / "clips"
    put(videos / "yoga" / "AAAAAAAAAAA_000003_000013.mkv")
    put(videos / "high_kick" / "BBBBBBBBBBB.mp4")
    dataset = open_dataset(table, videos=videos)
    assert facts(dataset) == [("yoga/AAAAAAAAAAA_000003_000013.mkv", 1), ("high_kick/BBBBBBBBBBB.mp4", 0)]
    assert [(sample.start, sample.end) for sample in dataset.samples] == [(None, None), (100.0, 110.0)]
    assert len(dataset.problems) == 1  # ids that differ in upper and lower case are different videos
    assert open_dataset(table, videos=videos, split="val").samples == dataset.samples
    names = {"yoga": "doing yoga"}
    assert open_dataset(table, videos=videos, names=names).classes == ("high kick", "doing yoga")


def test_kinetics_prefers_the_video_in_the_class_folder(tmp_path: Path) -> None:
    table = put(tmp_path / "train.csv", HEADER + "yoga,AAAAAAAAAAA,3,13,train\nrun,BBBBBBBBBBB,3,13,train\n")
    for name in (
        "abandoned/AAAAAAAAAAA_000003_000013.mp4",
        "yoga/AAAAAAAAAAA_000003_000013.mp4",
        "yoga/AAAAAAAAAAA_000003_000013.avi",
        "run/BBBBBBBBBBB_000003_000013.mp4",
        "run/BBBBBBBBBBB.mp4",
    ):
        put(tmp_path / name)
    names = [name for name, _ in facts(open_dataset(table))]
    assert names == ["yoga/AAAAAAAAAAA_000003_000013.mp4", "run/BBBBBBBBBBB_000003_000013.mp4"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("yoga,AAAAAAAAAAA,soon,13,train", "line 2: the times must be whole seconds, but are 'soon' and '13'"),
        ("yoga,AAAAAAAAAAA,13,3,train", "line 2: the video 'AAAAAAAAAAA' from 13 to 3 s isn't valid"),
        ("yoga,,3,13,train", "line 2: the video '' from 3"),
        ("yoga,AAAAAAAAAAA,3", "line 2: has 3 fields"),
        (",AAAAAAAAAAA,3,13,test", "line 2: the split test has no labels"),
        ("", "has no CSV of Kinetics"),
    ],
)
def test_kinetics_with_an_invalid_table(tmp_path: Path, line: str, message: str) -> None:
    put(tmp_path / "AAAAAAAAAAA_000003_000013.mp4")
    with pytest.raises(DatasetError, match=message):
        open_dataset(put(tmp_path / "k.csv", HEADER + line + "\n"))


def test_kinetics_without_labels_or_videos(tmp_path: Path) -> None:
    table = put(tmp_path / "kinetics_test.csv", "youtube_id,time_start,time_end\nAAAAAAAAAAA,3,13\n")
    assert dataset_splits(table) == ("test",)
    with pytest.raises(DatasetError, match="the split test has no labels"):
        open_dataset(table)
    with pytest.raises(DatasetError, match="nowhere: there is no such folder: give the folder of the videos"):
        open_dataset(table, videos=tmp_path / "nowhere")


# -------------------------------------------------------------------------------------------------------------- UCF-101


@pytest.fixture
def ucf101(tmp_path: Path) -> Path:
    lists = tmp_path / "ucfTrainTestlist"
    put(lists / "classInd.txt", "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n3 YoYo\r\n")
    for fold, group in ((1, 8), (2, 9), (3, 10)):
        train = [
            f"ApplyEyeMakeup/v_ApplyEyeMakeup_g{group:02}_c01.avi 1",
            f"HandstandPushups/v_HandStandPushups_g{group:02}_c01.avi 2",
            f"YoYo/v_YoYo_g{group:02}_c01.avi 3",
        ]
        put(lists / f"trainlist{fold:02}.txt", "\r\n".join(train) + "\r\n")
        test = ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "YoYo/v_YoYo_g01_c01.avi", "YoYo/v_YoYo_g02_c01.avi"]
        put(lists / f"testlist{fold:02}.txt", "\r\n".join(test) + "\r\n")
        for line in train + test[:2]:
            put(tmp_path / "UCF-101" / line.split()[0].replace("HandStand", "Handstand"))
    return tmp_path


def test_ucf101(ucf101: Path) -> None:
    assert detect_format(ucf101) == detect_format(ucf101 / "ucfTrainTestlist") == "ucf101"
    assert dataset_splits(ucf101) == ("train", "test")
    train = open_dataset(ucf101, split="train")
    assert train.classes == ("apply eye makeup", "handstand pushups", "yo yo")
    assert train.name == "ucf101/train1"
    assert facts(train) == [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", 0),
        ("HandstandPushups/v_HandstandPushups_g08_c01.avi", 1),  # lists and archives spell it differently
        ("YoYo/v_YoYo_g08_c01.avi", 2),
    ]
    test = open_dataset(ucf101 / "ucfTrainTestlist", split="test", fold=3)
    assert test.classes == train.classes
    assert facts(test) == [("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", 0), ("YoYo/v_YoYo_g01_c01.avi", 2)]
    assert len(test.problems) == 2
    assert "testlist03.txt, line 3: " in test.problems[0]
    assert test.problems[1] == "the class 'handstand pushups' has no videos"
    second = open_dataset(ucf101, split="train", fold=2)
    assert facts(second)[0] == ("ApplyEyeMakeup/v_ApplyEyeMakeup_g09_c01.avi", 0)


def test_ucf101_in_another_folder_and_container(ucf101: Path, tmp_path: Path) -> None:
    for path in sorted((ucf101 / "UCF-101").rglob("*.avi")):
        put(tmp_path / "flat" / f"{path.stem}.mp4")
    dataset = open_dataset(ucf101, split="train", videos=tmp_path / "flat", names={"YoYo": "playing with a yo-yo"})
    assert facts(dataset)[2] == ("v_YoYo_g08_c01.mp4", 2)
    assert dataset.classes[2] == "playing with a yo-yo"


def test_ucf101_with_invalid_files(ucf101: Path) -> None:
    with pytest.raises(ValueError, match="fold=4 must be 1, 2 or 3"):
        open_dataset(ucf101, split="train", fold=4)
    with pytest.raises(ValueError, match="has no split 'val': its splits are train, test"):
        open_dataset(ucf101, split="val")
    lists = ucf101 / "ucfTrainTestlist"
    for line, message in (
        ("YoYo/a.avi 2", "line 1: has the label 2, but YoYo is number 3 in classInd.txt"),
        ("Yo/a.avi 3", r"line 1: must be CLASS/VIDEO, with a class of classInd\.txt, but is 'Yo/a\.avi'"),
        ("YoYo 3", "line 1: must be CLASS/VIDEO"),
    ):
        put(lists / "trainlist01.txt", line)
        with pytest.raises(DatasetError, match=message):
            open_dataset(ucf101, split="train")
    (lists / "trainlist02.txt").unlink()
    with pytest.raises(DatasetError, match=r"trainlist02\.txt: there is no such file"):
        open_dataset(ucf101, split="train", fold=2)
    put(lists / "classInd.txt", "1 ApplyEyeMakeup\n3 YoYo\n")
    with pytest.raises(DatasetError, match=r"classInd\.txt, line 2: must be 2 and a name, but is '3 YoYo'"):
        open_dataset(ucf101, split="test")
    with pytest.raises(DatasetError, match=r"has no classInd\.txt"):
        open_dataset(ucf101 / "UCF-101", format="ucf101", split="test")


# -------------------------------------------------------------------------------------------------------------- HMDB-51


@pytest.fixture
def hmdb51(tmp_path: Path) -> Path:
    lists = tmp_path / "testTrainMulti_7030_splits"
    for name in ("brush_hair", "clap"):
        for fold in (1, 2, 3):
            flags = [1, 2, 0, 2] if fold == 1 else [2, 1, 1, 0]
            lines = [f"#{i}_{name}_(new)_u_nm_np1_ba_goo_{i}.avi {flag} \n" for i, flag in enumerate(flags)]
            put(lists / f"{name}_test_split{fold}.txt", "".join(lines))
        for i in range(3):
            put(tmp_path / "hmdb51_org" / name / f"#{i}_{name}_(new)_u_nm_np1_ba_goo_{i}.avi")
    return tmp_path


def test_hmdb51(hmdb51: Path) -> None:
    assert detect_format(hmdb51) == detect_format(hmdb51 / "testTrainMulti_7030_splits") == "hmdb51"
    train, test = (open_dataset(hmdb51, split=split) for split in dataset_splits(hmdb51))
    assert train.classes == test.classes == ("brush hair", "clap")
    assert facts(train) == [
        ("brush_hair/#0_brush_hair_(new)_u_nm_np1_ba_goo_0.avi", 0),
        ("clap/#0_clap_(new)_u_nm_np1_ba_goo_0.avi", 1),
    ]
    assert [name[-5] for name, _ in facts(test)] == ["1", "1"]
    assert len(test.problems) == 2  # number 3 of each
    assert "brush_hair_test_split1.txt, line 4: " in test.problems[0]
    second = open_dataset(hmdb51 / "testTrainMulti_7030_splits", split="train", fold=2)
    assert [name[-5] for name, _ in facts(second)] == ["1", "2", "1", "2"]
    assert second.name == "hmdb51/train2"


def test_hmdb51_with_invalid_lists(hmdb51: Path) -> None:
    lists = hmdb51 / "testTrainMulti_7030_splits"
    for line in ("a.avi 3", "a.avi"):
        put(lists / "clap_test_split1.txt", line)
        with pytest.raises(
            DatasetError, match=rf"clap_test_split1\.txt, line 1: must be .* 0, 1 or 2, but is '{line}'"
        ):
            open_dataset(hmdb51, split="train")
    with pytest.raises(ValueError, match="fold=0 must be 1, 2 or 3"):
        open_dataset(hmdb51, split="train", fold=0)
    for path in lists.glob("*_split3.txt"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"has no lists CLASS_test_split3\.txt"):
        open_dataset(hmdb51, split="train", fold=3)
    with pytest.raises(DatasetError, match=r"has neither lists CLASS_test_split1\.txt"):
        open_dataset(hmdb51 / "hmdb51_org", format="hmdb51", split="train")


# -------------------------------------------------------------------------------------------------------------- MSR-VTT


def videodatainfo(videos: dict[int, str], captions: list[tuple[int, str]]) -> str:
    content: dict[str, Any] = {
        "info": {"contributor": "Microsoft MSM group", "year": "2016"},
        "videos": [
            {
                "category": 9,
                "url": f"https://www.youtube.com/watch?v={i}",
                "video_id": f"video{i}",
                "start time": 137.72,
                "end time": 149.44,
                "split": split,
                "id": i,
            }
            for i, split in videos.items()
        ],
        "sentences": [{"caption": text, "video_id": f"video{i}", "sen_id": n} for n, (i, text) in enumerate(captions)],
    }
    return json.dumps(content)


@pytest.fixture
def msr_vtt(tmp_path: Path) -> Path:
    put(
        tmp_path / "train_val_videodatainfo.json",
        videodatainfo(
            {10: "train", 2: "train", 6513: "validate", 3: "train"},
            [
                (10, "a man sings"),
                (2, "a dog runs"),
                (10, "a man is singing"),
                (6513, "cooking"),
                (3, "gone"),
                (3, "away"),
            ],
        ),
    )
    put(tmp_path / "test_videodatainfo.json", videodatainfo({7010: "test", 7011: "test"}, [(7010, "a fox")]))
    put(
        tmp_path / "MSRVTT_JSFUSION_test.csv",
        'key,vid_key,video_id,sentence\nret0,msr7010,video7010,"a fox, walking"\nret1,msr2,video2,the dog\n',
    )
    for name in ("TrainValVideo/video10", "TrainValVideo/video2", "TrainValVideo/video6513", "TestVideo/video7010"):
        put(tmp_path / f"{name}.mp4")
    return tmp_path


def test_msr_vtt(msr_vtt: Path) -> None:
    assert detect_format(msr_vtt) == "msr-vtt"
    assert dataset_splits(msr_vtt) == ("train", "val", "test", "1k-A")
    train = open_dataset(msr_vtt, split="train")
    assert train.classes == ()
    assert [(train.name_of(sample), sample.text) for sample in train.samples] == [
        ("TrainValVideo/video2.mp4", "a dog runs"),
        ("TrainValVideo/video10.mp4", "a man sings"),
        ("TrainValVideo/video10.mp4", "a man is singing"),
    ]
    assert all((sample.label, sample.start, sample.end) == (None, None, None) for sample in train.samples)
    assert len(train.problems) == 1  # one for both captions
    assert "video3.mp4: there is no such file" in train.problems[0]
    assert [sample.text for sample in open_dataset(msr_vtt, split="validation").samples] == ["cooking"]
    test = open_dataset(msr_vtt, split="test")
    assert [sample.text for sample in test.samples] == ["a fox"]
    assert test.problems == (f"{msr_vtt}: video7011 has no caption",)
    retrieval = open_dataset(msr_vtt, split="1k-A")
    assert [sample.text for sample in retrieval.samples] == ["a fox, walking", "the dog"]
    assert retrieval.name == "msr-vtt/1k-A"


def test_msr_vtt_in_the_layout_of_retrieval_code(msr_vtt: Path, tmp_path: Path) -> None:
    whole = {10: "train", 2: "train", 6513: "validate", 7010: "test"}
    captions = [(10, "a man sings"), (2, "a dog runs"), (7010, "a fox")]
    put(tmp_path / "msrvtt_data" / "MSRVTT_data.json", videodatainfo(whole, captions))
    put(tmp_path / "msrvtt_data" / "MSRVTT_train.9k.csv", "video_id\nvideo10\nvideo7010\n")
    assert dataset_splits(tmp_path) == ("train", "val", "test", "9k", "1k-A")
    train = open_dataset(tmp_path, split="9k")
    assert [sample.text for sample in train.samples] == ["a man sings", "a fox"]
    assert [sample.text for sample in open_dataset(tmp_path, split="train").samples] == ["a dog runs", "a man sings"]
    alone = open_dataset(tmp_path / "MSRVTT_JSFUSION_test.csv", videos=tmp_path / "TestVideo")
    assert [alone.name_of(sample) for sample in alone.samples] == ["video7010.mp4"]
    assert len(alone.problems) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must have videos .* as MSR-VTT's files do"),
        ('{"videos": [], "sentences": []}', "lists no videos"),
        ('{"videos": [{"video_id": "video1"}], "sentences": []}', "'split' is missing"),
        (
            '{"videos": [{"video_id": "video1", "split": "train"}], "sentences": [3]}',
            "must have videos .* as MSR-VTT's files do",
        ),
        ('{"videos": [{"video_id": "video1", "split": "train"}], "sentences": []}', "video1 has no caption"),
    ],
)
def test_msr_vtt_with_an_invalid_file(tmp_path: Path, content: str, message: str) -> None:
    put(tmp_path / "train_val_videodatainfo.json", content)
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"has no train_val_videodatainfo\.json"):
        open_dataset(put(tmp_path / "other" / "a.json").parent, format="msr-vtt")
