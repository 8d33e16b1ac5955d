"""Read how much video a file's header claims, and compare it with the packets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from openxclip.video.boxes import boxes_of_track, content, reading
from openxclip.video.packets import Packets
from openxclip.video.tracks import is_cover

# For other formats, FFmpeg measures the duration, estimates it from the bit rate or (MP4) takes it from the edit list
_STATES_DURATION = ("asf", "mxf", "gxf", "smjpeg", "film_cpk", "rm")


class HeaderClaims(NamedTuple):
    """The amount of video that a header claims and the amount that the file contains; 0 if it claims nothing.

    Attributes:
        frames: number of frames that the header claims; in AVI, of slots for a frame.
        actual_frames: number of frames or slots in the file.
        seconds: duration that the header claims.
        actual_s: duration of the packets.
        step_s: average time from one packet to the next.
    """

    frames: int = 0
    actual_frames: int = 0
    seconds: float = 0.0
    actual_s: float = 0.0
    step_s: float = 0.0


def header_claims(container: Any, stream: Any, packets: Packets) -> HeaderClaims:
    """Read the claims of a file's header.

    Args:
        container, stream: PyAV's container and video stream.
        packets: all packets of the stream.
    """
    name = str(container.format.name)
    claimed = int(stream.frames or 0)
    if name == "ivf":
        return HeaderClaims(claimed, len(packets))
    if name == "avi":  # FFmpeg makes up a duration if the lengths in the header are odd
        slots = np.sort(packets.known_dts)
        if not len(slots):
            return HeaderClaims(claimed, len(packets))
        actual = int(slots[-1]) + 1
        longest = int(np.diff(slots).max(initial=1))  # the last frame may last as long
        return HeaderClaims(claimed, claimed if actual <= claimed < actual + 2 * longest else actual)
    if name.startswith(_STATES_DURATION):
        streams = [s for s in container.streams if s.type in ("video", "audio") and not is_cover(s)]
        stamps = np.unique(packets.pts) if packets.all_timed else np.empty(0)
        if len(streams) == 1 and len(stamps) > 1:  # with audio, the header has the longer duration of the two
            base = float(stream.time_base or 0)
            step_s = base * (int(stamps[-1]) - int(stamps[0])) / (len(stamps) - 1)
            return HeaderClaims(
                seconds=float(stream.duration or 0) * base, actual_s=step_s * len(stamps), step_s=step_s
            )
    return HeaderClaims()


def num_edits(source: Path | BinaryIO | None, stream: Any) -> int:
    """Return how many parts of an MP4's track its edit list shows; 0 without an edit list.

    Args:
        source: the file; None if there is no file to read.
        stream: PyAV's video stream.
    """
    if source is None:
        return 0
    with reading(source) as file:
        return sum(_num_parts(content(file, table)) for table in boxes_of_track(file, stream.id, b"edts", b"elst"))


def _num_parts(table: bytes) -> int:
    """Count the entries of an edit list (ISO/IEC 14496-12, 8.6.6) that aren't empty; the start of those is -1."""
    size, at, length = (20, 8, 8) if table[:1] == b"\1" else (12, 4, 4)
    count = int.from_bytes(table[4:8], "big")
    rows = (table[8 + i * size : 8 + (i + 1) * size] for i in range(min(count, len(table) // size)))
    return sum(row[at : at + length] != b"\xff" * length for row in rows)
