"""How much video a file's header tells of, to be compared with what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from openxclip.video.boxes import boxes, boxes_at, content, reading, size_of, track_id
from openxclip.video.packets import Packets
from openxclip.video.tracks import is_cover

# Of others FFmpeg measures the duration, or guesses it by the bit rate; that of an MP4's track is that of its edits
_TELL_DURATION = ("asf", "mxf", "gxf", "smjpeg", "film_cpk", "rm")


class Told(NamedTuple):
    """What a header tells of; 0 where it tells nothing.

    Attributes:
        frames: how many there are; in AVI, places for one.
        found: how many there are in fact.
        seconds: how long they last.
        found_s: how long the packets last.
        step_s: how long one of them lasts, on average.
    """

    frames: int = 0
    found: int = 0
    seconds: float = 0.0
    found_s: float = 0.0
    step_s: float = 0.0


def told_by_header(container: Any, stream: Any, packets: Packets) -> Told:
    """What the header of a file tells of its video.

    Args:
        container, stream: PyAV's.
        packets: all of the stream.
    """
    name = str(container.format.name)
    if name == "ivf":
        return Told(int(stream.frames or 0), len(packets))
    if name == "avi":  # FFmpeg makes up a duration of its own where the lengths in the header are odd
        places = np.sort(packets.known_dts)
        if not len(places):
            return Told(int(stream.frames or 0), len(packets))
        told, found = int(stream.frames or 0), int(places[-1]) + 1
        longest = int(np.diff(places).max(initial=1))  # the last may stand for long, too
        return Told(told, told if found <= told < found + 2 * longest else found)
    if name.startswith(_TELL_DURATION):
        others = [s for s in container.streams if s.type in ("video", "audio") and not is_cover(s)]
        stamps = np.unique(packets.pts) if packets.all_timed else np.empty(0)
        if len(others) == 1 and len(stamps) > 1:  # with sound it is the duration of the longer
            base = float(stream.time_base or 0)
            step_s = base * (int(stamps[-1]) - int(stamps[0])) / (len(stamps) - 1)
            return Told(seconds=float(stream.duration or 0) * base, found_s=step_s * len(stamps), step_s=step_s)
    return Told()


def num_edits(source: Path | BinaryIO | None, stream: Any) -> int:
    """How many parts of an MP4's track its edit list shows, one after the other; 0 where it has none.

    Args:
        source: the file; None where there is none to look into.
        stream: PyAV's.
    """
    if source is None:
        return 0
    with reading(source) as file:
        for movie in boxes(file, 0, size_of(file)):
            if movie.name != b"moov":
                continue
            for track in boxes(file, movie.start, movie.end):
                if track.name == b"trak" and track_id(file, track) == stream.id:
                    return sum(_num_parts(content(file, table)) for table in boxes_at(file, track, b"edts", b"elst"))
    return 0


def _num_parts(table: bytes) -> int:
    """The entries of an edit list (ISO/IEC 14496-12, 8.6.6) that aren't empty, whose start is -1."""
    size, at, length = (20, 8, 8) if table[:1] == b"\1" else (12, 4, 4)
    count = int.from_bytes(table[4:8], "big")
    rows = (table[8 + i * size : 8 + (i + 1) * size] for i in range(min(count, len(table) // size)))
    return sum(row[at : at + length] != b"\xff" * length for row in rows)
