"""Lists: text, CSV and JSON Lines, from any program and operating system."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from openxclip.datasets import Dataset, DatasetError, Sample, dataset_splits, open_dataset


def put(path: Path, content: bytes | str = b"video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for name in ("a.mp4", "my clip (1).mp4", "below/b.avi"):
        put(tmp_path / "videos" / name)
    return tmp_path / "videos"


def facts(dataset: Dataset) -> list[tuple[str, int | None, str | None, float | None, float | None]]:
    return [(dataset.name_of(s), s.label, s.text, s.start, s.end) for s in dataset.samples]


def test_text_lists(tmp_path: Path, videos: Path) -> None:
    path = put(tmp_path / "all.txt", "\ufeffa.mp4 run\r\n\r\n  my clip (1).mp4 \t walk\r\nbelow/b.avi run\r\n   \r\n")
    dataset = open_dataset(path, videos=videos)
    assert dataset.name == "all"
    assert dataset.classes == ("run", "walk")
    assert [fact[:2] for fact in facts(dataset)] == [("a.mp4", 0), ("my clip (1).mp4", 1), ("below/b.avi", 0)]
    assert dataset.samples[1].source == str(videos / "my clip (1).mp4")


def test_paths_are_relative_to_the_list_or_absolute(tmp_path: Path, videos: Path) -> None:
    path = put(tmp_path / "all.txt", f"videos/a.mp4 run\n{videos / 'below/b.avi'} walk\n")
    assert [fact[0] for fact in facts(open_dataset(path))] == ["videos/a.mp4", "videos/below/b.avi"]


def test_numbers_with_names(tmp_path: Path, videos: Path) -> None:
    path = put(tmp_path / "all.txt", "a.mp4 2\nbelow/b.avi 0\n")
    names = put(tmp_path / "names.txt", "Run\nwalk\nJumpHigh\n")
    dataset = open_dataset(path, videos=videos, names=names)
    assert dataset.classes == ("run", "walk", "jump high")
    assert [fact[1] for fact in facts(dataset)] == [2, 0]
    assert dataset.problems == ("the class 'walk' has no videos",)
    with pytest.raises(DatasetError, match=r"all\.txt, line 1: the labels are numbers"):
        open_dataset(path, videos=videos)
    put(path, "a.mp4 2\n\nbelow/b.avi 3\n")
    with pytest.raises(DatasetError, match=r"all\.txt, line 3: the label '3' is not in names"):
        open_dataset(path, videos=videos, names=names)


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_csv_lists(tmp_path: Path, videos: Path, between: str) -> None:
    lines = [
        "Path,Label, start ,end,comment",
        'a.mp4,"run, fast",,,x',
        '"my clip (1).mp4",walk,1.5,3,',
        "",
        'below/b.avi, "run, fast",0,,y',
    ]
    content = "\r\n".join(lines).replace(",", between).replace(f"run{between}", "run,")
    path = put(tmp_path / ("l.tsv" if between == "\t" else "l.csv"), "\ufeff" + content)
    dataset = open_dataset(path, videos=videos)
    assert dataset.classes == ("run, fast", "walk")
    assert facts(dataset) == [
        ("a.mp4", 0, None, None, None),
        ("my clip (1).mp4", 1, None, 1.5, 3.0),
        ("below/b.avi", 0, None, 0.0, None),
    ]


def test_csv_and_json_lines_with_captions(tmp_path: Path, videos: Path) -> None:
    csv = put(tmp_path / "l.csv", 'path,text\na.mp4,"a man, running"\na.mp4,"says ""go""\nand goes"\n')
    lines = '{"path": "a.mp4", "text": "a man, running"}\n\n{"path": "a.mp4", "text": "says \\"go\\"\\nand goes"}\n'
    jsonl = put(tmp_path / "l.jsonl", lines)
    expected = (
        Sample(str(videos / "a.mp4"), text="a man, running"),
        Sample(str(videos / "a.mp4"), text='says "go"\nand goes'),
    )
    for path in (csv, jsonl):
        dataset = open_dataset(path, videos=videos)
        assert dataset.samples == expected
        assert dataset.classes == ()


def test_json_lines(tmp_path: Path, videos: Path) -> None:
    lines = ['{"path": "a.mp4", "label": "7", "start": 1, "end": 2.5}', '{"path": "below/b.avi", "label": 8}']
    path = put(tmp_path / "l.jsonl", "\r\n".join(lines))
    dataset = open_dataset(path, videos=videos, names={"7": "run", "8": "walk"})
    assert facts(dataset) == [("a.mp4", 0, None, 1.0, 2.5), ("below/b.avi", 1, None, None, None)]


def test_missing_files_are_problems(tmp_path: Path, videos: Path) -> None:
    put(videos / "empty.mp4", b"")
    path = put(tmp_path / "l.txt", "a.mp4 run\ngone.mp4 run\nempty.mp4 walk\nbelow walk\nnul\0.mp4 run\n")
    dataset = open_dataset(path, videos=videos)
    assert [fact[:2] for fact in facts(dataset)] == [("a.mp4", 0)]
    assert dataset.classes == ("run", "walk")  # the same as with all files
    assert list(dataset.problems) == [
        f"{path}, line 2: {videos / 'gone.mp4'}: there is no such file",
        f"{path}, line 3: {videos / 'empty.mp4'}: is empty",
        f"{path}, line 4: {videos / 'below'}: is a folder",
        f"{path}, line 5: {videos / 'nul'}\0.mp4: can't be read: embedded null byte",
        "the class 'walk' has no videos",
    ]
    with pytest.raises(DatasetError, match=r"there are no videos: .*l\.txt, line 1: .* no such file \(and 4 more\)"):
        open_dataset(path, videos=tmp_path / "elsewhere")


def test_paths_as_other_systems_write_them(tmp_path: Path, videos: Path) -> None:
    put(videos / unicodedata.normalize("NFD", "é.mp4"))
    lines = ["below\\b.avi run", unicodedata.normalize("NFC", "é.mp4") + " walk"]
    dataset = open_dataset(put(tmp_path / "l.txt", "\n".join(lines)), videos=videos)
    assert [fact[0] for fact in facts(dataset)] == ["below/b.avi", unicodedata.normalize("NFC", "é.mp4")]


def test_lines_are_split_only_at_line_ends(tmp_path: Path, videos: Path) -> None:
    put(videos / "a\u2028b\x0c.mp4")
    dataset = open_dataset(put(tmp_path / "l.txt", "a\u2028b\x0c.mp4 run\ra.mp4 walk"), videos=videos)
    assert [fact[:2] for fact in facts(dataset)] == [("a\u2028b\x0c.mp4", 0), ("a.mp4", 1)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.txt", b"", "is an empty list"),
        ("l.txt", b"\n\na.mp4\n", r"l\.txt, line 3: must be a path, a space and a label, but is 'a\.mp4'"),
        ("l.txt", "a.mp4 run\nb\xe9.mp4 run\n".encode("latin-1"), r"l\.txt, line 2: is not text in UTF-8"),
        ("l.txt", "a.mp4 run\n".encode("utf-16"), "line 1: is not text in UTF-8"),
        ("l.csv", b"a.mp4,run\n", r"line 1: must name the columns, including path, but is 'a\.mp4,run' .*\.txt"),
        ("l.csv", b"path,name\na.mp4,run\n", "must have a column label or text, and has path, name"),
        ("l.csv", b"path,text\na.mp4,a man, running\n", r'line 2: has 3 fields, but there are 2 .*between "quotes"'),
        ("l.csv", b"path,label\n,run\n", "line 2: path=None must be the path"),
        ("l.csv", b"path,label\na.mp4,\n", "line 2: has neither a label nor a text"),
        ("l.csv", b"path,label,text\na.mp4,run,a man\n", "line 2: has both a label and a text"),
        ("l.csv", b"path,label,start\na.mp4,run,soon\n", "line 2: start='soon' must be a time"),
        ("l.csv", b"path,label,start\na.mp4,run,-1\n", "line 2: start='-1' must be a time"),
        ("l.csv", b"path,label,end\na.mp4,run,nan\n", "line 2: end='nan' must be a time"),
        ("l.csv", b"path,label,start,end\na.mp4,run,2,2\n", "line 2: end=2.0 must be after start=2.0"),
        ("l.csv", b"path,label,end\na.mp4,run,0\n", "line 2: end=0.0 must be after start=0.0"),
        ("l.csv", b"path,label\na.mp4,run\n" + b"x" * 200_000, "line 3: is not CSV"),
        ("l.jsonl", b'{"path": "a.mp4", "label": "run"}\n{"path": ', "line 2: is not JSON"),
        ("l.jsonl", b'["a.mp4", "run"]', "line 1: must be an object"),
        ("l.jsonl", b'{"label": "run"}', "line 1: path=None"),
        ("l.jsonl", b'{"path": 3, "label": "run"}', "line 1: path=3"),
        ("l.jsonl", b'{"path": "a.mp4", "label": true}', "line 1: label=True"),
        ("l.jsonl", b'{"path": "a.mp4", "label": 1.5}', "line 1: label=1.5"),
        ("l.jsonl", b'{"path": "a.mp4", "label": " "}', "line 1: label=' '"),
        ("l.jsonl", b'{"path": "a.mp4", "text": ""}', "line 1: text=''"),
        ("l.jsonl", b'{"path": "a.mp4", "label": "run", "start": []}', r"line 1: start=\[\]"),
        ("l.jsonl", b'{"path": "a.mp4", "label": "run", "end": 1e999}', "line 1: end=inf"),
        ("l.jsonl", b'{"path": "a.mp4", "label": "run", "end": 1' + b"0" * 400 + b"}", "line 1: end=1000"),
        ("l.jsonl", b"[" * 100_000, "line 1: is not JSON"),
        (
            "l.jsonl",
            b'{"path": "a.mp4", "label": "x"}\n{"path": "a.mp4", "text": "x"}',
            "line 2: has a caption, but",
        ),
    ],
)
def test_invalid_lines_are_refused(tmp_path: Path, videos: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset(put(tmp_path / name, content), videos=videos)


def test_a_folder_of_lists_for_splits(tmp_path: Path, videos: Path) -> None:
    put(tmp_path / "train.txt", "a.mp4 run\nbelow/b.avi swim\n")
    put(tmp_path / "valid.csv", "path,label\na.mp4,walk\n")
    put(tmp_path / "notes.txt", "unrelated")
    assert dataset_splits(tmp_path) == ("train", "val")
    train, val = (open_dataset(tmp_path, split=split, videos=videos) for split in ("train", "val"))
    assert train.classes == val.classes == ("run", "swim", "walk")
    assert [sample.label for sample in train.samples + val.samples] == [0, 1, 2]
    with pytest.raises(ValueError, match="has no split 'test': its splits are train, val"):
        open_dataset(tmp_path, split="test", videos=videos)
    with pytest.raises(ValueError, match="it is a list, without splits"):
        open_dataset(tmp_path / "train.txt", split="train", videos=videos)
    put(tmp_path / "val.jsonl")
    with pytest.raises(DatasetError, match=r"both val\.jsonl and valid\.csv are the split val"):
        open_dataset(tmp_path, split="train", videos=videos)


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no lists such as train\.csv"):
        open_dataset(tmp_path, format="list")


def test_tabs_separate_fields_in_any_order(tmp_path: Path, videos: Path) -> None:
    """Some programs write a running number, too; labels may contain spaces."""
    expected = [("a.mp4", 1), ("my clip (1).mp4", 0), ("below/b.avi", 1)]
    orders = {
        "path, label": "a.mp4\ttie a tie\nmy clip (1).mp4\trun\nbelow/b.avi\ttie a tie\n",
        "label, path": "tie a tie\ta.mp4\nrun\tmy clip (1).mp4\ntie a tie\tbelow/b.avi\n",
        "number, label, path": "0\ttie a tie\ta.mp4\n1\trun\tmy clip (1).mp4\n2\ttie a tie\tbelow/b.avi\n",
        "path, label, number": "a.mp4\ttie a tie\t1\nmy clip (1).mp4\trun\t2\nbelow/b.avi\ttie a tie\t3\n",
    }
    for order, text in orders.items():
        dataset = open_dataset(put(tmp_path / "all.txt", text), videos=videos)
        assert dataset.classes == ("run", "tie a tie"), order
        assert [fact[:2] for fact in facts(dataset)] == expected, order


def test_running_number_and_numbered_label(tmp_path: Path, videos: Path) -> None:
    names = put(tmp_path / "names.csv", "id,name\n0,run\n1,walk\n")
    path = put(tmp_path / "all.txt", "0\t1\ta.mp4\n1\t1\tmy clip (1).mp4\n2\t0\tbelow/b.avi\n")
    assert [fact[1] for fact in facts(open_dataset(path, videos=videos, names=names))] == [1, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "5\t1\ta.mp4\n9\t0\tbelow/b.avi\n",
            "line 1: must be a path, a tab and a label, or a running",
        ),
        ("a.mp4\tbelow/b.avi\trun\n", "line 1: must be a path, a tab and a label"),
        ("a.mp4\trun\nbelow/b.avi\twalk\t3\n", "line 2: has 3 fields, but the first line has 2"),
        ("0\t1\t2\ta.mp4\n", "line 1: must be a path, a tab and a label"),
    ],
)
def test_ambiguous_columns_are_refused(tmp_path: Path, videos: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset(put(tmp_path / "all.txt", text), videos=videos)
