"""Measure decoding and preprocessing of generated videos, with openxclip and as transformers documents it."""

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
    """Write FFmpeg's moving test picture as H.264 with B-frames and a key frame every 250 frames."""
    graph = av.filter.Graph()
    source = graph.add("testsrc2", f"size={width}x{height}:rate={FPS}:duration={seconds}")
    sink = graph.add("buffersink")
    source.link_to(sink)
    graph.configure()
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_type = "FRAME"  # one slice per picture, as the ffmpeg command writes; PyAV's default writes more
        stream.codec_context.gop_size = 250
        for _ in range(seconds * FPS):
            frame = graph.pull()
            assert isinstance(frame, av.VideoFrame)
            frame.pict_type = av.video.frame.PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def decode_as_documented(path: Path, indices: list[int]) -> NDArray[np.uint8]:
    """Read frames as transformers' documentation of X-CLIP does: decode every frame up to the last one needed."""
    frames = []
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i > indices[-1]:
                break
            if i >= indices[0] and i in indices:
                frames.append(frame)
        return np.stack([f.to_ndarray(format="rgb24") for f in frames])


def decode_here(path: Path, indices: list[int]) -> torch.Tensor:
    """Read the same frames with openxclip, (T, H, W, 3)."""
    with VideoReader(path) as video:
        return video.get_frames(indices).frames_THWC


def documented_processor() -> Any:
    """Return transformers' video processor for X-CLIP; None if transformers isn't installed."""
    try:
        from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil
    except ImportError:
        return None
    ours = VideoProcessor()
    return VideoMAEImageProcessorPil(image_mean=ours.image_mean, image_std=ours.image_std)


def decoding(rounds: Rounds) -> Iterator[Row]:
    """Measure reading 8 frames of a clip of 10 s as pixel values, at three sizes."""
    theirs, ours = documented_processor(), VideoProcessor()
    indices = np.linspace(0, SECONDS * FPS - 1, FRAMES).round().astype(int).tolist()
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clip.mp4")
            make_clip(path, width, height)
            if not np.array_equal(decode_as_documented(path, indices), decode_here(path, indices).numpy()):
                raise RuntimeError(f"the frames of {width}x{height} differ from a full decode's")
            methods: dict[str, Callable[[], Any]] = {
                "ours": lambda: ours(decode_here(path, indices), return_tensors="pt")  # noqa: B023
            }
            if theirs is not None:
                methods["documented"] = lambda: theirs(list(decode_as_documented(path, indices)), return_tensors="pt")  # noqa: B023
            seconds, num_rounds = medians(methods, rounds)
            what = f"decode + preprocess, {width}x{height}"
            yield Row(what, "s", seconds["ours"], seconds.get("documented"), rounds=num_rounds)
