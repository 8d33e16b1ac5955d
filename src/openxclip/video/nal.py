"""What the headers of H.264's and HEVC's NAL units tell of a picture, without decoding it.

Sources: ITU-T H.264, 7.3.1 and table 7-1; ITU-T H.265, 7.3.1.2 and table 7-1; annex B of both (start codes);
ISO/IEC 14496-15 (lengths).
"""

from __future__ import annotations

from collections.abc import Iterator

UNKNOWN_LAYER = 255

_H264_SLICE = 1  # of a picture with which decoding can't begin
_H264_ASIDE = frozenset({6, 9, 12})  # messages, delimiters, filling
_HEVC_UNREFERRED = frozenset({0, 2, 4, 6, 8})  # TRAIL_N, TSA_N, STSA_N, RADL_N, RASL_N
_HEVC_ASIDE = frozenset({35, 38, 39})  # delimiters, filling, messages


def length_size(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each NAL unit, 0 for start codes, by the avcC or hvcC box of the stream's header."""
    at = {"h264": 4, "hevc": 21}.get(codec, len(extradata))
    return (extradata[at] & 3) + 1 if len(extradata) > at + 1 and extradata[0] == 1 else 0


def hevc_layer(packet: bytes, *, length_size: int) -> int:
    """The temporal layer of an HEVC packet's picture.

    A picture that is marked as no reference is none for its own layer, but may be one for higher layers.

    Args:
        packet: its bytes.
        length_size: see `length_size`.

    Returns:
        The layer, 0 to 6, or `UNKNOWN_LAYER`.
    """
    for at in units(packet, length_size):
        if at + 2 <= len(packet) and packet[at] >> 1 & 0x3F < 32:  # a slice
            return max(0, (packet[at + 1] & 7) - 1)
    return UNKNOWN_LAYER


def is_unreferred(packet: bytes, *, codec: str, length_size: int) -> bool:
    """Whether a packet holds a picture that no other refers to, and nothing else that matters to others.

    Args:
        packet: its beginning.
        codec: "h264" or "hevc" (of its highest temporal layer); any other is not known.
        length_size: see `length_size`.
    """
    for at in units(packet, length_size):
        if codec == "h264":
            kind = packet[at] & 31
            if kind not in _H264_ASIDE:
                return kind == _H264_SLICE and not packet[at] >> 5 & 3
        elif codec == "hevc":
            kind = packet[at] >> 1 & 0x3F
            if kind not in _HEVC_ASIDE:
                return kind in _HEVC_UNREFERRED
    return False


def units(packet: bytes, length_size: int) -> Iterator[int]:
    """Where each NAL unit begins."""
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
