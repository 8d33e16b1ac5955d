"""What a worker writes: the rows of a local index, a receipt, and nothing of videos that can't be read."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pytest
from made_receipts import committer, item
from s3_server import S3Server

from openxclip import VideoIndex, VideoIndexError, VideoPipeline
from openxclip.errors import StoreError
from openxclip.search.bulk import work, writing
from openxclip.search.bulk.fetching import Fetched
from openxclip.search.bulk.items import SourceItem
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.planning import plan
from openxclip.search.bulk.receipts import Receipt
from openxclip.search.bulk.sources import open_source
from openxclip.search.bulk.work import BulkWorker
from openxclip.search.opening import OpenIndex
from openxclip.search.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SETTINGS = {"window": 0.4, "stride": 0.2}


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)


@pytest.fixture
def videos(clip_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip_folder, tmp_path / "videos"))


@pytest.fixture
def uri(pipeline: VideoPipeline, tmp_path: Path) -> str:
    return create(str(tmp_path / "bulk"), pipeline)


def create(uri: str, pipeline: VideoPipeline, **settings: Any) -> str:
    """Create an empty index."""
    OpenIndex(uri, pipeline, {**SETTINGS, **settings}, {}).pipeline()
    return uri


def items_of(folder: Path) -> list[SourceItem]:
    return [item for part in open_source(str(folder)).items() for item in part]


def tables(uri: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of both tables, sorted."""
    store = Store(uri)
    store.open()
    videos, windows = (table.to_arrow().to_pylist() for table in store.tables)
    return sorted(videos, key=lambda row: row["path"]), sorted(windows, key=lambda row: (row["path"], row["number"]))


def assert_equal(uri: str, other: str) -> None:
    """Check that two indexes hold the same rows: embeddings within 1e-5, everything else exactly."""
    for rows, others in zip(tables(uri), tables(other), strict=True):
        assert len(rows) == len(others)
        for row, expected in zip(rows, others, strict=True):
            assert row.pop("embedding", None) == pytest.approx(expected.pop("embedding", None), abs=1e-5)
            assert (row.pop("patches", None) is None) == (expected.pop("patches", None) is None)
            assert repr(row) == repr(expected)  # two NaN have the same text


def test_the_rows_are_those_of_a_local_index(uri: str, videos: Path, pipeline: VideoPipeline, tmp_path: Path) -> None:
    (videos / "it's broken.mp4").write_bytes(b"no video")
    local = VideoIndex.open(tmp_path / "local", model=pipeline, **SETTINGS)  # type: ignore[arg-type]
    local.add(videos)
    seen: list[tuple[str, str, int, float]] = []
    worker = BulkWorker(
        uri,
        pipeline,
        on_video=lambda path, error, *rest: seen.append((Path(path).name, error.reason if error else "", *rest)),
    )
    receipts = [worker.process(items_of(videos)[:3]), worker.process(items_of(videos)[3:])]
    assert VideoIndex.open(uri).files() == []
    assert [receipt.id for receipt in Receipt.list(Objects.open(uri))] == [receipt.id for receipt in receipts]
    committer(uri).recover()
    assert_equal(uri, str(tmp_path / "local"))
    reasons = {name: reason for name, reason, _, _ in seen if reason}
    assert [*reasons] == ["it's broken.mp4"]
    assert sorted(rest for name, reason, *rest in seen if not reason) == [[4, pytest.approx(1.0)]] * 3
    failure = next(failure for receipt in receipts for failure in receipt.failures)
    assert (failure.path, failure.attempts) == (str(videos / "it's broken.mp4"), 1)
    assert failure.node
    found = VideoIndex.open(uri, model=pipeline).search("a red video", k=100, merge=False)
    assert len(found) == 12


def test_a_local_index_goes_on_with_what_workers_wrote(uri: str, videos: Path, pipeline: VideoPipeline) -> None:
    BulkWorker(uri, pipeline).process(items_of(videos)[:2])
    committer(uri).recover()
    index = VideoIndex.open(uri, model=pipeline)
    shutil.copy(videos / "red2.mp4", videos / "copy.mp4")
    done = index.add(videos)
    assert (len(done.unchanged), len(done.added)) == (2, 2)
    assert len(index) == 16


