"""Video files to measure with, and reading them: read_clip and VideoProcessor beside what transformers documents."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
import torch
from numpy.typing import NDArray

from openxclip.benchmarking.measuring import Rounds, Row, medians
from openxclip.processing import VideoProcessor
from openxclip.video import VideoReader

SIZES = ((340, 256), (1280, 720), (1920, 1080))
SECONDS, FPS, FRAMES = 10, 30, 8


def make_clip(path: Path, width: int, height: int, *, seconds: int = SECONDS) -> None:
    """FFmpeg's moving test picture as H.264 with B-frames and a key frame in 250."""
    graph = av.filter.Graph()
    source = graph.add("testsrc2", f"size={width}x{height}:rate={FPS}:duration={seconds}")
    sink = graph.add("buffersink")
    source.link_to(sink)
    graph.configure()
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_type = "FRAME"  # one slice a picture, as FFmpeg's command writes; PyAV's usual is several
        stream.codec_context.gop_size = 250
        for _ in range(seconds * FPS):
            frame = graph.pull()
            assert isinstance(frame, av.VideoFrame)
            frame.pict_type = av.video.frame.PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def decode_as_documented(path: Path, indices: list[int]) -> NDArray[np.uint8]:
    """As transformers' documentation of X-CLIP reads a video: every frame up to the last one wanted."""
    frames = []
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i > indices[-1]:
                break
            if i >= indices[0] and i in indices:
                frames.append(frame)
        return np.stack([f.to_ndarray(format="rgb24") for f in frames])


def decode_here(path: Path, indices: list[int]) -> torch.Tensor:
    """The same frames (T, H, W, 3)."""
    with VideoReader(path) as video:
        return video.get_frames(indices).frames_THWC


def documented_processor() -> Any:
    """Transformers' video processor of X-CLIP's checkpoints; None if it isn't installed."""
    try:
        from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil
    except ImportError:
        return None
    ours = VideoProcessor()
    return VideoMAEImageProcessorPil(image_mean=ours.image_mean, image_std=ours.image_std)


def decoding(how: Rounds) -> Iterator[Row]:
    """8 frames from the first to the last of a clip of 10 s, to pixel values, at three sizes."""
    theirs, ours = documented_processor(), VideoProcessor()
    indices = np.linspace(0, SECONDS * FPS - 1, FRAMES).round().astype(int).tolist()
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clip.mp4")
            make_clip(path, width, height)
            if not np.array_equal(decode_as_documented(path, indices), decode_here(path, indices).numpy()):
                raise RuntimeError(f"the frames of {width}x{height} differ from a full decode's")
            ways: dict[str, Callable[[], Any]] = {
                "ours": lambda: ours(decode_here(path, indices), return_tensors="pt")  # noqa: B023
            }
            if theirs is not None:
                ways["documented"] = lambda: theirs(list(decode_as_documented(path, indices)), return_tensors="pt")  # noqa: B023
            taken, done = medians(ways, how)
            what = f"decode + preprocess, {width}x{height}"
            yield Row(what, "s", taken["ours"], taken.get("documented"), rounds=done)
