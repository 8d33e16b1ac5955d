"""Compare how much video a file's header claims with the packets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from openxclip.video.boxes import boxes_of_track, content, reading
from openxclip.video.packets import Packets
from openxclip.video.tracks import is_cover

# For other formats, FFmpeg measures the duration, estimates it from the bit rate or (MP4) takes it from the edit list
_STATES_DURATION = ("asf", "mxf", "gxf", "smjpeg", "film_cpk", "rm")


def header_contradiction(container: Any, stream: Any, packets: Packets) -> str | None:
    """Describe how a file's header contradicts its packets; None if it doesn't.

    Args:
        container, stream: PyAV's container and video stream.
        packets: all packets of the stream.
    """
    name = str(container.format.name)
    if name in ("avi", "ivf"):  # for AVI, FFmpeg makes up a duration if the lengths in the header are odd
        claimed = int(stream.frames or 0)
        actual = _num_slots(packets, claimed) if name == "avi" else len(packets)
        is_wrong = claimed > 0 and abs(claimed - actual) > 1
        return f"its header says {claimed} frames, but there are {actual}" if is_wrong else None
    if not name.startswith(_STATES_DURATION):
        return None
    streams = [s for s in container.streams if s.type in ("video", "audio") and not is_cover(s)]
    stamps = np.unique(packets.pts) if packets.all_timed else np.empty(0)
    if len(streams) != 1 or len(stamps) < 2:  # with audio, the header has the longer duration of the two
        return None
    base = float(stream.time_base or 0)
    step_s = base * (int(stamps[-1]) - int(stamps[0])) / (len(stamps) - 1)
    claimed_s, actual_s = float(stream.duration or 0) * base, step_s * len(stamps)
    if not claimed_s or abs(claimed_s - actual_s) <= max(0.5, 0.02 * actual_s, 1.5 * step_s):
        return None
    return f"its header says {claimed_s:.2f} s, but its frames last {actual_s:.2f} s"


def _num_slots(packets: Packets, claimed: int) -> int:
    """Return the number of slots for a frame in an AVI; `claimed` if the last frame may last that long."""
    slots = np.sort(packets.known_dts)
    if not len(slots):
        return len(packets)
    actual = int(slots[-1]) + 1
    longest = int(np.diff(slots).max(initial=1))
    return claimed if actual <= claimed < actual + 2 * longest else actual


def num_edits(source: Path | BinaryIO | None, stream: Any) -> int:
    """Return how many parts of an MP4's track (PyAV's `stream`) its edit list shows; 0 without a list or a file."""
    if source is None:
        return 0
    with reading(source) as file:
        return sum(_num_parts(content(file, table)) for table in boxes_of_track(file, stream.id, b"edts", b"elst"))


def _num_parts(table: bytes) -> int:
    """Count the entries of an edit list (ISO/IEC 14496-12, 8.6.6) that aren't empty; an empty one starts at -1."""
    size, at, length = (20, 8, 8) if table[:1] == b"\1" else (12, 4, 4)
    count = int.from_bytes(table[4:8], "big")
    rows = (table[8 + i * size : 8 + (i + 1) * size] for i in range(min(count, len(table) // size)))
    return sum(row[at : at + length] != b"\xff" * length for row in rows)
