"""The ids of videos follow from their contents, and no id stands for two versions of a video."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from index_tables import embeddings, lance_table, open_store, window_times

from openxclip import Limits, ReadOptions, VideoIndex, VideoPipeline
from openxclip.search import indexer
from openxclip.search.bulk.rows import video_id

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def ids(folder: Path) -> dict[str, int]:
    return {path: row.id for path, row in open_store(folder).complete_videos().items()}


def test_two_indexes_of_the_same_files_have_the_same_ids(
    index: VideoIndex, videos: Path, folder: Path, pipeline: VideoPipeline, tmp_path: Path
) -> None:
    other = VideoIndex.open(tmp_path / "other", model=pipeline, window=0.4, stride=0.2)
    other.add(sorted(videos.rglob("*.mp4"), reverse=True))
    assert ids(folder) == ids(tmp_path / "other")
    assert len({*ids(folder).values()}) == 3
    wider = VideoIndex.open(tmp_path / "wider", model=pipeline, window=0.5)
    wider.add(videos)
    assert not {*ids(folder).values()} & {*ids(tmp_path / "wider").values()}


def test_an_id_depends_on_all_that_decides_the_windows() -> None:
    given = ("/a.mp4", "c0ffee", (1, 2, 3, 4), "weights", "options")
    others = [("/b.mp4", *given[1:]), ("/a.mp4", "beef", *given[2:]), (*given[:3], "other", "options")]
    others += [(*given[:4], "other"), ("/a.mp4", "", *given[2:]), ("/a.mp4", "", (1, 2, 3, 5), "weights", "options")]
    numbers = [video_id(*values) for values in (given, *others)]
    assert len({*numbers}) == len(numbers)
    assert all(0 <= number < 2**63 for number in numbers)
    assert video_id("/a.mp4", "c0ffee", (0, 0, 0, 0), "weights", "options") == numbers[0]


def test_a_file_that_changes_back_has_its_first_windows(index: VideoIndex, videos: Path, folder: Path) -> None:
    red, before, first = videos / "red2.mp4", embeddings(folder), ids(folder)
    content = red.read_bytes()
    red.write_bytes((videos / "more/blue.mp4").read_bytes() + b"\0")
    index.add(videos)
    assert ids(folder)[str(red)] != first[str(red)]
    red.write_bytes(content)
    index.add(videos)
    assert ids(folder) == first
    assert embeddings(folder) == pytest.approx(before, abs=1e-6)
    assert lance_table(folder).count_rows() == 12


def test_a_file_that_moves_and_comes_back_is_there_once(index: VideoIndex, videos: Path, folder: Path) -> None:
    red, elsewhere, first, times = videos / "red2.mp4", videos / "other.mp4", ids(folder), window_times(folder)
    red.rename(elsewhere)
    assert index.add(videos).moved == ((str(red), str(elsewhere)),)
    shutil.copy(elsewhere, red)
    assert index.add(videos).added == (str(red),)
    assert {path: ids(folder)[path] for path in first} == first
    assert {path: window_times(folder)[path] for path in times} == times
    elsewhere.unlink()
    index.update()
    assert (ids(folder), window_times(folder)) == (first, times)
    assert lance_table(folder).count_rows() == 12


@pytest.mark.parametrize("commits", [1, 2])
def test_a_file_takes_the_content_of_one_that_is_replaced(
    index: VideoIndex, videos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    """The source of a copy isn't removed before it is copied."""
    if commits == 2:
        monkeypatch.setattr(indexer, "_COMMIT_EVERY_BYTES", 1)
    red, times = videos / "red2.mp4", window_times(folder)
    shutil.copy(red, videos / "saved.mp4")
    red.write_bytes((videos / "more/blue.mp4").read_bytes() + b"\0")
    assert {*index.add([red, videos / "saved.mp4"]).added} == {str(red), str(videos / "saved.mp4")}
    assert window_times(folder) == {**times, str(videos / "saved.mp4"): times[str(red)]}


def test_a_video_that_failed_has_one_row_when_it_is_read_later(index: VideoIndex, videos: Path, folder: Path) -> None:
    new = videos / "new.mp4"
    new.write_bytes((videos / "red2.mp4").read_bytes() + b"\0")
    small = ReadOptions(limits=Limits(frames=5))
    assert index.add(new, read=small).errors
    (failed,) = (row for row in open_store(folder).videos() if row.state == "failed")
    assert index.add(new, retry=True, read=small).errors
    assert index.add(new, retry=True).added == (str(new),)
    rows = open_store(folder).videos()
    assert [(row.id, row.state) for row in rows if row.path == str(new)] == [(failed.id, "complete")]
    assert len(rows) == 4
    shutil.copy(videos / "red10.mp4", new)
    assert index.add(new, read=small).added == (str(new),)  # a copy, which isn't read
    assert len(open_store(folder).videos()) == 4


def test_frames_from_memory_that_were_interrupted_are_written_once(
    index: VideoIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    monkeypatch.setattr(indexer, "_COMMIT_EVERY_BYTES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(indexer.Indexer, "_finish_video", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            index.add_frames("camera", frames, 10)
    assert lance_table(folder).count_rows() > 12
    assert index.add_frames("camera", frames, 10).added == ("camera",)
    numbers = sorted(len(times) for times in window_times(folder).values())
    assert numbers == [4, 4, 4, 9]
    assert lance_table(folder).count_rows() == 12 + 9
