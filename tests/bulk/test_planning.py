"""A plan leaves out what the index has, and gives each part its share."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from index_of_rows import store_with

from openxclip.errors import StoreError
from openxclip.search.bulk import known, planning
from openxclip.search.bulk.items import ListedSource, Source, SourceItem
from openxclip.search.bulk.planning import part_of, plan
from openxclip.search.schema import VideoRow


class Listed(Source):
    """Items in given parts."""

    def __init__(self, *parts: list[SourceItem]) -> None:
        super().__init__()
        self._parts = parts

    def items(self) -> Iterator[list[SourceItem]]:
        yield from self._parts

    def describe(self) -> str:
        return "a list"


def names(count: int) -> list[str]:
    return [f"/videos/{i}.mp4" for i in range(count)]


def listed(*parts: list[str]) -> ListedSource:
    return ListedSource("list", lambda: iter([[SourceItem(path) for path in part] for part in parts]))


def test_chunks_are_bounded_by_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan(listed(names(100), [], names(200)[100:]), None)
    assert [len(chunk) for chunk in planned] == [64, 64, 64, 8]
    assert planned.counts.seen == planned.counts.left == 200
    assert planned.counts.is_complete
    monkeypatch.setattr(planning, "CHUNK_BYTES", 10)
    sizes = [4, 4, 4, 30, 1, 9, 1]
    planned = plan(Listed([SourceItem(str(i), size) for i, size in enumerate(sizes)]), None)
    assert [[item.size for item in chunk] for chunk in planned] == [[4, 4], [4], [30], [1, 9], [1]]


def test_the_caller_may_change_the_size_of_chunks_between_them() -> None:
    planned = plan(listed(names(50)), None)
    planned.chunk_videos = 10
    assert len(next(planned)) == 10
    planned.chunk_videos = 30
    assert [len(chunk) for chunk in planned] == [30, 10]


def test_the_parts_share_all_videos_about_equally() -> None:
    shares = []
    for number in range(1, 5):
        planned = plan(listed(names(4000)), None, share=(number, 4))
        shares.append({item.path for chunk in planned for item in chunk})
        assert planned.counts.seen == 4000 == planned.counts.elsewhere + planned.counts.left
    assert set().union(*shares) == set(names(4000))
    assert sum(map(len, shares)) == 4000
    assert min(map(len, shares)) > 900
    assert part_of("/videos/7.mp4", 4) == part_of("/videos/7.mp4", 4)
    with pytest.raises(ValueError, match="part 5/4"):
        plan(listed(), None, share=(5, 4))


@pytest.mark.parametrize("looked_up", [0, 8], ids=["table is read", "looked up"])
def test_what_the_index_has_is_left_out(tmp_path: Path, looked_up: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_LOOKED_UP", looked_up)
    rows = {
        "/it's done.mp4": VideoRow(path="/it's done.mp4", state="complete", size=5, modified=7, windows=1),
        "/changed.mp4": VideoRow(path="/changed.mp4", state="complete", size=5, modified=7, windows=1, content="ab"),
        "/failed.mp4": VideoRow(path="/failed.mp4", state="failed", size=5, modified=7),
        "/reading.mp4": VideoRow(path="/reading.mp4", size=5, modified=7),
        "s3://b/later.mp4": VideoRow(path="s3://b/later.mp4", state="complete", size=5, modified=1_000_000_123),
        "/copied.mp4": VideoRow(path="/copied.mp4", state="complete"),
    }
    store = store_with(tmp_path / "index", rows.values())
    items = [SourceItem(path, 5, 7) for path in rows]
    items[1] = SourceItem("/changed.mp4", 5, 8)
    items[4] = SourceItem("s3://b/later.mp4", 5, 1_000_000_000)  # the store's list has whole seconds
    source = Listed(items, [SourceItem("/new.mp4", 1, 1)])
    planned = plan(source, store)
    left = list(itertools.chain(*planned))
    assert [item.path for item in left] == ["/changed.mp4", "/reading.mp4", "/new.mp4"]
    assert [item.content for item in left] == ["ab", "", ""]  # so that it isn't decoded if only its time has changed
    assert (planned.counts.done, planned.counts.failed, planned.counts.left, planned.counts.seen) == (3, 1, 3, 7)
    again = plan(source, store, retry_failed=True, waiting={"/new.mp4"})
    assert [item.path for item in itertools.chain(*again)] == ["/changed.mp4", "/failed.mp4", "/reading.mp4"]
    assert again.counts.waiting == 1
    # of a manifest, neither size nor time is known, so the path decides
    by_path = plan(listed(list(rows)), store)
    assert [item.path for item in itertools.chain(*by_path)] == ["/reading.mp4"]


def test_an_empty_index_is_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_with(tmp_path / "index", [])
    monkeypatch.setattr(store, "rows_of", lambda paths: pytest.fail("looked up"))
    assert sum(len(chunk) for chunk in plan(listed(names(5)), store)) == 5


def test_all_videos_of_a_large_index_are_known_by_their_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [VideoRow(id=i, path=f"/videos/{i}.mp4", state="complete", size=i, modified=i + 1) for i in range(300)]
    rows += [VideoRow(id=10_000 + i, path=f"/videos/{i}.mp4", state="failed", size=7) for i in range(0, 300, 3)]
    store = store_with(tmp_path / "index", rows)
    monkeypatch.setattr(known, "_BLOCK", 16)
    monkeypatch.setattr(known, "_ROWS_AT_ONCE", 70)
    hashes = known._hashes
    for collides in (False, True):
        if collides:  # in the half of the hash by which the file is sorted

            def with_collisions(paths: list[str]) -> Any:
                found = hashes(paths).copy()
                found["first"] %= 40
                return found

            monkeypatch.setattr(known, "_hashes", with_collisions)
        videos = known.KnownVideos(store)
        assert len(videos) == len(rows)
        found = videos.of([f"/videos/{i}.mp4" for i in range(-1, 301)])
        assert found[0] == found[-1] == []
        for i, versions in enumerate(found[1:-1]):
            expected = [("complete", i, i + 1)] + ([("failed", 7, 0)] if i % 3 == 0 else [])
            assert sorted(map(tuple, versions)) == expected
        folder = videos._path.parent
        assert [path.name for path in folder.iterdir()] == ["rows"]
        del videos
        assert not folder.exists()


def test_a_plan_needs_room_for_its_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_with(tmp_path / "index", [VideoRow(path="/a.mp4", state="complete")])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(StoreError, match=r"the plan for an index of 1 videos needs .*: make room"):
        known.KnownVideos(store)
