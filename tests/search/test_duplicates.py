"""Duplicates: copies, parts and chains, of synthetic embeddings and of videos."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openxclip import VideoIndex, VideoIndexError
from openxclip.search import candidates, partitioning
from openxclip.search.candidates import Candidates
from openxclip.search.duplicates import DuplicateGroup, find_duplicates
from openxclip.search.indexed_videos import IndexedVideos
from openxclip.search.not_duplicates import pair_key
from openxclip.search.schema import VideoRow

Windows = dict[str, list[np.ndarray]]


def videos_of(windows: Windows, *, contents: dict[str, str] | None = None, **columns: list[Any]) -> IndexedVideos:
    """Return videos with windows of 10 s, and with these values in their rows, in the order of `windows`."""
    contents = contents or {}
    counts = np.array([len(embeddings) for embeddings in windows.values()])
    rows = [
        VideoRow(
            id=i,
            path=path,
            duration=10.0 * len(windows[path]),
            size=len(path),
            modified=len(windows) - i,
            content=contents.get(path, ""),
        )
        for i, path in enumerate(windows)
    ]
    for name, values in columns.items():
        rows = [replace(row, **{name: value}) for row, value in zip(rows, values, strict=True)]
    return IndexedVideos(
        rows=rows,
        counts=counts,
        start_N=np.concatenate([10.0 * np.arange(count) for count in counts]),
        embedding_NE=np.stack([window for embeddings in windows.values() for window in embeddings]).astype(np.float32),
    )


def groups_of(windows: Windows | IndexedVideos, **options) -> list[DuplicateGroup]:
    videos = windows if isinstance(windows, IndexedVideos) else videos_of(windows)
    return find_duplicates(videos, **{"min_similarity": 0.95, "overlap": 0.8, **options})


def duplicate_paths(windows: Windows | IndexedVideos, **options) -> dict[str, list[str]]:
    groups = groups_of(windows, **options)
    return {group.path: [duplicate.path for duplicate in group.duplicates] for group in groups}


def axes(count: int, *, near: float = 0.0) -> list[np.ndarray]:
    """Return orthogonal windows; `near` turns each a little, to a cosine of about 1 - near²/2."""
    made = np.eye(64)[:count] + near * np.eye(64)[32 : 32 + count]
    return list(made / np.linalg.norm(made, axis=1, keepdims=True))


@pytest.mark.parametrize("batch", [1, 3, 2048])
def test_copies_and_parts(monkeypatch, batch) -> None:
    monkeypatch.setattr(candidates, "_BATCH", batch)
    a = axes(8)
    windows = {
        "part": a[2:5],
        "a": a,
        "other": axes(20)[10:16],
        "copy": axes(8, near=0.1),
        "half": a[:3] + axes(20)[17:20],
    }
    assert {keep: set(paths) for keep, paths in duplicate_paths(windows).items()} == {"copy": {"a", "part"}}
    (group,) = groups_of(windows)
    part = next(duplicate for duplicate in group.duplicates if duplicate.path == "part")
    assert part.overlap == 1
    assert group.duration == 80
    assert part.duration == 30
    assert duplicate_paths(windows, min_similarity=0.999) == {"a": ["part"]}
    assert "half" in duplicate_paths(windows, overlap=0.5)["copy"]


def test_the_overlap_is_not_rounded_up() -> None:
    a = axes(10)
    assert duplicate_paths({"longer": a, "other": a[:4] + axes(12)[11:]}, overlap=0.8) == {"longer": ["other"]}
    assert duplicate_paths({"longer": a, "other": a[:7] + axes(13)[10:]}, overlap=0.7) == {"longer": ["other"]}
    assert duplicate_paths({"longer": a, "other": a[:6] + axes(14)[10:]}, overlap=0.7) == {}


def test_the_video_to_keep_is_no_duplicate_in_another_group() -> None:
    """In a chain, each video is similar to the next."""
    turned = [np.cos(angle) * np.eye(4)[0] + np.sin(angle) * np.eye(4)[1] for angle in np.linspace(0, 1.0, 5)]
    windows = {f"v{i}": [window] for i, window in enumerate(turned)}
    vectors = dict(zip(windows, turned, strict=True))
    for keep in ("longest", "largest", "oldest", "highest-resolution"):
        groups = duplicate_paths(windows, keep=keep)
        deleted = {path for paths in groups.values() for path in paths}
        assert deleted
        assert not deleted & set(groups)
        assert all(vectors[kept] @ vectors[path] >= 0.95 for kept, paths in groups.items() for path in paths)


# -- the same files ----------------------------------------------------------------------------------------------------


def test_identical_files_are_named_if_neither_is_kept() -> None:
    windows = {name: axes(2) for name in ("copy 1", "copy 2", "another encoding")}
    contents = {"copy 1": "x", "copy 2": "x", "another encoding": "y"}
    (group,) = groups_of(videos_of(windows, contents=contents))
    assert group.path == "another encoding"  # the largest file
    assert [(copy.path, copy.identical, copy.identical_to) for copy in group.duplicates] == [
        ("copy 1", False, None),
        ("copy 2", False, "copy 1"),
    ]


def test_copies_of_the_video_to_keep_come_first() -> None:
    windows = {"b": axes(2, near=0.01), "a": axes(2), "a2": axes(2), "a3": axes(2), "unknown": axes(2)}
    contents = {"b": "y", "a": "x", "a2": "x", "a3": "x"}
    videos = videos_of(windows, contents=contents, size=[1, 9, 9, 9, 1], modified=[5, 1, 2, 3, 4])
    (group,) = groups_of(videos)
    assert group.path == "a"
    identical = [(copy.path, copy.identical, copy.identical_to) for copy in group.duplicates]
    assert identical == [("a2", True, "a"), ("a3", True, "a"), ("unknown", False, None), ("b", False, None)]
    assert all((copy.similarity, copy.overlap, copy.begins) == (1, 1, 0) for copy in group.duplicates[:2])


def test_featureless_files_are_compared_by_their_bytes() -> None:
    windows = {"black": [], "black copy": [], "white": [], "film": axes(2)}
    videos = videos_of(windows, contents={"black": "x", "black copy": "x", "white": "y"})
    assert duplicate_paths(videos) == {"black copy": ["black"]}


# -- which video to keep -----------------------------------------------------------------------------------------------


def test_which_video_is_kept() -> None:
    columns = {
        "duration": [20.0, 20.09, 19.0, 19.9],
        "width": [400, 100, 900, 100],
        "height": [1, 1, 1, 1],
        "size": [500, 100, 200, 900],
        "modified": [40, 20, 30, 10],
    }
    windows = {name: axes(2) for name in ("sharp", "longer by two frames", "sharpest", "large and old")}
    kept = {
        keep: groups_of(videos_of(windows, **columns), keep=keep)[0].path
        for keep in ("longest", "largest", "oldest", "highest-resolution")
    }
    assert kept == {
        "longest": "sharp",  # the other video is longer by 0.09 s only
        "largest": "large and old",
        "oldest": "large and old",
        "highest-resolution": "sharpest",
    }
    with pytest.raises(ValueError, match=r"keep='best': must be one of longest, largest, oldest, highest-resolution"):
        groups_of(videos_of(windows, **columns), keep="best")


def test_groups_do_not_depend_on_which_video_is_kept() -> None:
    random = np.random.default_rng(5)
    base = np.eye(16)[random.integers(0, 16, 120)]
    windows = {
        f"v{i:03}": [row / np.linalg.norm(row)] for i, row in enumerate(base + random.normal(0, 0.06, base.shape))
    }
    videos = videos_of(windows, modified=random.permutation(120), width=random.permutation(120), height=[1] * 120)
    sets = [
        {frozenset((group.path, *(copy.path for copy in group.duplicates))) for group in groups_of(videos, keep=keep)}
        for keep in ("longest", "largest", "oldest", "highest-resolution")
    ]
    assert len(sets[0]) > 5
    assert sets.count(sets[0]) == 4


def test_a_part_is_never_kept_instead_of_the_whole() -> None:
    whole = axes(8)
    older = {"modified": [2, 1], "size": [1, 9], "width": [1, 9], "height": [1, 1]}
    for keep in ("longest", "largest", "oldest", "highest-resolution"):
        assert duplicate_paths(videos_of({"whole": whole, "part": whole[:3]}, **older), keep=keep) == {
            "whole": ["part"]
        }
        still = videos_of({"an hour of one scene": [axes(1)[0]] * 8, "ten seconds of it": axes(1)}, **older)
        assert duplicate_paths(still, keep=keep) == {"an hour of one scene": ["ten seconds of it"]}


# -- where a part begins -----------------------------------------------------------------------------------------------


def test_where_a_part_begins() -> None:
    a = axes(12)
    windows = {"whole": a, "part": a[5:8], "shuffled": [a[7], a[2], a[3], a[4]], "copy": a}
    (group,) = groups_of(videos_of(windows, size=[9, 1, 1, 1]))
    begins = {copy.path: copy.begins for copy in group.duplicates}
    assert begins == {"part": 50.0, "shuffled": 10.0, "copy": 0.0}


def test_a_part_of_a_repeating_scene_begins_where_it_fits_best() -> None:
    repeated = axes(1, near=0.2)[0]
    whole = [repeated, axes(3)[1], repeated, axes(1)[0], axes(3)[2], repeated]
    (group,) = groups_of({"whole": whole, "part": whole[3:5]})
    assert group.duplicates[0].begins == 30.0


# -- featureless windows -----------------------------------------------------------------------------------------------


def tables_of(videos: list[dict], windows: list[dict]) -> IndexedVideos:
    import pyarrow as pa

    rows = [VideoRow(state="complete", **video) for video in videos]
    kind = pa.list_(pa.float32(), 4)
    parts = [
        pa.table({**{name: [value] for name, value in row.items()}, "embedding": pa.array([row["embedding"]], kind)})
        for row in windows
    ]
    return IndexedVideos.read(rows, parts)


def window(video: int, number: int, embedding: list[float], *, featureless: bool = False) -> dict:
    columns = {"video": video, "number": number, "start": 2.0 * number, "featureless": featureless}
    return {**columns, "embedding": embedding}


def test_a_black_clip_is_no_copy_of_a_film_with_black_seconds() -> None:
    dark, day, night = [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]
    videos = [
        {"id": 7, "path": "film", "duration": 6.0, "width": 4, "height": 3},
        {"id": 5, "path": "black", "duration": 4.0},
        {"id": 6, "path": "not complete yet", "duration": 4.0},
        {"id": 4, "path": "part", "duration": 4.0},
    ]
    windows = [
        window(7, 2, night), window(7, 0, dark, featureless=True), window(5, 0, dark, featureless=True),
        window(7, 1, day), window(5, 1, dark, featureless=True), window(4, 1, night), window(99, 0, day),
        window(4, 0, dark, featureless=True),
    ]  # fmt: skip
    read = tables_of(videos, windows)
    assert [row.path for row in read.rows] == ["black", "film", "part"]
    assert read.counts.tolist() == [0, 2, 1]
    assert read.start_N.tolist() == [2.0, 4.0, 2.0]
    assert read.embedding_NE.tolist() == [day, night, night]
    assert duplicate_paths(read) == {"film": ["part"]}
    counted = tables_of(videos, [{**row, "featureless": False} for row in windows])
    assert "black" in duplicate_paths(counted)["film"], "the flag makes the difference"


def test_an_index_without_windows() -> None:
    assert tables_of([], []).rows == []
    assert groups_of(tables_of([], [])) == []
    assert groups_of(tables_of([{"id": 1, "path": "a"}], [window(1, 0, [1.0, 0, 0, 0], featureless=True)])) == []


# -- many windows ------------------------------------------------------------------------------------------------------


def exhaustive(videos: IndexedVideos, min_similarity: float, overlap: float) -> dict[str, list[str]]:
    """Find groups by comparing all pairs of windows."""
    order = sorted(range(len(videos.rows)), key=lambda v: (-videos.rows[v].duration, -videos.rows[v].size))
    videos = videos.take(order)
    ends = np.cumsum(videos.counts)
    starts = ends - videos.counts
    groups: dict[int, list[str]] = {}
    is_kept = np.zeros(len(order), dtype=bool)
    for begin in range(0, len(order), 500):
        part = slice(begin, begin + 500)
        cosine = videos.embedding_NE[starts[part][0] : ends[part][-1]] @ videos.embedding_NE.T
        is_similar = np.maximum.reduceat(cosine, starts, axis=1) >= min_similarity - 1e-6
        share = (
            np.add.reduceat(is_similar.astype(np.float64), starts[part] - starts[begin], axis=0)
            / videos.counts[part][:, None]
        )
        for video, share_V in enumerate(share, begin):
            first = next(iter(np.flatnonzero(is_kept & (share_V >= overlap - 1e-9))), None)
            if first is None:
                is_kept[video] = True
            else:
                groups.setdefault(first, []).append(videos.rows[video].path)
    return {videos.rows[first].path: sorted(paths) for first, paths in groups.items()}


def with_copies(videos: int, width: int, seed: int, *, common: float = 0.0) -> IndexedVideos:
    """Return random videos of 1 to 4 windows, and a copy of each at cosines from 0.9 to 1, most of them near 0.95.

    Args:
        videos: number of originals.
        width: E.
        seed: seeds the random numbers.
        common: cosine of any two windows that are no copies.
    """
    random = np.random.default_rng(seed)

    def unit(array: np.ndarray) -> np.ndarray:
        return array / np.linalg.norm(array, axis=-1, keepdims=True)

    counts = np.concatenate([random.integers(1, 5, videos)] * 2)
    half = counts[:videos].sum()
    noise = unit(random.normal(size=(half, width)))
    originals = unit(np.sqrt(common) * unit(np.ones(width)) + np.sqrt(1 - common) * noise)
    across = random.normal(size=(half, width))
    across = unit(across - (across * originals).sum(1, keepdims=True) * originals)
    cosine = np.where(
        random.random(half) < 0.5, random.uniform(0.9, 1, half), 0.95 + random.choice([-1e-5, 1e-5], half)
    )
    copies = cosine[:, None] * originals + np.sqrt(1 - cosine**2)[:, None] * across
    sizes = random.permutation(2 * videos).tolist()
    rows = [
        VideoRow(id=i, path=f"{i:06}", duration=float(count), size=size)
        for i, (count, size) in enumerate(zip(counts, sizes, strict=True))
    ]
    return IndexedVideos(
        rows=rows,
        counts=counts,
        start_N=np.concatenate([np.arange(count, dtype=np.float64) for count in counts]),
        embedding_NE=np.concatenate([originals, copies]).astype(np.float32),
    )


def check_same_groups(videos: IndexedVideos, *, is_exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    created: list[Candidates] = []
    plain = Candidates.__init__

    def recorded(self: Candidates, *args, **options) -> None:
        plain(self, *args, **options)
        created.append(self)

    monkeypatch.setattr(Candidates, "__init__", recorded)
    groups = {keep: sorted(paths) for keep, paths in duplicate_paths(videos, overlap=0.6).items()}
    assert created[0].is_exact == is_exact
    assert len(groups) > len(videos.rows) / 10
    expected = exhaustive(videos, 0.95, 0.6)
    assert {frozenset((keep, *paths)) for keep, paths in groups.items()} == {
        frozenset((keep, *paths)) for keep, paths in expected.items()
    }


def test_partitions_give_the_groups_of_comparing_all_pairs(monkeypatch) -> None:
    monkeypatch.setattr(partitioning, "_CELL", 16)
    monkeypatch.setattr(partitioning, "_TRIALS", 1024)
    check_same_groups(with_copies(250, 64, 0), is_exact=False, monkeypatch=monkeypatch)


def test_all_pairs_are_compared_if_all_embeddings_are_similar(monkeypatch) -> None:
    """No cells separate the footage of one camera. This is detected, and nothing is missed."""
    monkeypatch.setattr(partitioning, "_CELL", 16)
    check_same_groups(with_copies(250, 48, 3, common=0.92), is_exact=True, monkeypatch=monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("common", [0.0, 0.5])
def test_partitions_give_the_groups_of_comparing_all_pairs_at_full_size(common, monkeypatch) -> None:
    check_same_groups(with_copies(4000, 512, 9, common=common), is_exact=False, monkeypatch=monkeypatch)


@pytest.mark.slow
def test_the_number_of_compared_pairs_grows_about_linearly(monkeypatch) -> None:
    """Count cosines instead of measuring time."""
    monkeypatch.setattr(partitioning, "_CELL", 32)
    work = 0

    def counted(self, rows, members):
        nonlocal work
        work += len(rows) * len(members)
        return iter(())

    monkeypatch.setattr(Candidates, "_compare", counted)
    costs = []
    for videos in (2000, 8000):
        work = 0
        duplicate_paths(with_copies(videos, 64, 1))
        costs.append(work)
    assert np.log(costs[1] / costs[0]) / np.log(4) < 1.3


def test_a_video_longer_than_a_block(monkeypatch) -> None:
    monkeypatch.setattr(candidates, "_BATCH", 4)
    long = axes(30)
    assert duplicate_paths({"long": long, "copy": [*long[3:20]], "short": long[:2]}) == {"long": ["copy", "short"]}


# -- excluded pairs ------------------------------------------------------------------------------------------------


def test_excluded_pairs_are_never_in_one_group() -> None:
    windows = {"abc": axes(2), "ab": axes(2), "a": axes(2)}
    assert duplicate_paths(windows) == {"abc": ["a", "ab"]}
    assert duplicate_paths(windows, not_duplicates={pair_key(("a", ""), ("abc", ""))}) == {"abc": ["ab"]}
    assert duplicate_paths(windows, not_duplicates={pair_key(("a", ""), ("ab", ""))}) == {"abc": ["ab"]}, (
        "not in one group either"
    )
    excluded = {pair_key(("ab", ""), ("abc", ""))}
    assert duplicate_paths(windows, not_duplicates=excluded) == {"abc": ["a"]}
    # No video to keep comes before a video that it is no duplicate of
    assert duplicate_paths(videos_of(windows, modified=[2, 3, 1]), keep="oldest", not_duplicates=excluded) == {
        "a": ["abc"]
    }
    contents = {"abc": "x", "ab": "x", "a": "y"}
    same = videos_of(windows, contents=contents)
    assert duplicate_paths(same, not_duplicates={pair_key(("abc", "x"), ("a", "y"))}) == {"abc": ["ab"]}, (
        "nor of its copies"
    )
    assert duplicate_paths(same, not_duplicates={pair_key(("abc", "x"), ("ab", "x"))}) == {"abc": ["a"]}


def test_excluded_pairs_are_remembered(index: VideoIndex, videos: Path, tmp_path: Path) -> None:
    for name in ("copy.mp4", "again.mp4"):
        shutil.copy(videos / "red2.mp4", videos / name)
    with (videos / "again.mp4").open("ab") as file:
        file.write(b"\0")
    index.add(videos)

    def copies() -> set[str]:
        groups = index.duplicates(min_similarity=0.99999)
        paths = [path for group in groups for path in (group.path, *(copy.path for copy in group.duplicates))]
        return {Path(path).name for path in paths}

    assert copies() == {"red2.mp4", "copy.mp4", "again.mp4"}
    pair = (videos / "red2.mp4", videos / "again.mp4")
    index.duplicates(not_duplicates=[pair, pair])
    assert copies() == {"red2.mp4", "copy.mp4"}, "a copy of one is no duplicate either"
    assert len((tmp_path / "index/not-duplicates.tsv").read_text().splitlines()) == 1
    index.duplicates(not_duplicates=[(videos / "copy.mp4", videos / "red2.mp4")])
    assert copies() == set()
    assert VideoIndex.open(tmp_path / "index").duplicates(min_similarity=0.99999) == []
    shutil.move(videos / "again.mp4", videos / "moved.mp4")
    (videos / "copy.mp4").unlink()
    index.add(videos)
    assert copies() == set(), "a moved file is the same"
    (tmp_path / "index/not-duplicates.tsv").unlink()
    assert copies() == {"red2.mp4", "moved.mp4"}


def test_pairs_that_cannot_be_remembered(index: VideoIndex, videos: Path, tmp_path: Path) -> None:
    red, blue = videos / "red2.mp4", videos / "more/blue.mp4"
    with pytest.raises(ValueError, match=r"nothing\.mp4: isn't in the index"):
        index.duplicates(not_duplicates=[(red, blue), (red, "nothing.mp4")])
    with pytest.raises(ValueError, match="is paired with itself"):
        index.duplicates(not_duplicates=[(red, videos / "more/../red2.mp4")])
    remembered = tmp_path / "index/not-duplicates.tsv"
    assert not remembered.exists(), "all or nothing"
    remembered.write_text("a\tb\n")
    with pytest.raises(VideoIndexError, match=r"not-duplicates\.tsv: line 1 has 2 columns, not 4"):
        index.duplicates()


# -- an index ----------------------------------------------------------------------------------------------------------


def test_duplicates_in_an_index(index: VideoIndex, videos: Path, tmp_path: Path) -> None:
    assert index.duplicates(min_similarity=1.0, where="path like '%blue%'") == []
    shutil.copy(videos / "red2.mp4", videos / "copy.mp4")
    index.add(videos)
    seen = []
    groups = index.duplicates(min_similarity=0.99999, on_video=lambda: seen.append(1))
    assert len(seen) == 4
    copies = {group.path: group.duplicates for group in groups}
    (path,) = {str(videos / "red2.mp4"), str(videos / "copy.mp4")} & copies.keys()
    (copy,) = (copy for copy in copies[path] if copy.identical)
    assert {path, copy.path} == {str(videos / "red2.mp4"), str(videos / "copy.mp4")}
    assert copy.similarity == pytest.approx(1)
    assert index.duplicates(where="path like '%nothing%'") == []
    exactly = index.duplicates(min_similarity=1.0)
    assert any(copy.identical for group in exactly for copy in group.duplicates)
    (videos / "a link.mp4").symlink_to(videos / "more/blue.mp4")
    index.add(videos)
    assert not any("a link" in str(group) for group in index.duplicates())  # a link is no copy
    (videos / "copy.mp4").unlink()
    (videos / "red2.mp4").touch()
    assert not any("red2" in str(group) or "copy.mp4" in str(group) for group in index.duplicates())
    with pytest.raises(ValueError, match="overlap=0"):
        index.duplicates(overlap=0)
    with pytest.raises(ValueError, match=r"min_similarity=1\.5"):
        index.duplicates(min_similarity=1.5)
    with pytest.raises(ValueError, match="can't be understood"):
        index.duplicates(where="colour = 3")
    with pytest.raises(VideoIndexError, match="there is no index"):
        VideoIndex.open(tmp_path / "none").duplicates()


def test_frames_from_memory_are_compared(index: VideoIndex) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
    for name in ("a", "b"):
        index.add_frames(name, frames, fps=8.0)
    assert any(
        {group.path, group.duplicates[0].path} == {"a", "b"} for group in index.duplicates(min_similarity=0.9999)
    )