@pytest.mark.parametrize("is_appended", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_local_index_goes_on_where_a_commit_was_killed(
    uri: str, videos: Path, pipeline: VideoPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_appended: bool
) -> None:
    BulkWorker(uri, pipeline).process(items_of(videos)[:2])
    commit = lance.LanceDataset.commit

    def kill(*arguments: Any, **options: Any) -> None:
        if is_appended:
            commit(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lance.LanceDataset, "commit", kill)
        with pytest.raises(KeyboardInterrupt):
            committer(uri).recover()
    assert len(VideoIndex.open(uri)) == 0
    VideoIndex.open(uri, model=pipeline).add(videos)
    local = VideoIndex.open(tmp_path / "local", model=pipeline, **SETTINGS)  # type: ignore[arg-type]
    local.add(videos)
    assert_equal(uri, str(tmp_path / "local"))
    committer(uri).recover()
    assert_equal(uri, str(tmp_path / "local"))


def test_a_video_that_fails_late_leaves_no_windows(
    uri: str, videos: Path, pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes while it is decoded is noticed at its end, when its first windows are written already."""
    monkeypatch.setattr(writing, "FRAGMENT_BYTES", 1)
    monkeypatch.setattr(work.FragmentWriter.__init__, "__kwdefaults__", {"fragment_bytes": 1})
    monkeypatch.setattr(Fetched, "is_unchanged", lambda fetched: fetched.path.name != "red2.mp4")
    receipt = BulkWorker(uri, pipeline).process(items_of(videos))
    assert [failure.reason for failure in receipt.failures] == [
        "it changed while it was read: try again when it is complete"
    ]
    assert len(receipt.fragments) == 8
    files = [*Path(uri, "windows.lance/data").iterdir()]
    assert len(files) == 8
    committer(uri).recover()
    assert len(VideoIndex.open(uri)) == 8


def test_an_interrupted_worker_leaves_no_files(
    uri: str, videos: Path, pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work.FragmentWriter.__init__, "__kwdefaults__", {"fragment_bytes": 1})

    def interrupt(path: str, *_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BulkWorker(uri, pipeline, on_video=interrupt).process(items_of(videos))
    assert not [*Path(uri).glob("windows.lance/data/*")]
    assert not [*Path(uri).glob("_receipts/*")]


def test_a_receipt_that_may_have_been_written_keeps_its_files(
    uri: str, videos: Path, pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Objects.put

    def lost(objects: Objects, name: str, data: bytes) -> None:
        put(objects, name, data)
        raise StoreError("the store doesn't answer", may_pass=True)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "put", lost)
        with pytest.raises(StoreError):
            BulkWorker(uri, pipeline).process(items_of(videos))
    committer(uri).recover()
    assert len(VideoIndex.open(uri)) == 12


def test_a_file_with_a_new_time_is_not_decoded_again(uri: str, videos: Path, pipeline: VideoPipeline) -> None:
    worker = BulkWorker(uri, pipeline)
    worker.process(items_of(videos))
    committer(uri).recover()
    os.utime(videos / "red2.mp4", ns=(5, 5))
    (videos / "red10.mp4").write_bytes((videos / "more/blue.mp4").read_bytes() + b"\0")
    store = Store(uri)
    store.open()
    (chunk,) = plan(open_source(str(videos)), store)
    assert {Path(item.path).name for item in chunk} == {"red2.mp4", "red10.mp4"}
    receipt = worker.process(chunk)
    assert [Path(row.path).name for row in receipt.unchanged] == ["red2.mp4"]
    assert [Path(row.path).name for row in receipt.videos] == ["red10.mp4"]
    committer(uri).recover()
    rows, windows = tables(uri)
    assert {Path(row["path"]).name: row["modified"] for row in rows}["red2.mp4"] == 5
    assert (len(rows), len(windows)) == (3, 12)
    store.refresh()
    assert [*plan(open_source(str(videos)), store)] == []


def test_missing_and_unreadable_places_are_failures(uri: str, videos: Path, pipeline: VideoPipeline) -> None:
    receipt = BulkWorker(uri, pipeline).process(
        [item(str(videos / "none.mp4")), item(str(videos / "more")), *items_of(videos)]
    )
    assert len(receipt.complete) == 3
    reasons = {Path(failure.path).name: failure.reason for failure in receipt.failures}
    assert reasons == {
        "none.mp4": "there is no such file: check the path", "more": "it is a folder: only files are indexed in bulk"
    }  # fmt: skip
    committer(uri).recover()
    assert sorted(row["state"] for row in tables(uri)[0]) == ["complete"] * 3 + ["failed"] * 2


def test_a_chunk_of_failures_has_no_fragments(uri: str, videos: Path, pipeline: VideoPipeline) -> None:
    receipt = BulkWorker(uri, pipeline).process([item(str(videos / "none.mp4"))])
    assert (receipt.fragments, receipt.complete) == ([], [])
    assert committer(uri).recover().failed == 1


def test_another_model_or_no_index_is_refused(
    uri: str, pipeline: VideoPipeline, tmp_path: Path, tiny_folder: Path
) -> None:
    with pytest.raises(VideoIndexError, match="there is no index"):
        BulkWorker(str(tmp_path / "none"), pipeline)
    assert not (tmp_path / "none").exists()
    other = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    other.model.logit_scale.data += 1
    with pytest.raises(ValueError, match="features of two models can't be compared"):
        BulkWorker(uri, other)


def test_another_reader_may_feed_a_worker(uri: str, videos: Path, pipeline: VideoPipeline) -> None:
    read: list[str] = []

    def reading(reader: Any, worker: Any, source: Any) -> Any:
        read.append(Path(source).name)
        yield from reader.read_clips(worker, source)

    receipt = BulkWorker(uri, pipeline, reading=reading).process(items_of(videos))
    assert sorted(read) == ["blue.mp4", "red10.mp4", "red2.mp4"]
    assert sum(row.windows for row in receipt.videos) == 12


# -- metadata columns --------------------------------------------------------------------------------------------------


def test_columns_of_a_manifest_become_columns_to_filter_by(
    uri: str, videos: Path, pipeline: VideoPipeline, tmp_path: Path
) -> None:
    manifest = tmp_path / "videos/list.csv"
    manifest.write_text(
        "path,camera,Level,when taken\nred2.mp4,yard,3,2024-05-01\nmore/blue.mp4,gate's,,\n", encoding="utf-8"
    )
    source = open_source(str(manifest))
    index = OpenIndex(uri, pipeline, {}, {})
    index.require()
    VideoIndex(index).add(videos / "red10.mp4")  # before there are columns
    index.store.add_columns(source.columns)
    index.store.add_columns(source.columns)
    for chunk in plan(source, index.store):
        BulkWorker(uri, pipeline).process(chunk)
    committer(uri).recover()

    opened = VideoIndex.open(uri, model=pipeline)
    names: Callable[[str], set[str]] = lambda where: {  # noqa: E731
        Path(hit.path).name for hit in opened.search("a", where=where, k=100, merge=False)
    }
    assert names("camera = 'yard'") == {"red2.mp4"}
    assert names("camera = 'gate''s' or Level > 2") == {"red2.mp4", "blue.mp4"}
    assert names("camera is null") == {"red10.mp4"}
    assert names("`when taken` < date '2025-01-01'") == {"red2.mp4"}
    assert names("camera is not null and start > 0.5") == {"red2.mp4", "blue.mp4"}
    with pytest.raises(ValueError, match=r"give an SQL condition on path, .* modified, camera, Level, when taken,"):
        opened.search("a", where="colour = 'red'")
    with pytest.raises(ValueError, match="it can't use modified together with start, end or camera or Level"):
        opened.search("a", where="camera = 'yard' and modified > 3")


def test_columns_survive_a_move_and_a_local_change(
    uri: str, videos: Path, pipeline: VideoPipeline, tmp_path: Path
) -> None:
    import pyarrow as pa

    index = OpenIndex(uri, pipeline, {}, {})
    index.require()
    index.store.add_columns(pa.schema([pa.field("camera", pa.string()), pa.field("tags", pa.list_(pa.string()))]))
    cameras = {"red2.mp4": "yard", "red10.mp4": "gate", "blue.mp4": "roof"}
    columns = [
        SourceItem(it.path, it.size, it.modified, columns={"camera": cameras[Path(it.path).name], "tags": ["x"]})
        for it in items_of(videos)
    ]
    BulkWorker(uri, pipeline).process(columns)
    committer(uri).recover()
    local = VideoIndex(index)
    (videos / "red2.mp4").rename(videos / "moved.mp4")
    (videos / "red10.mp4").write_bytes((videos / "more/blue.mp4").read_bytes() + b"\0")
    shutil.copy(videos / "more/blue.mp4", videos / "copy.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        local.add(videos)
    found = {Path(row["path"]).name: (row["camera"], row["tags"]) for row in tables(uri)[1]}
    assert found == {
        "moved.mp4": ("yard", ["x"]), "red10.mp4": ("gate", ["x"]), "blue.mp4": ("roof", ["x"]),
        "copy.mp4": (None, None),
    }  # fmt: skip


def test_columns_are_exported_and_imported(uri: str, videos: Path, pipeline: VideoPipeline, tmp_path: Path) -> None:
    import pyarrow as pa

    index = OpenIndex(uri, pipeline, {}, {})
    index.require()
    index.store.add_columns(pa.schema([pa.field("camera", pa.string())]))
    BulkWorker(uri, pipeline).process([item(str(videos / "red2.mp4"), columns={"camera": "yard"})])
    BulkWorker(uri, pipeline).process([item(str(videos / "red10.mp4"))])
    committer(uri).recover()
    file = tmp_path / "windows.parquet"
    VideoIndex.open(uri).export(file)
    for number, patches in enumerate((True, False)):
        other = VideoIndex.open(tmp_path / f"other{number}", patches=patches)
        other.add(file)
        found = {Path(row["path"]).name: row["camera"] for row in tables(str(tmp_path / f"other{number}"))[1]}
        assert found == {"red2.mp4": "yard", "red10.mp4": None}
        other.add(file)
        assert len(other) == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("duration", "an index has a column of its own under this name"),
        ("Modified", "an index has a column of its own under this name"),
        ("_distance", "an index has a column of its own under this name"),
        ("a.b", "a condition can't name it"),
        (" ", "a condition can't name it"),
        ("CAMERA", "differs from the column 'camera' of the index only by its case"),
        ("camera", "has the type int64, but the index .* has it as string"),
    ],
)
def test_names_of_columns_that_are_refused(uri: str, name: str, message: str) -> None:
    import pyarrow as pa

    store = Store(uri)
    store.open()
    store.add_columns(pa.schema([pa.field("camera", pa.dictionary(pa.int8(), pa.string()))]))
    with pytest.raises(ValueError, match=message):
        store.add_columns(pa.schema([pa.field(name, pa.int64())]))


def test_a_column_that_the_index_lacks_is_refused(uri: str, videos: Path, pipeline: VideoPipeline) -> None:
    with pytest.raises(ValueError, match="the index has no column 'camera'"):
        BulkWorker(uri, pipeline).process([item(str(videos / "red2.mp4"), columns={"camera": "yard"})])


# -- in an object store ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_videos_and_index_in_an_object_store(
    s3: S3Server, videos: Path, pipeline: VideoPipeline, tmp_path: Path
) -> None:
    bucket = s3.bucket("worker")
    objects = Objects.open(f"{bucket}/films")
    for path in videos.rglob("*.mp4"):
        objects.put(path.relative_to(videos).as_posix(), path.read_bytes())
    objects.put("broken.mp4", b"no video")
    uri = create(f"{bucket}/archive.index", pipeline)
    source = open_source(f"{bucket}/films")
    before = {*tmp_path.iterdir()}
    store = Store(uri)
    store.open()
    for chunk in plan(source, store):
        BulkWorker(uri, pipeline).process(chunk)
    committer(uri).recover()
    committer(uri).finish()
    assert before == {*tmp_path.iterdir()}
    index = VideoIndex.open(uri, model=pipeline)
    assert index.files() == sorted(f"{bucket}/films/{name}" for name in ("red2.mp4", "red10.mp4", "more/blue.mp4"))
    assert len(index.search("a red video", k=100, merge=False)) == 12
    store.refresh()
    assert [*plan(source, store)] == []
    done = index.update()  # it can't look at objects, so it leaves them as they are
    assert (done.removed, done.added, len(index)) == ((), (), 12)


@pytest.mark.slow
def test_mini_gives_the_rows_of_a_local_index(s3: S3Server, tmp_path: Path) -> None:
    samples = Path(__file__).parents[2] / "samples"
    pipeline = VideoPipeline.from_pretrained("mini", device="cpu")
    local = VideoIndex.open(tmp_path / "local", model=pipeline, window=1)
    local.add(samples)
    uri = create(s3.bucket("mini") + "/samples.index", pipeline, window=1, stride=None)
    items = items_of(samples)
    for some in (items[:2], items[2:]):
        BulkWorker(uri, pipeline).process(some)
    committer(uri).recover()
    assert_equal(uri, str(tmp_path / "local"))
    pipeline.close()
