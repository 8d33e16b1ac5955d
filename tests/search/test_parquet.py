"""Parquet export and import: nothing is lost, and windows that don't fit an index are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from openxclip import CheckpointError, VideoIndex, VideoIndexError
from openxclip.search import parquet as exporting

TEXT = "a red video"


@pytest.fixture
def exported(index: VideoIndex, tmp_path: Path) -> Path:
    path = tmp_path / "windows.parquet"
    assert index.export(path) == len(index)
    return path


def scores(index: VideoIndex) -> dict:
    hits = index.search(TEXT, k=100, merge=False)
    assert all(hit.reranked for hit in hits)
    assert len({(hit.path, hit.start) for hit in hits}) == len(hits) == len(index)
    return {(hit.path, hit.start): hit.score for hit in hits}


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def changed(path: Path, change, **info) -> Path:
    """Write a changed copy of an exported file."""
    table = parquet.read_table(path)
    metadata = {**json.loads(table.schema.metadata[b"openxclip"]), **info}
    table = change(table).replace_schema_metadata({"openxclip": json.dumps(metadata)})
    new = path.with_name("changed.parquet")
    parquet.write_table(table, new)
    return new


def test_export_and_import(index, exported, tmp_path, pipeline, videos) -> None:
    assert {"path", "start", "end", "embedding", "patches"} <= set(parquet.read_schema(exported).names)
    other = VideoIndex.open(tmp_path / "other", device="cpu")
    assert sorted(other.add(exported).added) == index.files()
    assert other.info == index.info
    assert scores(other) == pytest.approx(scores(index), abs=1e-5)
    assert sorted(other.add(exported).added) == index.files()  # replaces what the first import added
    assert len(other) == len(index)
    assert scores(other) == pytest.approx(scores(index), abs=1e-5)
    assert len(other.add(videos).unchanged) == 3  # the export has what recognises the files


def test_parts_from_several_machines(index, exported, videos, tmp_path, pipeline) -> None:
    (videos / "more/blue.mp4").rename(videos / "only.mp4")
    part = VideoIndex.open(tmp_path / "part", model=pipeline, window=0.4, stride=0.2)
    part.add([videos / "only.mp4", videos / "red2.mp4"])
    part.export(tmp_path / "part.parquet")
    whole = VideoIndex.open(tmp_path / "whole", model=pipeline)
    done = whole.add(str(tmp_path / "*.parquet"))
    assert sorted(done.added) == sorted({*index.files(), str(videos / "only.mp4")})
    assert len(whole) == 16
    assert len({(hit.path, hit.start) for hit in whole.search(TEXT, k=100, merge=False)}) == 16


def test_an_import_removes_windows_that_the_file_lacks(index, exported, pipeline, videos, tmp_path) -> None:
    red = str(videos / "red2.mp4")
    table = parquet.read_table(exported)
    keep = [row["path"] != red or row["number"] < 2 for row in table.select(["path", "number"]).to_pylist()]
    index.add(changed(exported, lambda t: t.filter(pa.array(keep))))
    assert len(index) == len(table) - 2
    assert len(index.search(TEXT, where=f"path = '{red}'", merge=False)) == 2


def test_an_interrupted_import_leaves_no_incomplete_video(index, exported, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "_BATCH_ROWS", 3)
    other = VideoIndex.open(tmp_path / "other", device="cpu")
    tables = exporting.ParquetWindows.tables

    def stopped(self, *, patches):
        for number, table in enumerate(tables(self, patches=patches)):
            if number == 2:
                raise RuntimeError("stopped")
            yield table

    for into, before in ((other, {}), (index, scores(index))):
        rows = exporting.ParquetWindows(str(exported)).video_rows()
        with monkeypatch.context() as patched:
            patched.setattr(exporting.ParquetWindows, "video_rows", lambda self, rows=rows: rows)
            patched.setattr(exporting.ParquetWindows, "tables", stopped)
            with pytest.raises(VideoIndexError, match="can't be written"):
                into.add(exported)
        assert len(into) == len(before)
    assert scores(index) == pytest.approx(before, abs=1e-5)
    other.add(exported)
    assert scores(other) == pytest.approx(scores(index), abs=1e-5)


def test_windows_that_do_not_fit_are_refused(index, exported, tmp_path, pipeline) -> None:
    def longer(table: pa.Table) -> pa.Table:
        values = np.stack(table["embedding"].to_numpy()) * 3
        array = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        return with_column(table, "embedding", array)

    before = scores(index)
    for change, info, message in (
        (lambda t: t, {"weights": "0" * 64}, "its windows have weights 0000"),
        (lambda t: t, {"window": 3.0}, r"have window 3\.0, but the index's have 0\.4"),
        (lambda t: t, {"patches": False}, "has no patches"),
        (longer, {}, "has length 3: it must be 1"),
        (lambda t: t.drop(["embedding"]), {}, "has no column 'embedding'"),
        (lambda t: t.slice(1), {}, "are missing: they need the numbers"),
        (lambda t: pa.concat_tables([t, t]), {}, "two windows have the same path and number"),
        (lambda t: t, {"weights": None}, "have weights None"),
        (lambda t: t.drop(["patches"]), {}, "has no column 'patches'"),
        (lambda t: with_column(t, "patches", pa.nulls(len(t), pa.binary())), {}, "has rows without patches"),
        (lambda t: with_column(t, "path", pa.nulls(len(t), pa.string())), {}, "has rows without path"),
        (lambda t: with_column(t, "start", pa.array([np.nan] * len(t))), {}, "has a start that isn't finite"),
        (lambda t: with_column(t, "number", pa.array(["a"] * len(t))), {}, "can't be read"),
    ):
        with pytest.raises(VideoIndexError, match=message):
            index.add(changed(exported, change, **info))
    schema = parquet.read_schema(exported)
    for number, metadata in enumerate(({}, {"openxclip": "{nope"}, {"openxclip": "[1]"}, {"openxclip": "{}"})):
        path = tmp_path / f"metadata{number}.parquet"
        parquet.write_table(parquet.read_table(exported).replace_schema_metadata(metadata), path)
        for into in (index, VideoIndex.open(tmp_path / "new", device="cpu")):
            with pytest.raises(VideoIndexError, match="doesn't describe the model"):
                into.add(path)
    assert not (tmp_path / "new").exists()
    parquet.write_table(pa.table({"path": ["a"]}).replace_schema_metadata(schema.metadata), tmp_path / "other.parquet")
    (tmp_path / "broken.parquet").write_bytes(exported.read_bytes()[:-100])
    for name, message in (
        ("other", "has no column"),
        ("broken", "can't be read as Parquet"),
        ("none", "can't be read"),
    ):
        with pytest.raises(VideoIndexError, match=message):
            index.add(tmp_path / f"{name}.parquet")
    assert scores(index) == pytest.approx(before, abs=1e-5)
    with pytest.raises(ValueError, match=r"must end with \.parquet"):
        index.export(tmp_path / "windows.csv")
    with pytest.raises(VideoIndexError, match="there is no index"):
        VideoIndex.open(tmp_path / "nothing").export(tmp_path / "x.parquet")
    wanted = VideoIndex.open(tmp_path / "fresh", model=pipeline, window=3.0)
    with pytest.raises(VideoIndexError, match=r"have window 0\.4, but the index's have 3\.0"):
        wanted.add(exported)
    with pytest.raises(CheckpointError):
        VideoIndex.open(tmp_path / "fresh", model=tmp_path).add(exported)  # a folder without a model
    assert not (tmp_path / "fresh").exists()


def test_without_patches(index, exported, tmp_path, pipeline) -> None:
    plain = VideoIndex.open(tmp_path / "plain", model=pipeline, patches=False)
    plain.add(exported)
    assert not any(hit.reranked for hit in plain.search(TEXT))
