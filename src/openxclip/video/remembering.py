"""What is known of long files, kept for the next time that this process opens them.

A film whose header has no table of its packets is read to its end when it is opened, and one whose frames must be
counted is decoded. Training and evaluation open a film once for each labelled part of it: what is known of the films
that were opened last is kept, so that only the first part pays.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from openxclip.common.forking import ForkSafeLock
from openxclip.video.learned import Learned
from openxclip.video.packets import Packets
from openxclip.video.runs import PacketIndex

_FEWEST = 1000  # packets; fewer are read in some milliseconds
_MOST_PACKETS = 600_000  # of all that is kept: some 64 MB, nearly 7 hours at 25 frames a second


@dataclass(frozen=True)
class Known:
    """What opening a file found out.

    Attributes:
        packets: of its video stream, all of them.
        learned: what they teach.
        is_by_table: they were read from tables in the header.
        ends_within_packet: see `CodedStream`.
        index: the frames by their packets; None where packets don't tell.
        times, duration: see `Footage`.
        needs_one_thread: several threads lose frames of it.
    """

    packets: Packets
    learned: Learned
    is_by_table: bool
    ends_within_packet: bool
    index: PacketIndex | None
    times: NDArray[np.float64]
    duration: float
    needs_one_thread: bool


_lock = ForkSafeLock()
_kept: OrderedDict[Hashable, Known] = OrderedDict()


def identity(source: Path | BinaryIO | str, stream: Any) -> Hashable | None:
    """What tells a file's video stream, in its present state, from all others; None for what is no file on disk."""
    if not isinstance(source, Path):
        return None
    try:
        known = source.stat()
    except OSError:
        return None
    return known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns, stream.index


def recall(key: Hashable | None) -> Known | None:
    """What is known of a stream by its `identity`; None if nothing is."""
    with _lock:
        if key is None or key not in _kept:
            return None
        _kept.move_to_end(key)
        return _kept[key]


def remember(key: Hashable | None, known: Known) -> None:
    """Keep what is known of a stream, if finding it out took long; what was used least recently is dropped for it."""
    if key is None or not _FEWEST <= len(known.packets) <= _MOST_PACKETS:
        return
    with _lock:
        _kept[key] = known
        while sum(len(one.packets) for one in _kept.values()) > _MOST_PACKETS:
            _kept.popitem(last=False)
