"""Duplicates: copies, parts and chains, of embeddings made here and of videos."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from openxclip import VideoIndex, VideoIndexError
from openxclip.search import duplicates
from openxclip.search.duplicates import Videos, find_duplicates


def videos_of(windows: dict[str, list[np.ndarray]], *, contents: dict[str, str] | None = None) -> Videos:
    contents = contents or {}
    return Videos(
        paths=list(windows),
        durations=np.array([10.0 * len(those) for those in windows.values()]),
        sizes=np.array([len(path) for path in windows]),
        modified=np.arange(len(windows))[::-1],
        contents=[contents.get(path, "") for path in windows],
        counts=np.array([len(those) for those in windows.values()]),
        embedding_NE=np.stack([window for those in windows.values() for window in those]).astype(np.float32),
    )


def found(windows: dict[str, list[np.ndarray]], *, threshold: float = 0.95, overlap: float = 0.8, **options) -> dict:
    groups = find_duplicates(videos_of(windows, **options), threshold=threshold, overlap=overlap, on_video=lambda: None)
    return {group.path: [one.path for one in group.duplicates] for group in groups}


def axes(count: int, *, near: float = 0.0) -> list[np.ndarray]:
    """Windows that are unlike each other; `near` turns each a little, to a cosine of about 1 - near²/2."""
    made = np.eye(64)[:count] + near * np.eye(64)[32 : 32 + count]
    return list(made / np.linalg.norm(made, axis=1, keepdims=True))


@pytest.mark.parametrize("at_once", [1, 40, 1 << 26])
def test_copies_and_parts(monkeypatch, at_once) -> None:
    monkeypatch.setattr(duplicates, "_NUMBERS_AT_ONCE", at_once)
    a = axes(8)
    windows = {
        "part": a[2:5],
        "a": a,
        "other": axes(20)[10:16],
        "copy": axes(8, near=0.1),
        "half": a[:3] + axes(20)[17:20],
    }
    assert {keep: set(those) for keep, those in found(windows).items()} == {"copy": {"a", "part"}}
    (group,) = find_duplicates(videos_of(windows), threshold=0.95, overlap=0.8, on_video=lambda: None)
    of = {one.path: one for one in group.duplicates}
    assert of["part"].overlap == 1
    assert group.duration == 80
    assert of["part"].duration == 30
    assert found(windows, threshold=0.999) == {"a": ["part"]}
    assert "half" in found(windows, overlap=0.5)["copy"]


def test_the_one_to_keep_is_no_duplicate_of_another() -> None:
    """Each of a chain is like the next: what is kept is not what another group would have deleted."""
    turned = [np.cos(angle) * np.eye(4)[0] + np.sin(angle) * np.eye(4)[1] for angle in np.linspace(0, 1.0, 5)]
    windows = {f"v{i}": [one] for i, one in enumerate(turned)}
    groups = found(windows)
    deleted = {path for those in groups.values() for path in those}
    assert not deleted & set(groups)
    vectors = dict(zip(windows, turned, strict=True))
    for keep, those in groups.items():
        for one in those:
            assert vectors[keep] @ vectors[one] >= 0.95


def test_identical_files() -> None:
    windows = {"a": axes(2), "b": axes(2), "c": axes(2), "gone": axes(2)}
    contents = {"a": "1", "b": "2", "c": "2"}
    (group,) = find_duplicates(
        videos_of(windows, contents=contents), threshold=0.95, overlap=0.8, on_video=lambda: None
    )
    same = {one.path: one.identical for one in group.duplicates}
    assert group.path == "gone"  # the largest file
    assert not any(same.values())  # whose content isn't known
    (group,) = find_duplicates(
        videos_of({name: axes(2) for name in "abc"}, contents=contents),
        threshold=0.95,
        overlap=0.8,
        on_video=lambda: None,
    )
    assert group.path == "c"  # the oldest
    assert {one.path: one.identical for one in group.duplicates} == {"a": False, "b": True}


def test_of_an_index(index: VideoIndex, videos, tmp_path) -> None:
    assert index.duplicates(threshold=1.0, where="path like '%blue%'") == []
    shutil.copy(videos / "red2.mp4", videos / "copy.mp4")
    index.add(videos)
    seen = []
    groups = index.duplicates(threshold=0.99999, on_video=lambda: seen.append(1))
    assert len(seen) == 4
    copies = {group.path: group.duplicates for group in groups}
    (path,) = {str(videos / "red2.mp4"), str(videos / "copy.mp4")} & copies.keys()
    (one,) = (one for one in copies[path] if one.identical)
    assert {path, one.path} == {str(videos / "red2.mp4"), str(videos / "copy.mp4")}
    assert one.similarity == pytest.approx(1)
    assert index.duplicates(where="path like '%nothing%'") == []
    exactly = index.duplicates(threshold=1.0)
    assert any(one.identical for group in exactly for one in group.duplicates)
    (videos / "a link.mp4").symlink_to(videos / "more/blue.mp4")
    index.add(videos)
    assert not any("a link" in str(group) for group in index.duplicates())  # it is no copy
    (videos / "copy.mp4").unlink()
    (videos / "red2.mp4").touch()
    assert not any("red2" in str(group) or "copy.mp4" in str(group) for group in index.duplicates())
    with pytest.raises(ValueError, match="overlap=0"):
        index.duplicates(overlap=0)
    with pytest.raises(ValueError, match="can't be understood"):
        index.duplicates(where="colour = 3")
    with pytest.raises(VideoIndexError, match="there is no index"):
        VideoIndex.open(tmp_path / "none").duplicates()
