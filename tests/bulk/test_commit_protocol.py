"""A commit of receipts: what it writes, refuses and replaces; and that a kill between two steps changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pytest
from lancedb.table import LanceTable
from made_receipts import (
    committer,
    create_index,
    failed_video,
    rows_of,
    state_of,
    video,
    write_receipt,
)

from openxclip import VideoIndexError
from openxclip.search import maintenance
from openxclip.search.bulk import committing
from openxclip.search.bulk.failures import Failure, Failures
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.receipts import FOLDER, Receipt, waiting
from openxclip.search.bulk.writing import data_files, object_name
from openxclip.search.schema import VideoRow
from openxclip.search.store import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:optimize:UserWarning"),
]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    create_index(str(tmp_path / "index"))
    return str(tmp_path / "index")


@pytest.fixture
def objects(uri: str) -> Objects:
    return Objects.open(uri)


def local_index(uri: str, *videos: VideoRow) -> tuple[Any, Any]:
    """Return what an index holds to which one process has written the same videos."""
    store = create_index(uri).store
    store.put_videos(videos, new=True)
    store.add_windows([window for row in videos if row.state == "complete" for window in rows_of(row)])
    return state_of(uri)


def test_committed_receipts_equal_an_index_of_one_writer(uri: str, objects: Objects, tmp_path: Path) -> None:
    first = write_receipt(objects, video("/a.mp4"), failed_video("/broken.mp4", content="b"), video("/b.mp4"))
    write_receipt(objects, video("/c.mp4", windows=5), fragment_bytes=1)  # each window in a fragment
    done = committer(uri).recover()
    assert (done.videos, done.windows, done.failed, done.refused, done.again) == (3, 9, 1, 0, ())
    expected = local_index(str(tmp_path / "local"), *first.videos, video("/c.mp4", windows=5))
    assert state_of(uri) == expected
    assert not list(objects.list(FOLDER))
    assert [(row.path, row.reason) for part in Failures(uri).rows() for row in part] == [
        ("/broken.mp4", "it is broken")
    ]


def test_a_search_sees_committed_videos_only(uri: str, objects: Objects) -> None:
    store = Store(uri)
    store.open()
    receipt = write_receipt(objects, video("/a.mp4"))
    assert store.count_windows() == 0
    committer(uri).commit([receipt])
    store.refresh()
    assert store.count_windows() == 2
    row = rows_of(receipt.videos[0])[1]
    (found,) = store.nearest(row["embedding"], 1, None, patches=False)
    assert (found["path"], found["number"]) == ("/a.mp4", 1)


def test_a_receipt_without_windows_records_its_failure(uri: str, objects: Objects) -> None:
    failure = Failure(path="/killer.mp4", reason="it ended its worker", attempts=3, node="n1")
    receipt = write_receipt(objects, put=False, failures=[failure])
    assert committer(uri).commit([receipt]).failed == 1
    assert state_of(uri)[0]["/killer.mp4"][0] == "failed"
    assert next(Failures(uri).rows()) == [failure]
    write_receipt(objects, video("/killer.mp4"))
    committer(uri).recover()
    assert {state for state, _ in state_of(uri)[0].values()} == {"complete"}
    assert Failures(uri).count() == 0


def test_work_that_was_repeated_is_written_once(uri: str, objects: Objects) -> None:
    write_receipt(objects, video("/a.mp4"), video("/b.mp4"))
    committer(uri).recover()
    before = state_of(uri)
    write_receipt(objects, video("/a.mp4"), video("/b.mp4"))
    assert committer(uri).recover().again == ()
    assert state_of(uri) == before
    write_receipt(objects, video("/b.mp4"), video("/new.mp4"))
    twice = [write_receipt(objects, video("/c.mp4"), put=False) for _ in range(2)]
    done = committer(uri).commit([*Receipt.list(objects), *twice])
    assert (done.again, done.refused, done.videos) == (("/new.mp4",), 2, 1)
    assert state_of(uri)[0].keys() == {"/a.mp4", "/b.mp4", "/c.mp4"}
    assert not list(objects.list(FOLDER))


def test_a_file_that_changed_replaces_its_windows(uri: str, objects: Objects, tmp_path: Path) -> None:
    write_receipt(objects, video("/a.mp4", content="1", windows=3), video("/b.mp4"))
    committer(uri).recover()
    write_receipt(objects, video("/a.mp4", content="22"), failed_video("/b.mp4", content="broken"))
    committer(uri).recover()
    expected = local_index(
        str(tmp_path / "local"), video("/a.mp4", content="22"), failed_video("/b.mp4", content="broken")
    )
    assert state_of(uri) == expected


def test_a_file_that_cannot_be_reached_keeps_its_windows(uri: str, objects: Objects) -> None:
    write_receipt(objects, video("/a.mp4"))
    committer(uri).recover()
    write_receipt(objects, put=True, failures=[Failure(path="/a.mp4", reason="access is denied")])
    committer(uri).recover()
    videos = create_index(uri).store.videos()
    assert sorted(row.state for row in videos) == ["complete", "failed"]
    assert Failures(uri).count() == 1
    write_receipt(objects, unchanged=(video("/a.mp4", size=7),))
    committer(uri).recover()
    assert [(row.state, row.size) for row in create_index(uri).store.videos()] == [("complete", 7)]
    assert Failures(uri).count() == 0


def test_receipts_of_another_model_and_damaged_ones_are_refused(uri: str, objects: Objects) -> None:
    said: list[str] = []
    write_receipt(objects, video("/a.mp4"), weights="other")
    write_receipt(objects, video("/b.mp4"), options="{}")
    torn = write_receipt(objects, video("/c.mp4"))
    objects.put(torn.name, torn.to_json()[:-20])
    short = write_receipt(objects, video("/d.mp4"), put=False)
    write_receipt(objects, video("/d.mp4"), fragments=short.fragments * 2)
    done = committer(uri, Objects.open(uri, on_wait=said.append)).recover()
    assert (done.videos, done.refused, {*done.again}) == (0, 3, {"/a.mp4", "/b.mp4", "/d.mp4"})
    assert any("damaged receipts are deleted" in text and "again: 1, such as" in text for text in said)
    assert state_of(uri) == ({}, [])
    assert not list(objects.list(FOLDER))


def test_what_interrupted_writers_left_is_removed(uri: str, objects: Objects) -> None:
    store = create_index(uri).store
    half = video("/half.mp4", state="reading")
    old = video("/old.mp4", state="removed")
    store.put_videos([half, old], new=True)
    store.add_windows(rows_of(half) + rows_of(old))
    write_receipt(objects, video("/a.mp4"))
    assert committer(uri).recover().interrupted == 1
    assert state_of(uri)[0].keys() == {"/a.mp4"}


# -- killed between two steps ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a committer as a kill does: nothing is cleaned up."""


