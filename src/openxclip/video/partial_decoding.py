"""Choose the frames that are decoded if the user gives up exact frames for faster decoding.

Sources: ITU-T H.264, 7.4.1 (nal_ref_idc); ITU-T H.265, table 7-1; ISO/IEC 13818-2, 6.3.9, and ISO/IEC 14496-2, 6.3.5
(the types of pictures).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.video.assumptions import Assumption
from openxclip.video.coded_stream import CodedStream
from openxclip.video.frame_index import FrameIndex
from openxclip.video.indexing import StreamIndex
from openxclip.video.keyframes import HEAD_BYTES, is_b_picture
from openxclip.video.nal import is_disposable
from openxclip.video.options import Decode

NO_MARKS = Assumption(
    "a video that doesn't mark frames that could be left out is decoded whole: --decode (ReadOptions(decode=…) in "
    "Python) has no effect on it"
)

_NUMBERED_TYPES = frozenset({"mpeg1video", "mpeg2video", "mpeg4"})  # in which B-pictures are never referred to


class UsedFrames(NamedTuple):
    """The numbers of the frames that are decoded, ascending (None: all), and a note for the user."""

    numbers: NDArray[np.int64] | None
    note: str | None


def choose_used_frames(coded: CodedStream, index: StreamIndex, decode: Decode) -> UsedFrames:
    """Choose the frames of a stream that may be decoded; "nonref" reads all packets, without decoding them.

    Raises:
        LostPlaceError: the file yields other packets than the index says.
        VideoError: the file can't be read.
    """
    if decode == "all" or len(index.times) == 1:
        return UsedFrames(None, None)
    frames = index.frames
    if frames is None or index.decoded or not (frames.can_skip or decode == "key"):
        return UsedFrames(None, NO_MARKS)
    numbers = frames.key_frames() if decode == "key" else _referred_frames(coded, frames)
    numbers = np.union1d([0], numbers)  # an edit list may begin after a key frame, which is then not shown
    count, total = len(numbers), len(index.times)
    if count == total:
        return UsedFrames(None, None)
    what = "key frames" if decode == "key" else "frames that others refer to"
    ends = np.append(index.times[numbers], index.duration)
    longest = float(np.diff(ends).max())
    return UsedFrames(numbers, f"only {what} are decoded: {count} of {total}, one in every {longest:.2f} s or less")


def _referred_frames(coded: CodedStream, frames: FrameIndex) -> NDArray[np.int64]:
    may_be_left_out = frames.unneeded_in_stream()
    is_used = np.ones(len(frames.packets), np.bool_)
    for position, packet in coded.scan(frames.packets):
        if may_be_left_out[position]:
            is_used[position] = not _is_disposable(coded, packet)
    return np.flatnonzero(is_used[frames.shown])


def _is_disposable(coded: CodedStream, packet: Any) -> bool:
    head = bytes(memoryview(packet)[:HEAD_BYTES])
    if coded.codec in _NUMBERED_TYPES:
        return is_b_picture(head, codec=coded.codec)
    return is_disposable(head, codec=coded.codec, length_size=coded.length_size)
