"""pylance and the Lance inside LanceDB: what one writes the other reads, updates and compacts; others are refused."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import lance
import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lance.fragment import FragmentMetadata, write_fragments
from lancedb.table import LanceTable

from openxclip import VideoIndexError
from openxclip.search.bulk.lance_versions import check_same_major, import_lance, inner_version, writers

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:optimize:UserWarning"),
]
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32(), 8), nullable=False),
        pa.field("patches", pa.binary()),
    ],
    metadata={b"openxclip": b"{}"},
)


def rows(*ids: int) -> pa.Table:
    embeddings = np.stack([np.random.default_rng(number).normal(size=8).astype(np.float32) for number in ids])
    column = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), type=SCHEMA.field("embedding").type)
    return pa.table([pa.array(ids), column, pa.array([None, *[b"x"] * (len(ids) - 1)])], schema=SCHEMA)


def ids(table: LanceTable) -> list[int]:
    table.checkout_latest()
    return sorted(table.to_arrow()["id"].to_pylist())


def append(uri: str, *numbers: int) -> None:
    """Append rows with pylance, by metadata that went through JSON."""
    (fragment,) = write_fragments(rows(*numbers), uri, mode="append")
    fragment = FragmentMetadata.from_json(json.dumps(fragment.to_json()))
    version = lance.dataset(uri).version
    lance.LanceDataset.commit(uri, lance.LanceOperation.Append([fragment]), read_version=version)


def test_pylance_and_lancedb_write_one_table(tmp_path: Path) -> None:
    table = lancedb.connect(tmp_path).create_table("windows", schema=SCHEMA)
    uri = str(tmp_path / "windows.lance")
    append(uri, 1, 2, 3)
    assert ids(table) == [1, 2, 3]
    assert table.schema.metadata == SCHEMA.metadata
    table.add(rows(4, 5))
    table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows(3, 6))
    table.delete("id = 4")
    append(uri, 7, 8)
    assert ids(table) == [1, 2, 3, 5, 6, 7, 8]
    append(uri, 9)
    table.checkout_latest()
    table.optimize(cleanup_older_than=timedelta(0))
    assert table.stats()["fragment_stats"]["num_fragments"] == 1
    table.create_scalar_index("id")
    dataset = lance.dataset(uri)
    assert sorted(dataset.to_table()["id"].to_pylist()) == [1, 2, 3, 5, 6, 7, 8, 9]
    append(uri, 10)
    dataset = lance.dataset(uri)
    dataset.delete("id = 1")
    dataset.optimize.compact_files()
    assert ids(table) == [2, 3, 5, 6, 7, 8, 9, 10]
    assert table.search().where("id = 10").to_arrow()["id"].to_pylist() == [10]
    query = rows(7)["embedding"][0].as_py()
    assert table.search(query, vector_column_name="embedding").limit(1).to_list()[0]["id"] == 7


def test_the_version_inside_lancedb_is_that_of_its_manifests(tmp_path: Path) -> None:
    assert inner_version().partition(".")[0] == lance.__version__.partition(".")[0]
    assert import_lance() is lance
    lance.write_dataset(rows(1), str(tmp_path / "own.lance"))
    (manifest,) = tmp_path.glob("own.lance/_versions/*.manifest")
    assert writers(manifest.read_bytes()) == [lance.__version__]
    assert writers(b"no manifest") == []


def test_another_major_version_is_refused() -> None:
    check_same_major("13.4.1", "13.0.0")
    with pytest.raises(
        VideoIndexError, match=r"pylance 12\.9\.0 doesn't fit the Lance 13\.0\.0 inside LanceDB: .*13\.\*"
    ):
        check_same_major("12.9.0", "13.0.0")
