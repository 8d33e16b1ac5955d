"""Copy a part of a video stream without decoding it, from a key frame on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from openxclip.video import VideoReader
from openxclip.video.containers import ContainerFootage
from openxclip.video.demuxing import short_name
from openxclip.video.frame_index import FrameIndex

#: Sound that players expect in an MP4.
MP4_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_MP4_VIDEO = frozenset({"h264", "hevc", "av1", "mpeg4"})
_WEBM_VIDEO, _WEBM_SOUND = frozenset({"vp8", "vp9", "av1"}), frozenset({"opus", "vorbis"})


@dataclass(frozen=True)
class CopyPlan:
    """A part of a video that can be copied.

    Attributes:
        first, stop: the frames of the part, `first` (a key frame) to `stop - 1`.
        packets: positions of its first and last packet.
        left_out: positions of packets in between whose frames are shown before `first`, and need packets before it.
        form: FFmpeg's name of the container to write.
        suffix: the suffix of its files.
    """

    first: int
    stop: int
    packets: tuple[int, int]
    left_out: frozenset[int]
    form: str
    suffix: str


def plan_copy(reader: VideoReader, first: int, stop: int, *, tolerance: float, sound: Sequence[str]) -> CopyPlan | str:
    """Find the packets that hold some frames of a video.

    The part begins with the key frame at or before frame `first`. It ends with the last frame that frames before `stop`
    depend on.

    Args:
        reader: the video.
        first, stop: the frames, from `first` to `stop - 1`.
        tolerance: how much earlier the copy may begin and how much later it may end, in seconds.
        sound: the codecs of its sound.

    Returns:
        The plan, or the reason why nothing can be copied.
    """
    with reader.locked_footage() as footage:
        if not isinstance(footage, ContainerFootage):
            return "it has no coded video stream"
        index, codec, source_form = footage.index, footage.codec, short_name(footage.coded.container)
    if index.frames is None or index.is_counted:
        return "its packets don't tell when their frames are shown"
    positions = index.frames.shown
    key = _key_frame(index.frames, first)
    if key is None:
        return "there is no key frame before it"
    early = float(reader.times[first] - reader.times[key])
    if early > tolerance:
        return f"the key frame before it is {early:.1f} s earlier"
    ranks = np.full(len(index.packets), -1, dtype=np.int64)  # the frame of each packet; -1 if it isn't shown
    ranks[positions] = np.arange(len(positions))
    begin, end = int(positions[key]), stop
    while True:  # until no frame between the packets is shown after the last one
        last = int(positions[key:end].max())
        part = ranks[begin : last + 1]
        if part.max() < end:
            break
        end = int(part.max()) + 1
    if int(positions[key:end].min()) < begin:
        return "frames after the key frame are stored before it"
    ends = [float(reader.times[frame]) if frame < len(positions) else reader.duration for frame in (stop, end)]
    if ends[1] - ends[0] > tolerance:
        return f"its last frames depend on a frame that is {ends[1] - ends[0]:.1f} s later"
    left_out = frozenset((begin + np.flatnonzero((part >= 0) & (part < key))).tolist())
    form, suffix = container_for(source_form, codec, sound)
    return CopyPlan(key, end, (begin, last), left_out, form, suffix)


def _key_frame(frames: FrameIndex, first: int) -> int | None:
    """Return the last frame at or before `first` that is a key frame."""
    are_key: NDArray[np.bool_] = frames.packets.are_key[frames.shown[: first + 1]]
    keys = np.flatnonzero(are_key)
    return int(keys[-1]) if len(keys) else None


def container_for(source_form: str, video: str, sound: Sequence[str]) -> tuple[str, str]:
    """Return FFmpeg's name of a container that holds these codecs, and its suffix.

    MP4 if players expect the codecs there, or if they come from there; else MOV if they come from there; else WebM or
    Matroska.
    """
    if source_form == "mp4" or (video in _MP4_VIDEO and MP4_SOUND.issuperset(sound)):
        return "mp4", ".mp4"
    if source_form == "mov":
        return "mov", ".mov"
    if video in _WEBM_VIDEO and _WEBM_SOUND.issuperset(sound):
        return "webm", ".webm"
    return "matroska", ".mkv"


def add_copied_stream(output: Any, stream: Any) -> Any:
    """Add a stream to a container that takes the packets of another stream; FFmpegError or ValueError if it can't."""
    copied = output.add_stream_from_template(stream, opaque=True)
    if output.format.name in ("mp4", "mov") and copied.type == "video" and copied.codec_context.name == "hevc":
        copied.codec_context.codec_tag = "hvc1"  # Apple's players open no other
    return copied


def copy_packets(reader: VideoReader, plan: CopyPlan, copied: Any) -> Iterator[tuple[float, Any]]:
    """Yield the packets of a plan for the stream `copied`, each with its decoding time in the clip in seconds."""
    with reader.locked_footage() as footage:
        assert isinstance(footage, ContainerFootage)
        packets, base = footage.index.packets, footage.coded.time_base
        steps = footage.coded.packets_at(packets, *plan.packets)
    kept = [position for position in range(plan.packets[0], plan.packets[1] + 1) if position not in plan.left_out]
    # after a seek, demuxers may yield other times than before
    pts = packets.pts[kept] - packets.pts[kept[0]]
    dts = _decoding_times(pts)
    length = int(pts.max()) + packets.duration_at(kept[int(pts.argmax())])
    stamps = {position: times for position, *times in zip(kept, pts.tolist(), dts.tolist(), strict=True)}
    while True:
        reader.restart_clock()
        with reader.locked_footage():
            position, packet = next(steps, (-1, None))
        if packet is None:
            return
        if position in plan.left_out:
            continue
        packet.pts, packet.dts = stamps[position]
        if position == kept[-1]:  # MP4 sums up durations: else a gap between the last frames would be missing
            packet.duration = max(packet.duration or 0, length - int(dts[-1] - dts[0]))
        packet.stream = copied
        yield float(packet.dts * base), packet


def _decoding_times(pts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return times for decoding packets that are shown at `pts`: ascending, and none after its packet is shown.

    Matroska has no decoding times, and other containers may have wrong ones.
    """
    ordered = np.sort(pts)
    # each packet may be decoded when the packet is shown that is `delay` places before it in the order of showing
    delay = int((np.arange(len(pts)) - np.searchsorted(ordered, pts, side="right") + 1).max())
    step = max(1, int(np.median(np.diff(ordered)))) if len(pts) > 1 else 1
    earlier = ordered[0] - step * np.arange(delay, 0, -1)
    return np.asarray(np.concatenate((earlier, ordered))[: len(pts)])


def video_stream(reader: VideoReader) -> Any:
    """Return PyAV's stream of a video file."""
    with reader.locked_footage() as footage:
        assert isinstance(footage, ContainerFootage)
        return footage.coded.stream


def container_start(reader: VideoReader, first: int) -> float:
    """Return the time of a frame by the clock of its container, which its sound has too; in seconds."""
    with reader.locked_footage() as footage:
        assert isinstance(footage, ContainerFootage)
        index, container = footage.index, footage.coded.container
        if index.frames is not None:
            pts = index.packets.pts_at(int(index.frames.shown[first]))
            if pts is not None:
                return float(pts * footage.coded.time_base)
        return float(footage.times[first]) + (container.start_time or 0) / av.time_base
