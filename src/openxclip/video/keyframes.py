"""Recognise key frames by the coded picture, for codecs whose containers often flag the wrong packets.

Sources: ISO/IEC 14496-2, 6.2.5 (MPEG-4 part 2); ITU-T H.263, 5.1; RFC 6386, 9.1 (VP8); the VP9 bitstream
specification, 6.2 and annex B; RFC 9043, 3.8.1 and 4.3 (FFV1); ISO/IEC 13818-2, 6.2.3 (MPEG-1 and 2); ITU-T H.265,
table 7-1. Microsoft's MPEG-4 and Sorenson's H.263 have no published specification: see FFmpeg's decoders.
"""

from __future__ import annotations

from collections.abc import Callable

HEAD_BYTES = 4096  # usually more than precedes a packet's first picture

_MPEG4_PICTURE, _MPEG12_PICTURE = b"\0\0\1\xb6", b"\0\0\1\0"  # start codes; MPEG-4's is of a video object plane


def is_key(head: bytes, *, codec: str) -> bool | None:
    """Return whether decoding can begin with a packet; None if the bytes don't say, or for other codecs.

    Args:
        head: the first `HEAD_BYTES` of the packet, or all of it.
        codec: FFmpeg's name of the codec.
    """
    read = _READERS.get(codec)
    return None if read is None or not head else read(head)


def is_b_picture(head: bytes, *, codec: str) -> bool:
    """Return whether a packet of MPEG-1, 2 or 4 (part 2) begins with a B-picture, to which no other picture refers.

    Args:
        head: the first `HEAD_BYTES` of the packet, or all of it.
        codec: FFmpeg's name of the codec.
    """
    if codec == "mpeg4":
        at = head.find(_MPEG4_PICTURE)
        return 0 <= at < len(head) - 4 and head[at + 4] >> 6 == 2
    at = head.find(_MPEG12_PICTURE)
    return 0 <= at < len(head) - 5 and head[at + 5] >> 3 & 7 == 3


def recognises_keys(codec: str) -> bool:
    """Return whether `is_key` supports a codec."""
    return codec in _READERS


def _bits(data: bytes, first: int, count: int) -> int:
    """Return `count` bits, at most 16, from bit `first` on, as if zeros followed the end."""
    chunk = int.from_bytes(data[first >> 3 : (first >> 3) + 3].ljust(3, b"\0"), "big")
    return chunk >> (24 - (first & 7) - count) & ((1 << count) - 1)


def _mpeg4(head: bytes) -> bool | None:
    at = head.find(_MPEG4_PICTURE)
    return None if at < 0 or at + 4 >= len(head) else head[at + 4] >> 6 == 0


def _mpeg12(head: bytes) -> bool | None:
    at = head.find(_MPEG12_PICTURE)  # then a number of 10 bits, then its type; 1 is intra
    return None if at < 0 or at + 5 >= len(head) else head[at + 5] >> 3 & 7 == 1


def _h263(head: bytes) -> bool | None:
    if _bits(head, 0, 16) or _bits(head, 16, 6) != 0b100000:
        return None
    if _bits(head, 35, 3) != 7:
        return not _bits(head, 38, 1)
    # PLUSPTYPE: with its optional part (18 bits) or without
    return not _bits(head, 41 + (18 if _bits(head, 38, 3) == 1 else 0), 3)


def _flv1(head: bytes) -> bool | None:
    if _bits(head, 0, 16) or not _bits(head, 16, 1):
        return None
    size = _bits(head, 30, 3)
    return not _bits(head, 33 + {0: 16, 1: 32}.get(size, 0), 2)


def _ffv1(head: bytes) -> bool | None:
    # the range coder's first symbol, at its initial probability of one half
    return len(head) > 1 and int.from_bytes(head[:2], "big") >= 0x7F80


def _vp9(head: bytes) -> bool | None:
    if head[0] >> 6 != 2:
        return None
    profile = (head[0] >> 5 & 1) | (head[0] >> 4 & 1) << 1
    at = 5 if profile == 3 else 4
    return not _bits(head, at, 1) and not _bits(head, at + 1, 1)  # doesn't repeat an earlier frame, and is of type 0


_READERS: dict[str, Callable[[bytes], bool | None]] = {
    "mpeg4": _mpeg4,
    "mpeg1video": _mpeg12,
    "mpeg2video": _mpeg12,
    "h263": _h263,
    "flv1": _flv1,
    "ffv1": _ffv1,
    "vp8": lambda head: not head[0] & 1,
    "vp9": _vp9,
    "msmpeg4v2": lambda head: head[0] >> 6 == 0,
    "msmpeg4v3": lambda head: head[0] >> 6 == 0,
    "wmv1": lambda head: head[0] >> 6 == 0,
    "wmv2": lambda head: head[0] >> 7 == 0,
}
