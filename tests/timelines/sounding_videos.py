"""Make small videos with sound, whose beeps say where in the video a sample is from."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS, WIDTH, HEIGHT = 25, 96, 64
BEEP = 0.1  # seconds


def scene(i: int) -> np.ndarray:
    """A smooth picture that differs for every i."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(x + 2 * i) % 256, (2 * y + 3 * i) % 256, np.full_like(x, (5 * i) % 256)], -1).astype(np.uint8)


def beeps(at: list[float], seconds: float, rate: int) -> np.ndarray:
    """Samples (1, S) of silence with a beep at each time."""
    samples = np.zeros(round(seconds * rate), np.float32)
    tone = 0.5 * np.sin(2 * np.pi * 880 * np.arange(round(BEEP * rate)) / rate).astype(np.float32)
    for time in at:
        start = round(time * rate)
        samples[start : start + len(tone)] = tone[: len(samples) - start]
    return samples[None]


def video_with_sound(
    path: Path,
    *,
    video: str = "libx264",
    sound: str | None = "aac",
    tracks: list[list[float]] = [[1.0]],  # noqa: B006 (not changed)
    seconds: float = 3.0,
    gop: int = 12,
    rate: int = 48000,
) -> Path:
    """Write a video with a sound track for each list of times, at which it beeps."""
    with av.open(str(path), "w") as output:
        options = {"x264-params": "scenecut=0"} if video == "libx264" else {}
        picture = output.add_stream(video, rate=FPS, options=options)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        picture.codec_context.gop_size = gop
        sounds = [output.add_stream(sound, rate=rate) for _ in tracks] if sound else []
        for number, stream in enumerate(sounds):
            stream.codec_context.layout = "mono"
            stream.metadata["language"] = ["eng", "deu"][number % 2]
        for i in range(round(seconds * FPS)):
            frame = av.VideoFrame.from_ndarray(scene(i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            output.mux(picture.encode(frame))
            for stream, times in zip(sounds, tracks, strict=True):
                first, last = (round(n / FPS * rate) for n in (i, i + 1))
                samples = np.ascontiguousarray(beeps(times, seconds, rate)[:, first:last])
                if sound != "aac" and sound != "libopus":
                    samples = (samples * 32767).astype(np.int16)
                form = "s16p" if samples.dtype == np.int16 else "fltp"
                piece = av.AudioFrame.from_ndarray(samples, format=form, layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = rate, first, Fraction(1, rate)
                output.mux(stream.encode(piece))
        for stream in [picture, *sounds]:
            output.mux(stream.encode(None))
    return path


def beep_starts(path: Path) -> list[list[float]]:
    """When the beeps of each sound track begin, in seconds from the first picture."""
    with av.open(str(path)) as container:
        first = container.streams.video[0].start_time * container.streams.video[0].time_base
        loud: dict[int, list[float]] = {stream.index: [] for stream in container.streams.audio}
        for packet in container.demux(*container.streams.audio):
            for frame in packet.decode():
                samples = frame.to_ndarray().astype(np.float64)
                samples = samples.reshape(len(frame.layout.channels), -1)[0] if frame.format.is_planar else samples[0]
                samples = samples / (32768 if frame.format.name.startswith("s16") else 1)
                at = float(frame.pts * frame.time_base - first)
                loud[packet.stream.index] += (at + np.flatnonzero(np.abs(samples) > 0.25) / frame.sample_rate).tolist()
    return [[time for time, before in zip(times, [-9.0, *times], strict=False) if time - before > BEEP / 2]
            for times in loud.values()]  # fmt: skip
