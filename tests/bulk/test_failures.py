"""The dead letters of an index."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import lancedb
import pytest
from s3_server import S3Server

from openxclip.errors import StoreError, VideoIndexError
from openxclip.search.bulk.failures import TABLE, Failure, Failures
from openxclip.search.bulk.items import SourceItem
from openxclip.search.columns import columns_to_text

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def by_path(failures: Failures) -> dict[str, Failure]:
    return {row.path: row for part in failures.rows(2) for row in part}


@pytest.mark.parametrize("in_store", [False, True])
def test_failures_are_recorded_read_and_removed(in_store: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    uri = f"{request.getfixturevalue('s3').bucket('failures')}/index" if in_store else str(tmp_path / "index")
    failures = Failures(uri)
    assert failures.count() == 0
    assert list(failures.items()) == []
    failures.remove(["a"])
    first = [Failure(path=f"it's {number}", reason="broken", node="n1", time=10.0 + number) for number in range(5)]
    failures.record(first)
    assert by_path(failures) == {row.path: row for row in first}
    assert sorted(item.path for part in failures.items(2) for item in part) == [row.path for row in first]
    failures.record(first[:2])  # the same once more
    failures.record([Failure(path="it's 0", reason="crashed", attempts=3, node="n2", time=99.0)])
    failures.remove(["it's 4", "unknown"])
    rows = by_path(Failures(uri))
    assert Failures(uri).count() == len(rows) == 4
    assert rows["it's 0"] == Failure(path="it's 0", reason="crashed", attempts=4, node="n2", time=99.0)
    assert rows["it's 1"].attempts == 1


def test_failures_keep_the_metadata_of_their_videos(tmp_path: Path) -> None:
    columns = {
        "camera": "é", "shelf": 3, "share": 0.5, "is_new": True, "at": datetime(2026, 1, 2, 3, tzinfo=UTC),
        "day": date(2026, 1, 2), "tags": ["a", "b"], "nothing": None, "price": Decimal("1.50"),
    }  # fmt: skip
    with_columns = Failure(path="a", reason="broken", columns=columns_to_text(columns))
    Failures(str(tmp_path)).record([with_columns, Failure(path="b", reason="broken")])
    items = sorted((item for part in Failures(str(tmp_path)).items() for item in part), key=lambda item: item.path)
    assert items == [SourceItem("a", columns=columns), SourceItem("b")]


def test_another_process_sees_what_was_recorded_later(tmp_path: Path) -> None:
    one, other = Failures(str(tmp_path)), Failures(str(tmp_path))
    one.record([Failure(path="a", reason="broken")])
    assert other.count() == 1
    one.record([Failure(path="b", reason="broken")])
    assert other.count() == 2


def test_errors_are_one_sentence(s3: S3Server, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no bucket missing: make it, or correct the name"):
        Failures("s3://missing/index").record([Failure(path="a", reason="broken")])
    lancedb.connect(tmp_path).create_table(TABLE, [{"other": 1}])
    with pytest.raises(VideoIndexError, match="the table of failures can't be written: "):
        Failures(str(tmp_path)).record([Failure(path="a", reason="broken")])
