"""Frames as JPEG, and previews that browsers play."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from openxclip.serve.engine.media_child import MediaHandler
from openxclip.serve.engine.pictures import jpeg, preview_size, write_preview
from openxclip.serve.engine.settings import EngineSettings
from openxclip.serve.engine.tasks import FrameTask, PreviewTask, Task
from openxclip.serve.engine.work import Work
from openxclip.video import DecodeWorker

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def handler() -> MediaHandler:
    folder = Path("/none")
    settings = EngineSettings(
        model="mini", precision="auto", device=None, max_duration=60.0, concurrency=1, index=folder, data=folder
    )
    return MediaHandler(settings)


def work(task: Task) -> Work:
    return Work(1, task, lambda message: None)


def encode(path: Path, codec: str, *, rate: int = 10, size: tuple[int, int] = (64, 48), levels: list[int]) -> Path:
    """Write a video whose frames have these grey levels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for level in levels:
            picture = np.full((size[1], size[0], 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def frames_of(path: Path) -> list[tuple[float, float]]:
    """The times and mean levels of all frames of a file."""
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]


def test_a_preview_shows_each_frame_at_its_time(handler: MediaHandler, tmp_path: Path) -> None:
    levels = [20 * step for step in range(12)]
    video, out = encode(tmp_path / "old.avi", "mpeg4", levels=levels), tmp_path / "previews" / "1.mp4"
    task = PreviewTask(path=video, name="old.avi", out=out)
    written = handler.preview(task, work(task))
    times, seen = zip(*frames_of(out), strict=True)
    assert times == pytest.approx([step / 10 for step in range(12)], abs=1e-4)
    assert seen == pytest.approx(levels, abs=8)
    assert written == {"duration": pytest.approx(1.2), "width": 64, "height": 48, "error": None,
                       "size": out.stat().st_size, "notes": []}  # fmt: skip
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_a_preview_has_at_most_30_frames_a_second_and_so_many_rows(tmp_path: Path) -> None:
    video = encode(tmp_path / "fast.mp4", "libx264", rate=60, size=(128, 96), levels=[100] * 60)
    with DecodeWorker() as worker:
        seen: list[tuple[float, float]] = []
        facts = write_preview(
            worker, video, tmp_path / "out.mp4", height=48, on_progress=lambda done, total: seen.append((done, total))
        )
    assert (facts["width"], facts["height"]) == (64, 48)
    assert len(frames_of(tmp_path / "out.mp4")) == 30
    assert seen[-1] == (pytest.approx(1.0, abs=0.04), pytest.approx(1.0))


@pytest.mark.parametrize(
    ("rows", "columns", "size"),
    [(1080, 1920, (854, 480)), (48, 64, (64, 48)), (33, 63, (64, 32)), (2, 2, (16, 16)), (1000, 10, (16, 480))],
)
def test_the_size_of_a_preview_is_even(rows: int, columns: int, size: tuple[int, int]) -> None:
    assert preview_size(rows, columns, most_rows=480) == size


def test_a_full_disk_leaves_no_preview(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    draw = np.random.default_rng(0)
    video, out = tmp_path / "noise.mp4", tmp_path / "previews" / "1.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(10):
            picture = draw.integers(0, 255, (96, 128, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with DecodeWorker() as worker:
        worker.inspect(str(video))  # it has started, and isn't limited
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                write_preview(worker, video, out, height=96, on_progress=lambda done, total: None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(out.parent.iterdir()) == []


def test_a_video_that_is_cut_off_has_a_preview_up_to_there(handler: MediaHandler, tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.avi", "mjpeg", levels=[10 * step for step in range(24)])
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    out = tmp_path / "out.mp4"
    task = PreviewTask(path=cut, name="cut.avi", out=out)
    written = handler.preview(task, work(task))
    assert "cut off" in written["error"]
    assert 1 <= len(frames_of(out)) < 24


@pytest.mark.parametrize(("time", "level"), [(0.0, 0), (0.55, 100), (1.15, 220), (7.0, 220)])
def test_a_frame_is_the_one_shown_at_its_time(handler: MediaHandler, tmp_path: Path, time: float, level: int) -> None:
    video = encode(tmp_path / "1.mp4", "libx264", levels=[20 * step for step in range(12)])
    task = FrameTask(path=video, name="1.mp4", time=time, width=32)
    picture = Image.open(io.BytesIO(handler.frame(task, work(task))))
    assert (picture.format, picture.size) == ("JPEG", (32, 24))
    assert np.asarray(picture).mean() == pytest.approx(level, abs=8)


@pytest.mark.parametrize("wrong", [{"time": -1.0}, {"time": float("nan")}, {"time": 0.0, "width": 0}])
def test_a_frame_that_cannot_be_is_refused(handler: MediaHandler, tmp_path: Path, wrong: dict) -> None:
    task = FrameTask(path=tmp_path / "1.mp4", name="1.mp4", **wrong)
    with pytest.raises(ValueError, match="must be"):
        handler.frame(task, work(task))


def test_small_frames_are_not_enlarged() -> None:
    assert Image.open(io.BytesIO(jpeg(np.zeros((6, 8, 3), np.uint8), width=320))).size == (8, 6)
