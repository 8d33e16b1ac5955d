"""Encode a part of a video as H.264."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from openxclip.video import VideoReader

_CRF, _PRESET = "18", "fast"  # differences can't be seen in motion
_UNITS = 90_000  # in a second: exact for all usual frame rates
_BT709 = 1  # by the numbers of ITU-T H.273


def add_encoded_stream(output: Any, reader: VideoReader) -> Any:
    """Add a stream of H.264 (yuv420p, BT.709) to a container; frames of an odd size get one more row or column."""
    rate = Fraction(min(max(reader.fps, 0.1), 1000.0)).limit_denominator(1001)
    stream = output.add_stream("libx264", rate=rate, options={"crf": _CRF, "preset": _PRESET})
    stream.width, stream.height = reader.width + reader.width % 2, reader.height + reader.height % 2
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = Fraction(1, _UNITS)
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = ColorRange.MPEG
    return stream


def encoded_packets(reader: VideoReader, first: int, stop: int, stream: Any) -> Iterator[tuple[float, Any]]:
    """Encode frames `first` to `stop - 1`; yield packets, each with its decoding time in the clip in seconds.

    Frames keep their times, so that a variable frame rate stays one.

    Raises:
        VideoError: a frame can't be decoded.
    """
    times = [*reader.times[first:stop].tolist(), reader.times[stop] if stop < len(reader) else reader.duration]
    stamps = [round((time - times[0]) * _UNITS) for time in times]
    durations = {stamp: after - stamp for stamp, after in pairwise(stamps)}
    reader.restart_clock()
    for number, frame_HWC in reader.iterate(range(first, stop)):
        reader.restart_clock()
        height, width = frame_HWC.shape[:2]
        if height % 2 or width % 2:
            frame_HWC = np.pad(frame_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
        frame = frame.reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.AREA,  # the reader's chroma is repeated: others would blur it again
        )
        frame.pts, frame.time_base = stamps[number - first], Fraction(1, _UNITS)
        yield from _timed(stream.encode(frame), durations)
    yield from _timed(stream.encode(None), durations)


def _timed(packets: list[Any], durations: dict[int, int]) -> Iterator[tuple[float, Any]]:
    for packet in packets:
        packet.duration = durations.get(packet.pts, 0)  # the last one is unknown to the encoder
        yield packet.dts / _UNITS, packet