STEPS = ((LanceTable, "_do_merge"), (LanceTable, "delete"), (lance.LanceDataset, "commit"), (Objects, "delete"))
NUMBER = 8


class Faults:
    """Raises before or after a step that writes, the `at`-th of all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool, error: BaseException) -> None:
        self.count, self._at, self._after, self._error = 0, at, after, error
        self.names: list[str] = []
        for owner, name in STEPS:
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name), name))

    def _wrapped(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            self.names.append(name)
            is_now = self.count == self._at
            if is_now and not self._after:
                raise self._error
            result = function(*arguments, **options)
            if is_now:
                raise self._error
            return result

        return wrapped


def prepare(uri: str) -> Objects:
    """Write an index and receipts that use every step: new, changed, failed, recovered and unchanged videos."""
    create_index(uri)
    objects = Objects.open(uri)
    write_receipt(
        objects, video("/changed.mp4"), video("/same.mp4"), failed_video("/later.mp4", content="1"),
        video("/breaks.mp4"),
    )  # fmt: skip
    committer(uri).recover()
    write_receipt(objects, video("/changed.mp4", content="22", windows=3), video("/new.mp4"), fragment_bytes=1)
    write_receipt(
        objects, video("/later.mp4"), failed_video("/breaks.mp4", content="broken"), failed_video("/gone.mp4"),
        unchanged=(video("/same.mp4", size=7),),
    )  # fmt: skip
    write_receipt(objects, video("/new.mp4"), video("/again.mp4"))  # repeated work
    return objects


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, list[str]]:
    """What the index of `prepare` holds without any kill."""
    uri = str(tmp_path_factory.mktemp("expected") / "index")
    prepare(uri)
    committer(uri).recover()
    rows = sorted((row.path, row.state, row.size) for row in create_index(uri).store.videos())
    assert rows == [
        ("/breaks.mp4", "failed", 6), ("/changed.mp4", "complete", 2), ("/gone.mp4", "failed", 0),
        ("/later.mp4", "complete", 1), ("/new.mp4", "complete", 1), ("/same.mp4", "complete", 7),
    ]  # fmt: skip
    failures = sorted(item.path for part in Failures(uri).items() for item in part)
    assert failures == ["/breaks.mp4", "/gone.mp4"]
    return (*state_of(uri), failures)


def recovered(uri: str) -> tuple[Any, Any, list[str]]:
    """Recover with a new committer, twice; return what the index holds."""
    for _ in range(2):
        committer(uri).recover()
    assert not list(waiting(Objects.open(uri)))
    return (*state_of(uri), sorted(item.path for part in Failures(uri).items() for item in part))


@pytest.mark.parametrize(
    ("step", "after"),
    [
        pytest.param(
            step, after, marks=() if step == 2 else pytest.mark.slow, id=f"{'after' if after else 'before'} {step}"
        )
        for step in range(1, NUMBER + 1)
        for after in (False, True)
    ],
)
def test_a_kill_at_any_step_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: tuple[Any, Any, list[str]], step: int, after: bool
) -> None:
    uri = str(tmp_path / "index")
    prepare(uri)
    with monkeypatch.context() as patch:
        Faults(patch, step, after=after, error=Killed())
        with pytest.raises(Killed):
            committer(uri).recover()
    assert recovered(uri) == expected


def test_each_step_that_writes_is_killed_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path / "index")
    prepare(uri)
    faults = Faults(monkeypatch, 0, after=False, error=Killed())
    committer(uri).recover()
    rows, windows, failures = ["_do_merge"], ["commit"], ["_do_merge", "delete"]
    removed = ["delete", "delete"]  # windows, rows
    assert faults.names == [*rows, *windows, *rows, *removed, *failures, "delete"]
    assert faults.count == NUMBER


@pytest.mark.parametrize(
    ("is_clean", "is_whole"),
    [
        pytest.param(False, True, id="whole"),
        pytest.param(True, True, id="old versions removed", marks=pytest.mark.slow),
        pytest.param(False, False, id="some windows lost", marks=pytest.mark.slow),
        pytest.param(True, False, id="old versions removed, some windows lost", marks=pytest.mark.slow),
    ],
)
def test_a_compaction_between_a_kill_and_the_recovery(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected: tuple[Any, Any, list[str]],
    is_clean: bool,
    is_whole: bool,
) -> None:
    """A compaction gives the windows of a commit other files, so it can't be recognised by its files."""
    uri = str(tmp_path / "index")
    prepare(uri)
    with monkeypatch.context() as patch:
        Faults(patch, 2, after=True, error=Killed())
        with pytest.raises(Killed):
            committer(uri).recover()
    _, windows = create_index(uri).store.tables
    if not is_whole:
        windows.delete("path = '/new.mp4' AND number = 0")
    windows.optimize(cleanup_older_than=timedelta(0) if is_clean else timedelta(hours=1))
    if is_clean and not is_whole:
        done = committer(uri).recover()
        assert "/new.mp4" in done.again
        assert "/new.mp4" not in state_of(uri)[0]
    else:
        assert recovered(uri) == expected


