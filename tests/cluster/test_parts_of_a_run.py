"""The pieces of a run by themselves: placement, chunks, commits, reports and tables."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openxclip.cluster.actors import State
from openxclip.cluster.collecting import EVERY_RECEIPTS, Collector
from openxclip.cluster.connecting import Node
from openxclip.cluster.feeding import Feed, Task
from openxclip.cluster.placing import Layout, Share, place
from openxclip.cluster.reporting import Done, Report, Totals, in_words
from openxclip.errors import ClusterError, StoreError, TooManyFailuresError
from openxclip.search.bulk.failures import Failure
from openxclip.search.bulk.items import SourceItem
from openxclip.search.bulk.receipts import Receipt


def nodes(*sizes: tuple[float, float]) -> list[Node]:
    return [Node(str(number), f"n{number}", cores, gpus) for number, (cores, gpus) in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "layout", "shares"),
    [
        ([(4, 0), (2, 0)], Layout(), [(4, 0), (2, 0)]),
        ([(5, 0), (1, 0), (0, 0)], Layout(cores=2), [(2, 0), (1, 0)]),
        ([(1, 0), (1, 0)], Layout(readers=1), [(1, 0), (0, 1)]),
        ([(8, 0), (3, 0)], Layout(readers=2), [(3, 5), (0, 1)]),
        ([(16, 2), (8, 0)], Layout(), [(2, 14), (0, 8)]),
        ([(16, 2), (8, 0)], Layout(readers=8), [(2, 14), (0, 2)]),
        ([(16, 2), (8, 0)], Layout(readers=0), [(2, 0), (0, 0)]),
        ([(1, 1)], Layout(), [(1, 0)]),
    ],
)
def test_workers_and_readers_are_dealt_out(
    sizes: list[tuple[float, float]], layout: Layout, shares: list[tuple[int, int]]
) -> None:
    placement = place(nodes(*sizes), layout)
    assert list(placement.shares.values()) == [Share(*share) for share in shares]
    assert placement.has_gpus == any(gpus for _, gpus in sizes)
    assert placement.is_split == any(readers for _, readers in shares)


def test_a_cluster_that_is_too_small_for_its_readers() -> None:
    with pytest.raises(ClusterError, match="the cluster has 2 cores, but a worker with 2 readers needs 3"):
        place(nodes((1, 0), (1, 0)), Layout(readers=2))
    with pytest.raises(ValueError, match="cores=0: must be 1 or more"):
        Layout(cores=0).check()


def items(*numbers: int, size: int = 0) -> list[SourceItem]:
    return [SourceItem(f"{number}.mp4", size) for number in numbers]


def take_all(feed: Feed, workers: int, seconds: float | None) -> Iterator[int]:
    while not feed.is_done:
        task = feed.take(workers, seconds)
        if task is not None:
            yield len(task.items)


def test_chunks_take_a_minute_and_less_at_the_end() -> None:
    sizes = list(take_all(Feed(iter([items(*range(300))])), 2, 2.0))
    assert sizes[:3] == [30, 30, 30]
    assert sizes[-1] == 1
    assert sum(sizes) == 300
    assert max(take_all(Feed(iter([items(*range(300))])), 1, 0.01)) == 64
    assert max(take_all(Feed(iter([items(*range(300))])), 1, None)) == 8
    assert max(take_all(Feed(iter([items(*range(20), size=100 << 20)])), 1, 0.01)) == 2


def test_planning_waits_for_the_workers() -> None:
    started = []

    def parts() -> Iterator[list[SourceItem]]:
        for number in range(100):
            started.append(number)
            yield items(*range(4096))

    feed = Feed(parts())
    deadline = time.monotonic() + 30
    while len(started) < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(started) == 5, "the videos of four parts are planned, and one part waits"
    feed.close()


def test_errors_of_planning_are_raised() -> None:
    def parts() -> Iterator[list[SourceItem]]:
        yield items(1)
        raise StoreError("s3://b: no answer.")

    feed = Feed(parts())
    with pytest.raises(StoreError, match="no answer"):
        list(take_all(feed, 1, None))


def test_a_task_is_split_into_its_videos() -> None:
    alone = Task(items(1, 2), attempts=2, reason="why").alone()
    assert [(task.items, task.attempts) for task in alone] == [(items(1), 2), (items(2), 2)]


def receipt(number: int) -> Receipt:
    return Receipt(id=str(number), weights="", options="", fragments=[], videos=[], failures=[], node="n")


def test_receipts_are_committed_together() -> None:
    batches: list[list[str]] = []
    collector = Collector(lambda receipts: batches.append([one.id for one in receipts]))
    for number in range(EVERY_RECEIPTS - 1):
        collector.add(receipt(number))
    time.sleep(0.05)
    assert batches == []
    collector.flush()
    assert [len(batch) for batch in batches] == [EVERY_RECEIPTS - 1]
    collector.add(receipt(1000))
    collector.close()
    assert batches[1:] == [["1000"]]


def test_the_error_of_a_commit_is_raised_at_the_next_receipt() -> None:
    has_failed = threading.Event()

    def commit(receipts: list[Receipt]) -> None:
        has_failed.set()
        raise StoreError("s3://b: access is denied.")

    collector = Collector(commit, every_s=0.0)
    collector.add(receipt(1))
    has_failed.wait(30)
    with pytest.raises(StoreError, match="access is denied"):
        collector.flush()
    with pytest.raises(StoreError, match="access is denied"):
        collector.add(receipt(2))
    collector.close()


def test_a_report_has_speeds_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("openxclip.cluster.reporting.time.monotonic", lambda: now[0])
    totals = Totals(lambda: (100, True))
    totals.report()
    now[0] = 10.0
    totals.add(Done(videos=18, windows=40, footage=7200.0, failures=(("a", "no such file"),)))
    totals.in_hand([State(videos=2, windows=4, footage=7200.0)])
    totals.stage, totals.workers = "model", 1
    report = totals.report()
    assert (report.videos, report.failed, report.windows, report.left) == (20, 1, 44, 80)
    assert report.videos_per_second == pytest.approx(2.0)
    assert report.seconds_left == pytest.approx(40.0)
    assert in_words(report) == (
        "20 of 100 videos, 0:40 left, 2 videos/s, 0.4 h of footage/s, 1 failed, 1 worker, limited by model"
    )
    values = report.to_dict()
    assert values["footage_hours"] == 4.0
    assert values["footage_hours_per_second"] == 0.4
    assert Report().to_dict()["left"] is None


def test_a_run_in_which_most_videos_fail_is_stopped() -> None:
    totals = Totals()
    totals.add(Done(videos=99, failures=tuple((str(number), "no such file") for number in range(99))))
    with pytest.raises(
        TooManyFailuresError, match=r"^99 of 100 videos failed, more than half of at least 100"
    ) as caught:
        totals.add(Done(videos=1))
    assert "99 × no such file" in str(caught.value)
    half = Totals()
    half.add(Done(videos=200, failures=tuple((str(number), "no such file") for number in range(100))))
    with pytest.raises(TooManyFailuresError, match="more than 0"):
        Totals(max_failures=0).add(Done(videos=1, failures=(("a", "no such file"),)))


@pytest.mark.parametrize("name", ["rows", "rows.lance"])
def test_a_table_has_each_video_once(tmp_path: Path, name: str) -> None:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("lance")
    from pyarrow import dataset, parquet

    from openxclip.cluster.parts_of_table import Part, Table, name_of, not_done

    table = Table(tmp_path / name)
    schema = pa.schema([("path", pa.string()), ("value", pa.int64())])
    options = table.begin({"window": 10}, schema)
    assert table.begin({"window": 10}, schema) == options
    with pytest.raises(ValueError, match=r"belongs to a run with another window \(10, now 5\): use the same options"):
        table.begin({"window": 5}, schema)

    def write(*numbers: int, failed: tuple[int, ...] = ()) -> Part:
        paths = [f"{number}.mp4" for number in numbers]
        writer = table.writer(name_of(items(*numbers), options), schema)
        for path in paths:
            writer.add(pa.table({"path": [path] * 2, "value": [1, 2]}, schema=schema))
        failures = [Failure(path=f"{number}.mp4", reason="no video") for number in failed]
        part = Part(
            name=name_of(items(*numbers, *failed), options), files=writer.finish(), paths=paths,
            rows=2 * len(paths), footage=0.0, failures=failures,
        )  # fmt: skip
        table.put(part)
        return part

    write(1, 2, 3, failed=(7, 8))
    write(2)  # by a worker that was taken for lost
    write(8)  # tried again
    table.writer("killed", schema).finish()
    if not table.is_lance:
        table.objects.put(f"part-{'0' * 32}-000.parquet", b"half a file")
        table.objects.put("part-mine.txt", b"of somebody else")
    assert table.settle() == (4, 8)
    uri = str(tmp_path / name)
    if table.is_lance:
        import lance

        rows = lance.dataset(uri).to_table()
    else:
        (tmp_path / name / "part-mine.txt").unlink()  # which is nobody else's to delete
        rows = dataset.dataset(uri, format="parquet").to_table()
    assert sorted(rows["path"].to_pylist()) == sorted(f"{number}.mp4" for number in (1, 2, 3, 8) for _ in range(2))
    place = tmp_path / (f"{name}.parts" if table.is_lance else name)
    failed = parquet.read_table(place / "_failures.parquet").to_pylist()
    assert [row["path"] for row in failed] == ["7.mp4"]
    left = [item.path for part in not_done(iter([items(*range(10))]), table.done()) for item in part]
    assert left == [f"{number}.mp4" for number in (0, 4, 5, 6, 7, 9)]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.npz"])
def test_a_table_is_no_single_file(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow")
    from openxclip.cluster.parts_of_table import Table

    with pytest.raises(ValueError, match="many machines write many files: name a folder"):
        Table(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_state_of_a_worker_counts_the_chunk_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    from openxclip.cluster.actors import Worker
    from openxclip.errors import VideoError

    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    job: Any = type("Job", (), {"environment": {}})()
    worker = Worker(job, 1, False, False)
    worker._count("a", None, 3, 12.0)
    worker._count("b", VideoError("b", "no video"), 0, 0.0)
    state = worker.state()
    assert (state.videos, state.failed, state.windows, state.footage, state.handled) == (2, 1, 3, 12.0, 2)
