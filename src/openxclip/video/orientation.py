"""Read how frames must be turned to be shown, from decoded frames, coded packets and MP4 headers.

Sources: ITU-T H.264, 7.3.2.3 and D.1.27; ITU-T H.265, 7.3.5 and D.2.15 (display orientation SEI messages); Exif 2.32,
4.7.2 (JPEG's APP1 segment); ISO/IEC 14496-12, 6.2.2 (display matrix).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

from openxclip.video.boxes import boxes_of_track, content, reading
from openxclip.video.nal import units

_DISPLAY_ORIENTATION = 47  # SEI message type in H.264 and HEVC
_EXIF_MARKS = (b"Exif\0\0", b"eXIf")  # in JPEG and in PNG


class Turn(NamedTuple):
    """How to turn a stored picture into the shown one: transpose it, then mirror it."""

    transposed: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a picture (H, W, 3), without copying it."""
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def turn_of(frame: av.VideoFrame) -> Turn | None:
    """Read a frame's display matrix, which shows a point (x, y) at (ax + cy, bx + dy), with y downwards.

    Returns:
        None if it turns by other than quarters.
    """
    # frame.side_data would make a reference cycle, so that the frame waits for the garbage collector
    data: Any = cast(Any, SideDataContainer)(frame).get("DISPLAYMATRIX")
    if data is None:
        return Turn()
    return _turn_by(struct.unpack("=5i", memoryview(data)[:20]))


def stated_turn(source: Path | BinaryIO | str, stream: Any) -> Turn | None:
    """Return how the track header of an MP4 or MOV says that frames must be turned; None for other containers.

    PyAV's `stream` was opened from `source`.
    """
    if isinstance(source, str) or not stream.container.format.name.startswith("mov,"):
        return None
    with reading(source) as file:
        for tkhd in boxes_of_track(file, stream.id, b"tkhd"):
            head = content(file, tkhd, 88)
            at = 52 if head[:1] == b"\1" else 40
            return _turn_by(struct.unpack(">5i", head[at : at + 20].ljust(20, b"\0")))
    return None


def _turn_by(matrix: tuple[int, ...]) -> Turn | None:
    a, b, _, c, d = matrix
    straight, crossed = max(abs(a), abs(d)), max(abs(b), abs(c))
    if a and d and crossed * 100 < min(abs(a), abs(d)):
        return Turn(False, a < 0, d < 0)
    if b and c and straight * 100 < min(abs(b), abs(c)):
        return Turn(True, c < 0, b < 0)
    return None


def _unknown_side_data(cls: type[SideDataType], value: object) -> Any:
    """Make a member for a kind of side data that this PyAV has no name for."""
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member


# PyAV 18 refuses all side data of a frame, the display matrix too, if one kind is newer than PyAV, such as Exif
SideDataType._missing_ = classmethod(_unknown_side_data)  # type: ignore[assignment,method-assign]


def has_orientation(packet: bytes, *, codec: str, length_size: int) -> bool:
    """Return whether a packet holds a display orientation or Exif data.

    Args:
        packet: the beginning of the packet.
        codec: FFmpeg's name for the codec.
        length_size: see `nal.length_size`.
    """
    if codec not in ("h264", "hevc"):
        return any(mark in packet for mark in _EXIF_MARKS)
    for at in units(packet, length_size):
        is_sei = packet[at] & 31 == 6 if codec == "h264" else packet[at] >> 1 & 63 == 39
        if is_sei and _DISPLAY_ORIENTATION in _message_types(packet[at + (1 if codec == "h264" else 2) :]):
            return True
    return False


def _message_types(data: bytes) -> Iterator[int]:
    """Yield the types of the SEI messages at the start of `data`; the last may belong to the next unit."""
    data = data.replace(b"\0\0\3", b"\0\0")  # removes the bytes that prevent start codes
    at = 0
    while at < len(data) and data[at] != 0x80:
        numbers = []
        for _ in range(2):  # the type, then the length
            number = 0
            while at < len(data) and data[at] == 0xFF:
                number, at = number + 255, at + 1
            if at >= len(data):
                return
            numbers.append(number + data[at])
            at += 1
        yield numbers[0]
        at += numbers[1]
