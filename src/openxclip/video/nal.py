"""Read the headers of H.264's and HEVC's NAL units, without decoding.

Sources: ITU-T H.264, 7.3.1 and table 7-1; ITU-T H.265, 7.3.1.2 and table 7-1; annex B of both (start codes);
ISO/IEC 14496-15 (lengths).
"""

from __future__ import annotations

from collections.abc import Iterator

UNKNOWN_LAYER = 255

_H264_NON_KEY_SLICE = 1
_H264_NO_PICTURE = frozenset({6, 9, 12})  # SEI messages, delimiters, filler
_HEVC_DISPOSABLE = frozenset({0, 2, 4, 6, 8})  # TRAIL_N, TSA_N, STSA_N, RADL_N, RASL_N
_HEVC_NO_PICTURE = frozenset({35, 38, 39})  # delimiters, filler, SEI messages


def length_size(codec: str, extradata: bytes) -> int:
    """Return how many bytes hold the length before each NAL unit, by the avcC or hvcC box; 0 for start codes."""
    at = {"h264": 4, "hevc": 21}.get(codec, len(extradata))
    return (extradata[at] & 3) + 1 if len(extradata) > at + 1 and extradata[0] == 1 else 0


def hevc_layer(packet: bytes, *, length_size: int) -> int:
    """Return the temporal layer (0 to 6) of an HEVC packet's picture, or `UNKNOWN_LAYER`.

    Even if a picture is marked as non-reference, pictures of higher layers may refer to it.
    """
    for at in units(packet, length_size):
        if at + 2 <= len(packet) and packet[at] >> 1 & 0x3F < 32:  # a slice
            return max(0, (packet[at + 1] & 7) - 1)
    return UNKNOWN_LAYER


def is_disposable(packet: bytes, *, codec: str, length_size: int) -> bool:
    """Return whether a packet holds only a picture that no other picture refers to.

    Args:
        packet: the beginning of the packet.
        codec: "h264", or "hevc" for a packet of the highest temporal layer; False for other codecs.
        length_size: see the function `length_size`.
    """
    for at in units(packet, length_size):
        if codec == "h264":
            kind = packet[at] & 31
            if kind not in _H264_NO_PICTURE:
                return kind == _H264_NON_KEY_SLICE and not packet[at] >> 5 & 3
        elif codec == "hevc":
            kind = packet[at] >> 1 & 0x3F
            if kind not in _HEVC_NO_PICTURE:
                return kind in _HEVC_DISPOSABLE
    return False


def units(packet: bytes, length_size: int) -> Iterator[int]:
    """Yield where each NAL unit begins."""
    at = 0
    while True:
        if length_size:
            length = int.from_bytes(packet[at : at + length_size], "big")
            at += length_size
        else:
            at, length = packet.find(b"\0\0\1", at) + 3, 0
            if at < 3:
                return
        if at >= len(packet):
            return
        yield at
        at += length
