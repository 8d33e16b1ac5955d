"""Windows that are read in one pass over a video."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_videos import ENCODINGS, IRREGULAR_MS, MORE, encode, picture, x264
from PIL import Image
from processes import in_fork, needs_fork

from openxclip.errors import VideoError
from openxclip.video import DecodeWorker, ReadOptions, VideoReader, containers, read_clip, sweeping
from openxclip.video.answers import ReceivedClips
from openxclip.video.clips import ClipPlan, PlannedClips
from openxclip.video.coded_stream import ContradictionError
from openxclip.video.reading import ClipPiece, read_planned
from openxclip.video.run_decoding import decode_run
from openxclip.video.sweeping import Sweep

OVERLAPPING = ClipPlan(num_frames=3, window=0.5, stride=0.15)
LONG = 260  # frames, 10.4 s


def _folder(path: Path) -> Path:
    path.mkdir()
    for i in range(30):
        Image.fromarray(picture(i)).save(path / f"{i}.png")
    return path


def _gif(path: Path) -> Path:
    frames = [Image.fromarray(picture(i)) for i in range(30)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 90, 30] * 10)
    return path


def _array(path: Path) -> Path:
    np.save(path, np.stack([picture(i) for i in range(50)]))
    return path


MADE: dict[str, Callable[[Path], Path]] = {"folder": _folder, "film.gif": _gif, "film.npy": _array}
ENCODED = {
    "long_gop.mp4": ("libx264", {"gop": 50, "b_frames": 3, "count": LONG}),
    "open_gop.mp4": ("libx264", {**x264(**{"open-gop": 1, "scenecut": 0, "keyint": 10}), "count": LONG, "gop": 10}),
    "irregular.mkv": ("libx264", {"gop": 12, "pts_ms": IRREGULAR_MS}),
    **{
        name: (ENCODINGS | MORE)[name]
        for name in ("h264_without_times.avi", "hevc.mp4", "vp9.webm", "mpeg2.mpg", "mjpeg.avi", "h264_interlaced.ts")
    },
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            path = tmp_path_factory.mktemp("sweeps") / name
            made[name] = MADE[name](path) if name in MADE else encode(path, ENCODED[name][0], **ENCODED[name][1])
        return made[name]

    return get


@pytest.fixture
def worker() -> Iterator[DecodeWorker]:
    with DecodeWorker() as one:
        yield one


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_PART_FRAMES", 7)
    monkeypatch.setattr(containers, "_LONGEST_PART", 25)


def check(path: Path, pieces: list[ClipPiece], plan: ClipPlan, *, first: int = 0) -> None:
    """Compare all windows with those of other ways of reading, and check that each frame was sent once and in order."""
    assert plan.num_frames
    with VideoReader(path) as reader:
        planned = list(PlannedClips(plan, reader))
        assert [clip for piece in pieces for clip in piece.clips] == planned[first:]
        indices = [index for piece in pieces for index in piece.frames.indices]
        assert indices == sorted(set(indices))
        assert plan.all_frames or set(indices) == {index for clip in planned[first:] for index in clip.indices}
        expected = reader.get_frames(indices)
    assert torch.equal(torch.cat([piece.frames.frames_THWC for piece in pieces]), expected.frames_THWC)
    assert torch.equal(torch.cat([piece.frames.times_T for piece in pieces]), expected.times_T)
    for clip in (planned[first], planned[-1]):
        alone = read_clip(path, num_frames=plan.num_frames, start=clip.start, end=clip.end)
        assert alone.indices == clip.indices
        assert torch.equal(alone.frames_THWC, expected.take([indices.index(i) for i in clip.indices]).frames_THWC)
    kept: set[int] = set()
    for piece in pieces:
        kept.update(piece.frames.indices)
        assert all(kept.issuperset(clip.indices) for clip in piece.clips)
        kept = {index for index in kept if index >= (piece.keep_from or 0)}


@pytest.mark.filterwarnings("ignore:folders of images")
@pytest.mark.parametrize("name", [*MADE, *ENCODED])
def test_every_window_equals_that_of_read_clip(
    name: str, make: Callable[[str], Path], short_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(name)
    check(path, list(read_planned(path, OVERLAPPING)), OVERLAPPING)
    monkeypatch.setattr(sweeping, "_PIECE_FRAMES", 2)
    sparse = ClipPlan(num_frames=2, window=0.4, stride=0.9)
    check(path, list(read_planned(path, sparse, first=1)), sparse, first=1)
    every = replace(OVERLAPPING, all_frames=True)
    pieces = list(read_planned(path, every))
    check(path, pieces, every)
    with VideoReader(path) as reader:
        assert [i for piece in pieces for i in piece.frames.indices] == list(range(reader.num_frames))


@pytest.mark.filterwarnings("ignore:folders of images")
@pytest.mark.parametrize("name", ["film.npy", "long_gop.mp4"])
def test_the_worker_sends_the_same(name: str, make: Callable[[str], Path], worker: DecodeWorker) -> None:
    path = make(name)
    for plan in (OVERLAPPING, replace(OVERLAPPING, all_frames=True)):
        check(path, list(worker.read_planned(path, plan)), plan)
    check(path, list(worker.read_planned(path.read_bytes(), OVERLAPPING, first=3)), OVERLAPPING, first=3)


@pytest.mark.parametrize("every", [False, True])
def test_another_child_goes_on_after_one_was_killed(
    make: Callable[[str], Path], worker: DecodeWorker, every: bool
) -> None:
    path, plan = make("long_gop.mp4"), replace(OVERLAPPING, all_frames=every)
    runs = worker.read_planned(path.read_bytes(), plan)
    got = [next(runs)]
    assert worker._child is not None
    os.kill(worker._child._process.pid, signal.SIGKILL)
    worker._child._process.wait()
    got += runs
    assert len(got) >= 4
    check(path, got, plan)


@pytest.mark.parametrize("name", ["long_gop.mp4", "open_gop.mp4"])
def test_each_frame_is_decoded_once(name: str, make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ClipPlan(num_frames=8, window=0.6, stride=0.04)
    monkeypatch.setattr(sweeping, "_PIECE_FRAMES", 5)
    monkeypatch.setattr(containers, "_PART_FRAMES", 60)
    with VideoReader(make(name)) as reader:
        sweep = Sweep(reader, PlannedClips(plan, reader))
        pieces = list(iter(sweep.next_piece, None))
        assert len(pieces) > 40
        assert LONG - 20 <= reader.frames_decoded <= LONG


def test_a_part_ends_within_an_open_group_if_there_is_no_other_place(
    make: Callable[[str], Path], short_parts: None
) -> None:
    with VideoReader(make("open_gop.mp4")) as reader:
        got = dict(reader.iterate(range(LONG)))
        assert reader.frames_decoded > LONG  # some leading pictures are decoded with both parts
        assert list(got) == list(range(LONG))


def test_other_frames_may_be_read_during_an_iteration(make: Callable[[str], Path], short_parts: None) -> None:
    for name in ("long_gop.mp4", "h264_without_times.avi", "film.gif"):
        with VideoReader(make(name)) as reader, VideoReader(make(name)) as other:
            got = []
            for number, frame in reader.iterate(range(1, reader.num_frames, 2)):
                got.append(number)
                assert (frame == other[number].numpy()).all()
                if number % 5 == 0:
                    assert (reader[number - 4] == other[number - 4]).all()
            assert got == list(range(1, reader.num_frames, 2))


def test_an_iteration_may_be_left(make: Callable[[str], Path]) -> None:
    with VideoReader(make("long_gop.mp4")) as reader, VideoReader(make("long_gop.mp4")) as other:
        steps = reader.iterate(range(LONG))
        for _ in range(8):
            next(steps)
        del steps
        gc.collect()
        for number in (9, 55, 0, 50):
            assert (reader[number] == other[number]).all()


def test_an_iteration_goes_on_after_a_contradiction(
    make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, short_parts: None
) -> None:
    calls = list[int]()

    def contradicting(coded: Any, index: Any, run: Any, *rest: Any, **how: Any) -> Iterator[tuple[int, Any]]:
        calls.append(run.first)
        for number, frame in decode_run(coded, index, run, *rest, **how):
            if number == 17 and len(calls) < 5:
                raise ContradictionError
            yield number, frame

    monkeypatch.setattr(containers, "decode_run", contradicting)
    with VideoReader(make("long_gop.mp4")) as reader:
        got = dict(reader.iterate(range(60)))
    monkeypatch.undo()
    assert list(got) == list(range(60))
    with VideoReader(make("long_gop.mp4")) as reader:
        for number in (16, 17, 18, 59):
            assert (got[number] == reader[number].numpy()).all()


@needs_fork
def test_a_forked_process_cannot_go_on_with_an_iteration(make: Callable[[str], Path]) -> None:
    with VideoReader(make("long_gop.mp4")) as reader:
        steps = reader.iterate(range(LONG))
        next(steps)
        assert in_fork(lambda: next(steps)).startswith("RuntimeError: this forked process can't go on")
        expected = str(int(reader[3].sum()))
        assert in_fork(lambda: int(reader[3].sum())) == expected
        assert len(list(steps)) == LONG - 1

    open_ones = [read_planned(make("long_gop.mp4"), replace(OVERLAPPING, all_frames=True))]
    next(open_ones[0])

    def leave() -> str:
        open_ones.clear()
        gc.collect()
        return "ended"

    assert in_fork(leave) == "ended"


@needs_fork
def test_a_fork_while_another_thread_iterates(make: Callable[[str], Path]) -> None:
    with VideoReader(make("long_gop.mp4")) as reader:
        expected, stop = str(int(reader[3].sum())), threading.Event()

        def iterate() -> None:
            while not stop.is_set():
                for _ in reader.iterate(range(0, LONG, 3)):
                    pass

        thread = threading.Thread(target=iterate)
        thread.start()
        try:
            for _ in range(5):
                assert in_fork(lambda: int(reader[3].sum())) == expected
        finally:
            stop.set()
            thread.join()


def test_a_closed_reader_ends_an_iteration(make: Callable[[str], Path]) -> None:
    reader = VideoReader(make("long_gop.mp4"))
    steps = reader.iterate(range(LONG))
    next(steps)
    reader.close()
    with pytest.raises(VideoError, match="its reader has been closed"):
        next(steps)


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    for i in range(60):
        Image.new("RGB", (8, 6) if i < 50 else (8, 4)).save(tmp_path / f"{i:02}.png")
    message = r"its frames differ in size: frame 52 is 8×4 and another 8×6"
    with pytest.raises(VideoError, match=message):
        list(read_planned(tmp_path, ClipPlan(num_frames=2, window=0.4), read=ReadOptions(fps=25)))


def answer(**changes: Any) -> dict[str, Any]:
    right = {"times": [0.0, 1.0], "indices": [0, 1], "clips": [[0, 1, [0, 1]]], "keep_from": 1}
    return {**right, "duration": 9.0, "fps": 1.0, "is_last": False, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": [[0, 1, [0, 1, 1]]]}, "the number of frames of a clip is wrong"),
        ({"clips": [[0, 1, [0, 2]]]}, "the frames are not those of the clips"),
        ({"clips": [[0, 1, ["0", 1]]]}, "the frames are not those of the clips"),
        ({"clips": [[0, 1, [[], 1]]]}, "unhashable"),
        ({"clips": []}, "there are frames that no clip needs"),
        ({"clips": [["x", 1, [0, 1]]]}, "could not convert"),
        ({"indices": [1, 0]}, "not in the order of the video"),
        ({"indices": [0, True]}, "not in the order of the video"),
        ({"indices": [-1, 1]}, "not in the order of the video"),
        ({"indices": [0]}, "the numbers of frames and times differ"),
        ({"indices": [], "times": []}, "the numbers of frames and times differ"),
        ({"keep_from": 0.5}, "the frames to keep are wrong"),
        ({"keep_from": -1}, "the frames to keep are wrong"),
        ({"duration": "long"}, "could not convert"),
        ({"fps": None}, "float"),
        ({"is_last": True, "clips": []}, "there are frames that no clip needs"),
    ],
)
def test_invalid_pieces_of_a_child_are_refused(changes: dict[str, Any], message: str) -> None:
    frames = np.zeros((2, 4, 6, 3), np.uint8)
    received = ReceivedClips("film", ClipPlan(num_frames=2, window=1), first=0)
    with pytest.raises(VideoError, match=f"film: the process that reads it sent invalid .*{message}"):
        received.add(answer(**changes), frames)


def test_pieces_that_do_not_fit_those_before_are_refused() -> None:
    plan = ClipPlan(num_frames=2, window=1)
    for changes, shape, message in (
        ({"indices": [1, 2]}, (2, 4, 6, 3), "not in the order"),
        ({"indices": [2, 3], "clips": [[0, 1, [0, 2]]]}, (2, 4, 6, 3), "not those of the clips"),  # 0 was dropped
        ({"indices": [2, 3], "clips": [[0, 1, [2, 3]]]}, (2, 5, 6, 3), "not of one size"),
        ({"indices": [2, 3], "clips": [[0, 1, [2, 3]]], "keep_from": 0}, (2, 4, 6, 3), "frames to keep are wrong"),
    ):
        received = ReceivedClips("film", plan, first=0)
        assert received.add(answer(), np.zeros((2, 4, 6, 3), np.uint8)) is not None
        with pytest.raises(VideoError, match=message):
            received.add(answer(**changes), np.zeros(shape, np.uint8))
    received = ReceivedClips("film", plan, first=0)
    many = answer(indices=list(range(30)), times=[0.0] * 30, clips=[], keep_from=0)
    with pytest.raises(VideoError, match="there are too many frames to keep"):
        received.add(many, np.zeros((30, 4, 6, 3), np.uint8))
