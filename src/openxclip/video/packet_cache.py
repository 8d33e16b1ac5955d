"""Cache the indexes of long files, so that this process opens them faster the next time.

Opening a video whose header has no table of packets reads the file to its end; if frames must be counted, it decodes
the whole video. Training and evaluation open a video once for each labelled part of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from openxclip.common.forking import ForkSafeLock
from openxclip.video.decoder_state import DecoderState
from openxclip.video.indexing import StreamIndex

_FEWEST = 1000  # packets; reading fewer takes some milliseconds
_MAX_PACKETS = 600_000  # of all entries: about 64 MB, nearly 7 hours at 25 frames per second


@dataclass(frozen=True)
class CacheEntry:
    """Facts about a stream that opening its file determined.

    Attributes:
        index: the index of the stream.
        decoder_state: what a decoder needs to start at a later packet.
        ends_within_packet: whether the file ended within a packet.
        needs_one_thread: whether decoding with several threads loses frames.
    """

    index: StreamIndex
    decoder_state: DecoderState
    ends_within_packet: bool
    needs_one_thread: bool


_lock = ForkSafeLock()
_entries: OrderedDict[Hashable, CacheEntry] = OrderedDict()


def cache_key(source: Path | BinaryIO | str, stream: Any) -> Hashable | None:
    """Return a key for a stream of the current version of a file; None if the source isn't a file on disk."""
    if not isinstance(source, Path):
        return None
    try:
        status = source.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, stream.index


def load(key: Hashable | None) -> CacheEntry | None:
    """Return the entry of a stream; None if there is none."""
    with _lock:
        if key is None or key not in _entries:
            return None
        _entries.move_to_end(key)
        return _entries[key]


def store(key: Hashable | None, entry: CacheEntry) -> None:
    """Keep the entry of a long stream; the least recently used entries are dropped to make room."""
    if key is None or not _FEWEST <= len(entry.index.packets) <= _MAX_PACKETS:
        return
    with _lock:
        _entries[key] = entry
        while sum(len(kept.index.packets) for kept in _entries.values()) > _MAX_PACKETS:
            _entries.popitem(last=False)
