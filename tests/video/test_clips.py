"""Clips and windows of videos, and the memory that reading them takes."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from openxclip.errors import VideoError
from openxclip.video import (
    DecodeWorker,
    Limits,
    ReadOptions,
    VideoReader,
    clips,
    read_clip,
    read_clips,
    sample_clips,
    sweeping,
)
from openxclip.video.clips import ClipPlan, PlannedClips
from openxclip.video.reading import ClipPiece, read_planned


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 frames at 25 a second, 4 s, each with its own level."""
    path = tmp_path_factory.mktemp("clips") / "array.npy"
    np.save(path, np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None, None], (100, 6, 8, 3)))
    return path


@pytest.fixture
def worker() -> Iterator[DecodeWorker]:
    with DecodeWorker() as one:
        yield one


def planned(path: Path, **plan: Any) -> list[tuple[float, float]]:
    with VideoReader(path) as reader:
        return [
            (round(clip.start, 9), round(clip.end, 9)) for clip in PlannedClips(ClipPlan(num_frames=2, **plan), reader)
        ]


@pytest.mark.parametrize(
    ("window", "stride", "expected"),
    [
        (1, None, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        (0.8, 0.8, [(0, 0.8), (0.8, 1.6), (1.6, 2.4), (2.4, 3.2), (3.2, 4)]),
        # a video shorter than a window is one window
        (4, None, [(0, 4)]),
        (4.1, None, [(0, 4)]),
        (99, 1, [(0, 4)]),
        # a remainder shorter than half a window is joined to the last whole one
        (1.96, None, [(0, 1.96), (1.96, 4)]),
        (2.68, None, [(0, 4)]),  # 1.32 s remain, and half a window is 1.34 s
        (1.2, None, [(0, 1.2), (1.2, 2.4), (2.4, 4)]),
        # otherwise it is a window of its own, even if it is exactly half a window
        (2.6, None, [(0, 2.6), (2.6, 4)]),
        (1.6, None, [(0, 1.6), (1.6, 3.2), (3.2, 4)]),
        (1.5, None, [(0, 1.5), (1.5, 3), (3, 4)]),
        # overlapping windows begin a stride apart, too
        (2, 1, [(0, 2), (1, 3), (2, 4)]),
        (4, 1, [(0, 4)]),
        (1.6, 0.7, [(0, 1.6), (0.7, 2.3), (1.4, 3), (2.1, 4)]),
        (2, 1.5, [(0, 2), (1.5, 4)]),
        (1.4, 1.3, [(0, 1.4), (1.3, 2.7), (2.6, 4)]),
        (1.6, 1.5, [(0, 1.6), (1.5, 3.1), (3, 4)]),
        # windows with gaps: a gap belongs to no window, unless it is a short remainder
        (1, 2, [(0, 1), (2, 3)]),
        (1, 4, [(0, 1)]),
        (1, 1.3, [(0, 1), (1.3, 2.3), (2.6, 4)]),
        (1, 1.5, [(0, 1), (1.5, 2.5), (3, 4)]),
        (1, 1.7, [(0, 1), (1.7, 2.7), (3.4, 4)]),
        (1, 3.9, [(0, 1)]),  # 0.1 s after the gap is too short for a window
    ],
)
def test_windows(array: Path, window: float, stride: float | None, expected: list[tuple[float, float]]) -> None:
    assert planned(array, window=window, stride=stride) == expected


def test_windows_follow_the_rule_for_any_duration(array: Path) -> None:
    for hundredths in range(8, 430, 7):
        for window in (hundredths / 100, hundredths / 100 * math.pi / 3):
            found = planned(array, window=window)
            assert found[0][0] == 0
            assert found[-1][1] == 4
            assert all(one[1] == pytest.approx(other[0], abs=2e-9) for one, other in itertools.pairwise(found))
            assert all(end - start == pytest.approx(window, abs=2e-9) for start, end in found[:-1])
            if window < 4:
                assert window / 2 - 1e-6 <= found[-1][1] - found[-1][0] < window * 1.5


def test_the_last_window_includes_a_joined_remainder(array: Path) -> None:
    """The frames of the last window are sampled over its whole length."""
    with VideoReader(array) as reader:
        *_, last = PlannedClips(ClipPlan(num_frames=4, window=1.2), reader)
    assert last == (2.4, 4.0, read_clip(array, num_frames=4, start=2.4).indices)
    assert last.indices[-1] > 3.6 * 25


@pytest.mark.parametrize("isolated", [False, True])
def test_a_window_shorter_than_two_frames_is_refused(array: Path, worker: DecodeWorker, isolated: bool) -> None:
    read = worker.read_planned if isolated else read_planned
    message = (
        "a window of 0.05 s is shorter than two of its frames (25 frames a second): choose a window of 0.08 s or more"
    )
    with pytest.raises(VideoError, match=re.escape(f"{array}: {message}")):
        next(read(array, ClipPlan(num_frames=2, window=0.05, stride=1)))
    assert len(next(read(array, ClipPlan(num_frames=2, window=0.08))).clips) == 16
    with pytest.raises(VideoError, match="0\\.067 s or more"):  # the rounded value in the message works
        next(read(array, ClipPlan(num_frames=2, window=0.05), read=ReadOptions(fps=30000 / 1001)))
    assert next(read(array, ClipPlan(num_frames=2, window=0.067), read=ReadOptions(fps=30000 / 1001)))


def test_one_frame_is_one_window_however_short(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "still.png")
    for window in (0.001, 0.01, 9):
        (piece,) = read_planned(tmp_path / "still.png", ClipPlan(num_frames=2, window=window))
        assert piece.clips == ((0, piece.duration, (0, 0)),)


@pytest.mark.parametrize("isolated", [False, True])
def test_frames_equal_those_of_read_clip(array: Path, worker: DecodeWorker, isolated: bool) -> None:
    read = worker.read_planned if isolated else read_planned
    pieces = list(read(array, ClipPlan(num_frames=3, window=0.5, stride=0.3)))
    assert sum(len(piece.clips) for piece in pieces) == 12
    for piece in pieces:
        for clip in piece.clips:
            expected = read_clip(array, num_frames=3, start=clip.start, end=clip.end)
            at = [piece.frames.indices.index(index) for index in clip.indices]
            assert clip.indices == expected.indices
            assert (piece.frames.frames_THWC[at] == expected.frames_THWC).all()
            assert (piece.frames.times_T[at] == expected.times_T).all()
    (piece,) = read(array, ClipPlan(num_frames=3, num_clips=4))
    for clip, frames in zip(piece.clips, read_clips(array, ClipPlan(num_frames=3, num_clips=4)), strict=True):
        assert (clip.start, clip.end, clip.indices) == (0, 4, frames.indices)


@pytest.mark.parametrize("isolated", [False, True])
def test_a_window_longer_than_the_video_and_fewer_frames_than_asked(
    clip_folder: Path, worker: DecodeWorker, isolated: bool
) -> None:
    read = worker.read_planned if isolated else read_planned
    ((clip,),) = [piece.clips for piece in read(clip_folder / "red2.mp4", ClipPlan(num_frames=12, window=60))]
    assert (clip.start, clip.end) == (0, 1)
    assert clip.indices == (0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 9)


@pytest.mark.parametrize("isolated", [False, True])
def test_skipping_the_first_clips(array: Path, worker: DecodeWorker, isolated: bool) -> None:
    read = worker.read_planned if isolated else read_planned
    plan = ClipPlan(num_frames=2, window=0.1)
    whole = [clip for piece in read(array, plan) for clip in piece.clips]
    assert len(whole) == 40
    for first in (0, 1, 31, 32, 39, 40, 99):
        assert [clip for piece in read(array, plan, first=first) for clip in piece.clips] == whole[first:]


def test_frames_of_a_piece_are_bounded(array: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ClipPlan(num_frames=2, window=0.4)
    (piece,) = read_planned(array, plan)
    assert (len(piece.clips), len(piece.frames)) == (10, 20)
    monkeypatch.setattr(sweeping, "_PIECE_BYTES", 5 * 6 * 8 * 3)  # five frames
    pieces = list(read_planned(array, plan))
    assert [(len(piece.clips), len(piece.frames)) for piece in pieces] == [(2, 5), (3, 5)] * 2
    monkeypatch.setattr(sweeping, "_PIECE_BYTES", 1)
    assert [len(piece.frames) for piece in read_planned(array, plan)] == [1] * 20
    monkeypatch.undo()
    plan = ClipPlan(num_frames=1, window=0.08, stride=0.02)
    assert max(len(piece.clips) for piece in read_planned(array, plan)) <= 17  # the last frame may complete two
    monkeypatch.setattr(sweeping, "_PIECE_FRAMES", 7)
    assert max(len(piece.frames) for piece in read_planned(array, plan)) == 7


@pytest.mark.parametrize("isolated", [False, True])
def test_windows_that_share_too_many_frames_are_read_in_groups(
    array: Path, worker: DecodeWorker, isolated: bool
) -> None:
    read = worker.read_planned if isolated else read_planned
    plan = ClipPlan(num_frames=4, window=3, stride=0.02)
    pieces = list(read(array, plan, bytes_kept=3 << 20))  # ninety frames of this size are too many
    assert [len(piece.clips) for piece in pieces] == [32, 19]
    assert {piece.keep_from for piece in pieces} == {None}
    whole = list(read(array, plan, bytes_kept=2 << 20))
    assert [clip for piece in pieces for clip in piece.clips] == [clip for piece in whole for clip in piece.clips]
    assert sum(len(piece.frames) for piece in whole) == len({i for piece in whole for i in piece.frames.indices})


@pytest.mark.parametrize("isolated", [False, True])
def test_many_clips_over_a_video_are_read_in_pieces(
    array: Path, worker: DecodeWorker, monkeypatch: pytest.MonkeyPatch, isolated: bool
) -> None:
    expected = sample_clips(total=100, num_frames=3, num_clips=40)
    plan = ClipPlan(num_frames=3, num_clips=40)
    read = worker.read_planned if isolated else read_planned
    (piece,) = read(array, plan, read=ReadOptions(fps=25))  # all frames fit into one piece
    assert [list(clip.indices) for clip in piece.clips] == expected
    if isolated:
        return  # the child has its own bound
    monkeypatch.setattr(clips, "_PIECE_BYTES", 30 * 6 * 8 * 3)  # thirty frames
    pieces = list(read_planned(array, plan, read=ReadOptions(fps=25)))
    assert [len(piece.clips) for piece in pieces] == [10] * 4
    assert max(len(piece.frames) for piece in pieces) <= 30
    assert [list(clip.indices) for piece in pieces for clip in piece.clips] == expected
    rest = list(read_planned(array, plan, read=ReadOptions(fps=25), first=15))
    assert [list(clip.indices) for piece in rest for clip in piece.clips] == expected[15:]
    part = list(read_planned(array, ClipPlan(num_frames=2, num_clips=3, start=1.0, end=2.0), read=ReadOptions(fps=25)))
    assert [list(clip.indices) for piece in part for clip in piece.clips] == sample_clips(
        total=25, num_frames=2, num_clips=3, first=25
    )


def test_equal_clips_share_their_frames(array: Path) -> None:
    (piece,) = read_planned(array, ClipPlan(num_frames=8, num_clips=4096), read=ReadOptions(fps=25))
    assert len(piece.clips) == 4096
    assert len(piece.frames) == 100


def test_resizing_frames_as_they_come_needs_fewer_decodes(array: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "_PIECE_BYTES", 30 * 6 * 8 * 3)  # thirty frames, or 120 of a quarter of their size
    plan = ClipPlan(num_frames=3, num_clips=40)
    pieces = list(read_planned(array, plan, read=ReadOptions(fps=25), bytes_kept=6 * 8 * 3 // 4))
    assert [len(piece.clips) for piece in pieces] == [0, 0, 0, 40]  # the frames of the clips come in four runs
    assert [(len(piece.frames), piece.keep_from) for piece in pieces] == [(30, 0), (30, 0), (30, 0), (10, None)]
    assert [i for piece in pieces for i in piece.frames.indices] == list(range(100))
    assert [piece.frames.frames_THWC[0, 0, 0, 0].item() for piece in pieces] == [0, 30, 60, 90]


@pytest.mark.slow
def test_runs_of_frames_from_another_process(tmp_path: Path, worker: DecodeWorker) -> None:
    wide = np.lib.format.open_memmap(tmp_path / "wide.npy", "w+", np.uint8, (25, 2160, 3840, 3))
    wide[:, 0, 0, 0] = np.arange(25)
    del wide
    plan = ClipPlan(num_frames=5, num_clips=5)
    expected = list(read_planned(tmp_path / "wide.npy", plan, read=ReadOptions(fps=25), bytes_kept=100_000))
    runs = worker.read_planned(tmp_path / "wide.npy", plan, read=ReadOptions(fps=25), bytes_kept=100_000)
    got = [next(runs)]
    assert worker._child is not None
    os.kill(worker._child._process.pid, signal.SIGKILL)  # another child continues in the middle of the piece
    worker._child._process.wait()
    got += runs
    assert len(got) == 3
    for one, other in zip(got, expected, strict=True):
        assert (one.clips, one.keep_from) == (other.clips, other.keep_from)
        assert one.frames.indices == other.frames.indices
        assert one.frames.frames_THWC[:, 0, 0, 0].tolist() == list(one.frames.indices)


def test_windows_of_a_part_are_refused(array: Path) -> None:
    with pytest.raises(ValueError, match="windows are of the whole video"):
        ClipPlan(num_frames=2, window=1, start=1.0)
    with pytest.raises(VideoError, match=r"ends at 4\.00 s, before start=4\.5 s"):
        next(read_planned(array, ClipPlan(num_frames=2, start=4.5), read=ReadOptions(fps=25)))


def test_a_video_is_opened_once(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = VideoReader.__init__

    def counted(self: VideoReader, source: Any, **how: Any) -> None:
        opened.append(source)
        original(self, source, **how)

    monkeypatch.setattr(VideoReader, "__init__", counted)
    pieces = list(read_planned(clip_folder / "red2.mp4", ClipPlan(num_frames=2, window=0.2, stride=0.008)))
    assert len(pieces) == 4
    assert len(opened) == 1


def test_a_pipe_is_read_once(clip_folder: Path, worker: DecodeWorker, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = clip_folder / "red2.mp4"
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(path.read_bytes()))
    writer.start()
    plan = ClipPlan(num_frames=2, window=0.2, stride=0.02)
    through = list(worker.read_planned(tmp_path / "pipe", plan))
    writer.join()
    assert [piece.clips for piece in through] == [piece.clips for piece in worker.read_planned(path, plan)]


def test_the_child_is_killed_between_two_pieces(array: Path, worker: DecodeWorker) -> None:
    plan = ClipPlan(num_frames=2, window=0.1)
    pieces = worker.read_planned(array, plan)
    first = next(pieces)
    assert worker._child is not None
    os.kill(worker._child._process.pid, signal.SIGKILL)
    worker._child._process.wait()
    rest = list(pieces)  # another child opens it again
    assert [c for piece in [first, *rest] for c in piece.clips] == [
        c for p in read_planned(array, plan) for c in p.clips
    ]


def test_one_worker_alternates_between_two_videos(array: Path, clip_folder: Path, worker: DecodeWorker) -> None:
    plan = ClipPlan(num_frames=2, window=0.2, stride=0.02)
    in_turn = [worker.read_planned(path, plan) for path in (array, clip_folder / "red2.mp4")]
    got: list[list[ClipPiece]] = [[], []]
    for pair in zip(*in_turn, strict=False):
        for pieces, piece in zip(got, pair, strict=True):
            pieces.append(piece)
        worker.inspect(array)
    for pieces, path in zip(got, (array, clip_folder / "red2.mp4"), strict=True):
        expected = list(read_planned(path, plan))
        for one, other in zip(pieces, expected, strict=False):
            assert one.clips == other.clips
            assert (one.frames.frames_THWC == other.frames.frames_THWC).all()


def test_errors(array: Path, worker: DecodeWorker, tmp_path: Path) -> None:
    for read in (read_planned, worker.read_planned):
        with pytest.raises(VideoError, match="no such file"):
            list(read(tmp_path / "gone.mp4", ClipPlan(num_frames=2, window=1)))
        with pytest.raises(VideoError, match="--max-memory"):
            list(read(array, ClipPlan(num_frames=2, window=1), read=ReadOptions(limits=Limits(memory=100))))
        with pytest.raises(VideoError, match="--max-memory"):
            list(read(array, ClipPlan(num_frames=10**9, window=1)))
        with pytest.raises(VideoError, match="--max-memory"):
            list(read(array, ClipPlan(num_frames=2, num_clips=10**9)))
        assert list(read(array, ClipPlan(num_frames=2, window=1)))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"num_frames": 0}, "num_frames=0"),
        ({"num_frames": 1, "num_clips": 0}, "num_clips=0"),
        ({"num_frames": 1, "window": 0}, "window=0"),
        ({"num_frames": 1, "window": math.nan}, "window=nan"),
        ({"num_frames": 1, "window": math.inf}, "window=inf"),
        ({"num_frames": 1, "window": 1, "stride": -1}, "stride=-1"),
        ({"num_frames": 1, "stride": 1}, "say how long a window is"),
        ({"num_frames": 1, "window": 1, "num_clips": 2}, "give only one of num_clips and window"),
    ],
)
def test_impossible_plans_are_refused(plan: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipPlan(**plan)
