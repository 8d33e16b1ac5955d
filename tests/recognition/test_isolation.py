"""The pipeline's reading processes: their purpose, and that none is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from openxclip import Limits, classify
from openxclip.pipeline import VideoPipeline
from openxclip.recognition import Classifier
from openxclip.video import ReadOptions


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()}


def test_the_same_features_with_and_without_isolation(tiny_folder: Path, clip_folder: Path) -> None:
    paths = [clip_folder / "red2.mp4", clip_folder / "gone.mp4", clip_folder / "more" / "blue.mp4"]
    apart = VideoPipeline.from_pretrained(tiny_folder)
    here = VideoPipeline.from_pretrained(tiny_folder, isolate=False)
    for one, other in zip(apart.encode_videos(paths), here.encode_videos(paths), strict=True):
        assert (one.source, one.times, str(one.error)) == (other.source, other.times, str(other.error))
        if one.features is not None and other.features is not None:
            assert (one.features.pooled == other.features.pooled).all()


def test_a_killed_child_is_an_error_of_one_video(tiny_folder: Path, clip_folder: Path) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder)
    (worker,) = pipeline._workers._idle
    good = clip_folder / "red2.mp4"
    assert worker.inspect(good).is_fine  # it has started
    assert worker._child is not None
    pid = worker._child._process.pid
    os.kill(pid, signal.SIGSTOP)

    def crash() -> None:
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)

    timer = threading.Timer(0.3, crash)
    timer.start()
    results = list(pipeline.encode_videos([good, good, good]))
    timer.join()
    assert ["crashed the decoder" in str(r.error) for r in results] == [True, False, False]
    assert [r.features is not None for r in results] == [False, True, True]


@pytest.mark.slow
def test_no_process_is_left_behind(tiny_folder: Path, clip_folder: Path) -> None:
    gc.collect()
    before = children()
    paths = [clip_folder / "red2.mp4"] * 5 + [clip_folder / "gone.mp4"]
    pipeline = VideoPipeline.from_pretrained(tiny_folder)
    assert len(children() - before) == 1
    kept = list(pipeline.encode_videos(paths))
    assert len(kept) == 6
    assert len(children() - before) == 1  # kept for the next time
    abandoned = pipeline.encode_videos(paths)
    next(abandoned)
    other = pipeline.encode_videos(paths)
    next(other)
    assert len(children() - before) == 2
    abandoned.close()  # type: ignore[attr-defined]
    other.close()  # type: ignore[attr-defined]
    assert children() == before
    assert len(list(pipeline.encode_videos(paths[:1]))) == 1
    del pipeline, abandoned, other
    for _ in range(200):  # the thread that used it ends a little later
        if children() == before:
            break
        time.sleep(0.02)
    assert children() == before
    pipeline = VideoPipeline.from_pretrained(tiny_folder)
    pipeline.close()
    assert children() == before
    with pytest.raises(Exception, match="gone"):
        VideoPipeline.from_pretrained(tiny_folder / "gone")
    assert children() == before


@pytest.mark.slow
def test_limits_reach_the_reader(tiny_folder: Path, clip_folder: Path) -> None:
    good = clip_folder / "red2.mp4"
    pipeline = VideoPipeline.from_pretrained(tiny_folder, read=ReadOptions(limits=Limits(frames=9)))
    (result,) = pipeline.encode_videos([good])
    assert "over the limit of 9" in str(result.error)
    (result,) = pipeline.encode_videos([good], read=ReadOptions(limits=Limits()))
    assert result.error is None
    classifier = Classifier(pipeline, ["a", "b"])
    for read, is_read in ((None, False), (ReadOptions(), True)):
        (one,) = classifier([good], read=read)
        assert (one.error is None) == is_read
    for model in (pipeline, tiny_folder):
        (one,) = classify(good, ["a", "b"], model=model, read=ReadOptions(limits=Limits(pixels=100)))
        assert "--max-pixels" in str(one.error)
    playlist = clip_folder / "list.ffconcat"
    playlist.write_text("ffconcat version 1.0\nfile red2.mp4\n")
    (one,) = classify(playlist, ["a", "b"], model=tiny_folder)
    assert "--allow-protocols" in str(one.error)
    (one,) = classify(playlist, ["a", "b"], model=tiny_folder, read=ReadOptions(allow_protocols=["file"]))
    assert one.error is None
    playlist.unlink()


@pytest.mark.slow
def test_a_program_with_an_open_generator_ends(tiny_folder: Path, clip_folder: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from openxclip.pipeline import VideoPipeline\n"
        "pipeline = VideoPipeline.from_pretrained(sys.argv[1])\n"
        "worker = pipeline._workers._idle[0]\n"
        "found = pipeline.encode_videos([sys.argv[2]] * 9)\n"
        "next(found)\n"
        "os.kill(worker._child._process.pid, signal.SIGSTOP)\n"
        "print('done')\n"
    )
    command = [sys.executable, "-c", code, str(tiny_folder), str(clip_folder / "red2.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.slow
def test_a_video_through_a_pipe(tiny_folder: Path, clip_folder: Path) -> None:
    command = [sys.executable, "-m", "openxclip.cli.main", "classify", "/dev/stdin", "--labels", "a,b"]
    for stdin, code, message in (
        ((clip_folder / "red2.mp4").read_bytes(), 0, b'"outcome"'),
        (b"y\n" * 300_000, 1, b"over the limit of 100 kB: to read it anyway, raise the limit with"),
    ):
        done = subprocess.run(
            [*command, "--model", str(tiny_folder), "--max-memory", "100kB", "--frames", "1"],
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert message in done.stdout
        assert b"Traceback" not in done.stderr