def test_fragments_and_receipts_that_wait_survive_compactions(uri: str, objects: Objects) -> None:
    write_receipt(objects, video("/a.mp4"))
    committer(uri).recover()
    write_receipt(objects, video("/b.mp4"))
    _, windows = create_index(uri).store.tables
    windows.delete("number = 7")
    windows.optimize(cleanup_older_than=timedelta(0))
    committer(uri).recover()
    assert state_of(uri)[0].keys() == {"/a.mp4", "/b.mp4"}


def test_a_receipt_whose_files_are_gone_after_a_week_is_done_again(uri: str, objects: Objects) -> None:
    week = 7 * 24 * 3600
    gone = write_receipt(objects, video("/a.mp4"), created=time.time() - week)
    write_receipt(objects, video("/b.mp4"), created=time.time() - week)
    objects.delete([object_name(file) for file in data_files(gone.fragments[0])])
    done = committer(uri).recover()
    assert (done.videos, done.again) == (1, ("/a.mp4",))
    assert state_of(uri)[0].keys() == {"/b.mp4"}


def test_a_commit_that_a_client_sends_twice_is_there_once(
    uri: str, objects: Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Some clients send a request again if its answer is lost, and then both take effect."""
    commit, merge = lance.LanceDataset.commit, LanceTable._do_merge
    sent: list[str] = []

    def commit_twice(dataset: Any, operation: Any, **options: Any) -> Any:
        commit(dataset, operation, **options)
        sent.append(type(operation).__name__)
        return commit(dataset, operation, **options) if isinstance(operation, lance.LanceOperation.Append) else None

    def merge_twice(table: LanceTable, builder: Any, data: Any, *rest: Any) -> Any:
        known = {*table.to_arrow()["id"].to_pylist()} if table.name == "videos" else set()
        result = merge(table, builder, data, *rest)
        if table.name == "videos" and not known & {*data["id"].to_pylist()}:
            table.add(data)
            sent.append("rows")
        return result

    monkeypatch.setattr(lance.LanceDataset, "commit", commit_twice)
    monkeypatch.setattr(LanceTable, "_do_merge", merge_twice)
    write_receipt(objects, video("/a.mp4"), video("/b.mp4"), fragment_bytes=1)
    committer(uri).recover()
    assert sent == ["rows", "Append", "Delete"]
    assert state_of(uri) == local_index(str(tmp_path / "local"), video("/a.mp4"), video("/b.mp4"))


def test_a_commit_that_does_not_take_effect_is_an_error(
    uri: str, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_receipt(objects, video("/a.mp4"))
    with monkeypatch.context() as patch:
        patch.setattr(lance.LanceDataset, "commit", lambda *_, **__: None)
        with pytest.raises(VideoIndexError, match="a commit of windows didn't take effect"):
            committer(uri).recover()
    committer(uri).recover()
    assert state_of(uri)[0]["/a.mp4"][0] == "complete"


# -- many commits ------------------------------------------------------------------------------------------------------


def test_many_small_commits_are_compacted_at_the_end(
    uri: str, objects: Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(maintenance, "SCALARS_INDEXED_FROM", 10)
    videos = [video(f"/{number}.mp4") for number in range(40)]
    receipts = [write_receipt(objects, row, put=False) for row in videos]
    one = committer(uri)
    for receipt in receipts[:3]:
        one.commit([receipt])
    monkeypatch.setattr(committing, "AT_ONCE", 10)
    one.commit(receipts[3:])
    _, windows = create_index(uri).store.tables
    assert windows.stats()["fragment_stats"]["num_fragments"] == 40
    one.finish()
    store = create_index(uri).store
    assert store.tables[1].stats()["fragment_stats"]["num_fragments"] == 1
    indexed = [{column for index in table.list_indices() for column in index.columns} for table in store.tables]
    assert indexed == [{"path", "id"}, {"video"}]
    assert state_of(uri) == local_index(str(tmp_path / "local"), *videos)
    assert [row.path for row in store.rows_of(["/7.mp4", "/none.mp4"])] == ["/7.mp4"]


def test_another_writer_on_this_machine_is_refused(uri: str, objects: Objects) -> None:
    write_receipt(objects, video("/a.mp4"))
    with (
        create_index(uri).store.writing(),
        pytest.raises(VideoIndexError, match="another process is writing to the index"),
    ):
        committer(uri).recover()
    assert len([*waiting(objects)]) == 1
