"""Folders, prefixes and manifests list each video once, with what is known about it, and say what they leave out."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from s3_server import S3Server

from openxclip.search.bulk import repeats
from openxclip.search.bulk.items import Source, SourceItem
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.sources import is_manifest, open_source


def listed(source: Source) -> list[SourceItem]:
    return [item for part in source.items() for item in part]


def paths(source: Source) -> list[str]:
    return [item.path for item in listed(source)]


def write_csv(path: Path, *rows: tuple[Any, ...]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def write_jsonl(path: Path, *rows: Any) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def test_a_folder_lists_videos_with_their_stamps_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".hidden").mkdir(parents=True)
    for name in ("a.mp4", "sub/b.MKV", "notes.txt", "sub/.c.mp4", "sub/.hidden/d.mp4"):
        (tmp_path / name).write_bytes(b"1234")
    source = open_source(tmp_path)
    found = {item.path: item for item in listed(source)}
    assert sorted(found) == [str(tmp_path / "a.mp4"), str(tmp_path / "sub" / "b.MKV")]
    item = found[str(tmp_path / "a.mp4")]
    assert (item.size, item.modified) == (4, (tmp_path / "a.mp4").stat().st_mtime_ns)
    assert source.count == 2
    assert source.notes == [
        "left out 1 file that is not a video.",
        "left out 2 hidden files and folders: --hidden includes them.",
    ]
    assert len(paths(open_source(tmp_path, hidden=True))) == 4
    assert paths(open_source(tmp_path / "a.mp4")) == [str(tmp_path / "a.mp4")]


def test_a_folder_without_videos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no videos in"):
        listed(open_source(tmp_path))
    with pytest.raises(ValueError, match="there is no such file or folder"):
        open_source(tmp_path / "missing")
    with pytest.raises(ValueError, match="begins with s3://"):
        open_source("ftp://host/videos")


def test_a_prefix_lists_the_videos_below_it_by_their_names(s3: S3Server) -> None:
    bucket = s3.bucket("listing")
    objects = Objects.open(bucket)
    for name in ("in/a.mp4", "in/sub/b.webm", "in/notes.txt", "in/.cache/c.mp4", "inside/d.mp4"):
        objects.put(name, b"12345")
    source = open_source(f"{bucket}/in/")
    found = listed(source)
    assert [item.path for item in found] == [f"{bucket}/in/a.mp4", f"{bucket}/in/sub/b.webm"]
    assert all(item.size == 5 and item.modified and item.etag for item in found)
    assert len(source.notes) == 2
    assert paths(open_source(f"{bucket}/in/a.mp4")) == [f"{bucket}/in/a.mp4"]
    with pytest.raises(ValueError, match="no videos below"):
        listed(open_source(f"{bucket}/nothing"))


def test_a_csv_manifest_finds_the_types_of_its_columns(tmp_path: Path) -> None:
    name = write_csv(
        tmp_path / "m.csv",
        ("path", "year", "rate", "kind", "zip", "is_new", "empty"),
        ("a.mp4", 2001, "", "x", "01234", "true", ""),
        ("../b.mp4", "", 0.5, 7, "99999", "FALSE", ""),
        ("/abs//c.mp4", -3, 12, "", "", "", ""),
        ("s3://bucket/d.mp4", 1, "1e3", "", "", "", ""),
    )
    source = open_source(name)
    assert source.columns == pa.schema(
        [
            ("year", pa.int64()),
            ("rate", pa.float64()),
            ("kind", pa.string()),
            ("zip", pa.string()),
            ("is_new", pa.bool_()),
        ]
    )
    items = listed(source)
    assert [item.path for item in items] == [
        str(tmp_path / "a.mp4"), str(tmp_path.parent / "b.mp4"), "/abs/c.mp4", "s3://bucket/d.mp4"
    ]  # fmt: skip
    assert items[0].columns == {"year": 2001, "rate": None, "kind": "x", "zip": "01234", "is_new": True}
    assert items[1].columns == {"year": None, "rate": 0.5, "kind": "7", "zip": "99999", "is_new": False}
    assert items[3].columns["rate"] == 1000
    assert source.notes == [f"{name}: the column empty has no values and is left out."]
    assert source.count == 4
    assert "4 videos" in source.describe()


def test_a_jsonl_manifest_takes_columns_that_only_some_rows_have(tmp_path: Path) -> None:
    name = write_jsonl(
        tmp_path / "m.jsonl",
        {"path": "a.mp4", "n": 1, "mixed": 5},
        {"path": "b.mp4", "n": 2.5, "mixed": "x", "big": 2**70},
        {"path": "c.mp4", "n": None, "late": True, "mixed": False},
    )
    source = open_source(name)
    assert {field.name: str(field.type) for field in source.columns} == {
        "n": "double", "mixed": "string", "big": "string", "late": "bool"
    }  # fmt: skip
    first, second, third = listed(source)
    assert first.columns == {"n": 1.0, "mixed": "5", "big": None, "late": None}
    assert second.columns["big"] == str(2**70)
    assert third.columns == {"n": None, "mixed": "false", "big": None, "late": True}
    assert source.notes == [f"{name}: the column mixed has values of different kinds and is kept as text."]


def test_a_parquet_manifest_keeps_its_types(tmp_path: Path) -> None:
    name = str(tmp_path / "m.parquet")
    when = datetime(2020, 1, 2, 3, 4, 5, 678)
    table = pa.table(
        {
            "path": pa.array(["a.mp4", "b.mp4"]).dictionary_encode(),
            "camera": pa.array([3, None], pa.int16()),
            "at": pa.array([when, None], pa.timestamp("ns")),
            "place": pa.array(["x", "y"], pa.large_string()),
            "nothing": pa.nulls(2),
        }
    )
    parquet.write_table(table, name)
    source = open_source(name)
    assert {field.name: str(field.type) for field in source.columns} == {
        "camera": "int16", "at": "timestamp[us]", "place": "string"
    }  # fmt: skip
    first, second = listed(source)
    assert first == SourceItem(str(tmp_path / "a.mp4"), columns={"camera": 3, "at": when, "place": "x"})
    assert second.columns == {"camera": None, "at": None, "place": "y"}
    assert len(source.notes) == 2
    assert not is_manifest(str(tmp_path))
    assert is_manifest(name)


@pytest.mark.parametrize("spills", [False, True])
def test_a_path_that_is_there_twice_counts_once(tmp_path: Path, spills: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if spills:
        monkeypatch.setattr(repeats, "_IN_MEMORY", 3)
    names = ["a.mp4", "b.mp4", f"{tmp_path}/a.mp4", "c.mp4", "./b.mp4", "b.mp4", ""]
    name = write_csv(tmp_path / "m.csv", ("path", "n"), *((path, i) for i, path in enumerate(names)))
    source = open_source(name)
    assert [(Path(item.path).name, item.columns["n"]) for item in listed(source)] == [
        ("a.mp4", 0), ("b.mp4", 1), ("c.mp4", 3)
    ]  # fmt: skip
    assert source.count == 3
    assert source.notes == [
        f"{name}: 1 row has no path, or none in UTF-8, and is left out.",
        f"{name}: 3 rows repeat the paths of earlier rows, whose columns are kept.",
    ]


def test_two_paths_with_the_same_hash_are_two_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from openxclip.search.bulk import manifests

    monkeypatch.setattr(manifests, "hash", lambda path: 1, raising=False)
    monkeypatch.setattr(repeats, "hash", lambda path: 1, raising=False)
    assert len(paths(open_source(write_csv(tmp_path / "m.csv", ("path",), ("a.mp4",), ("b.mp4",), ("a.mp4",))))) == 2


def test_a_manifest_in_a_store_has_paths_relative_to_its_folder(s3: S3Server) -> None:
    bucket = s3.bucket("manifests")
    Objects.open(bucket).put("lists/m.csv", b"path\nclips/a.mp4\n../b.mp4\n/data/c.mp4\n")
    source = open_source(f"{bucket}/lists/m.csv")
    assert paths(source) == [f"{bucket}/lists/clips/a.mp4", f"{bucket}/b.mp4", "/data/c.mp4"]


def test_a_csv_column_of_numbers_and_text_is_noted(tmp_path: Path) -> None:
    name = tmp_path / "m.csv"
    name.write_text("path,x,y\na.mp4,1,1\nb.mp4,NA,\nc.mp4,2.5,2\n")
    source = open_source(str(name))
    items = [item.columns for part in source.items() for item in part]
    assert items == [{"x": "1", "y": 1}, {"x": "NA", "y": None}, {"x": "2.5", "y": 2}]
    assert source.notes == [f"{name}: the column x has values of different kinds and is kept as text."]


def write_parts(folder: Path) -> None:
    folder.mkdir()
    for number, name in enumerate(["part-1.parquet", "part-0.parquet"]):
        table = pa.table({"path": [f"{number}.mp4", "clips/b.mp4"], "camera": [number, 7]})
        parquet.write_table(table, folder / name)
    (folder / "_SUCCESS").touch()
    (folder / "_temporary.parquet").write_bytes(b"half")


@pytest.mark.parametrize("in_store", [False, True])
def test_a_folder_of_parquet_files_is_a_manifest(
    in_store: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / "m.parquet"
    write_parts(folder)
    name, place = f"{folder}/", str(tmp_path)
    if in_store:
        place = request.getfixturevalue("s3").bucket("parts")
        name = f"{place}/m.parquet"
        for part in folder.iterdir():
            Objects.open(place).put(f"m.parquet/{part.name}", part.read_bytes())
    assert is_manifest(name)
    source = open_source(name)
    items = [(item.path, item.columns["camera"]) for part in source.items() for item in part]
    assert items == [(f"{place}/1.mp4", 1), (f"{place}/clips/b.mp4", 7), (f"{place}/0.mp4", 0)]
    assert source.count == 3
    assert source.notes == [f"{name.rstrip('/')}: 1 row repeats the path of earlier rows, whose columns are kept."]


def test_parts_of_a_manifest_that_do_not_fit(tmp_path: Path) -> None:
    folder = tmp_path / "m.parquet"
    write_parts(folder)
    parquet.write_table(pa.table({"path": ["a"], "camera": ["front"]}), folder / "part-2.parquet")
    with pytest.raises(ValueError, match=r"part-2.parquet: its column 'camera' is string, but in .*part-0.par"):
        open_source(str(folder))
    parquet.write_table(pa.table({"path": ["a"]}), folder / "part-2.parquet")
    with pytest.raises(ValueError, match=r"part-2.parquet: its column 'camera' is missing, but in .* int64: write all"):
        open_source(str(folder))
    (folder / "day=1").mkdir()
    (folder / "part-2.parquet").rename(folder / "day=1" / "part-2.parquet")
    with pytest.raises(ValueError, match="its parts are in folders of their own, such as day=1, whose names would be"):
        open_source(str(folder))


def parquet_of(**columns: Any) -> Any:
    return lambda path: parquet.write_table(pa.table(columns), path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "file,year\nx,1\n", "needs a column 'path': it has file, year"),
        ("m.csv", "path,a\nx.mp4\n", "line 2: has 1 value, but the header names 2 columns"),
        ("m.csv", "path,a,a\nx.mp4,1,2\n", "must name each column, once"),
        ("m.csv", "path\n", "lists no videos"),
        ("m.csv", "", "needs a column 'path': it has none"),
        ("m.csv", b"path\n\xff\xfe\n", "can't be read as CSV"),
        ("m.jsonl", '{"path": "a.mp4"}\n{"path": \n', "line 2: can't be read as JSON"),
        ("m.jsonl", '{"path": "a.mp4"}\n[1]\n', "line 2: must be a JSON object"),
        ("m.jsonl", '{"path": "a.mp4"}\n{"path": 7}\n', "line 2: the path must be text, not 7"),
        ("m.jsonl", '{"path": "a.mp4", "tags": ["x"]}\n', "line 1: 'tags' has a value of the type list"),
        ("m.parquet", b"PAR1 no", "can't be read as Parquet"),
        ("m.parquet", parquet_of(path=[1, 2]), "the column 'path' must be text, but is int64"),
        ("m.parquet", parquet_of(path=["a"], tags=[["x"]]), "the column 'tags' has the type list"),
    ],
)
def test_a_manifest_that_cannot_be_understood_says_why(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        listed(open_source(path))
    assert str(path) in str(caught.value)


def test_windows_that_were_exported_are_no_manifest(tmp_path: Path) -> None:
    table = pa.table({"path": ["a.mp4"]}).replace_schema_metadata({"openxclip": "{}"})
    parquet.write_table(table, tmp_path / "windows.parquet")
    assert not is_manifest(str(tmp_path / "windows.parquet"))


def test_links_to_folders_are_noted(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"a video")
    (tmp_path / "videos" / "linked").symlink_to(tmp_path / "elsewhere")
    source = open_source(tmp_path / "videos")
    assert [item.path for part in source.items() for item in part] == [str(tmp_path / "videos" / "a.mp4")]
    assert source.notes == ["left out 1 link to a folder: name that folder itself."]
