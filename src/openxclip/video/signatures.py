"""Recognise file formats by their first bytes."""

from __future__ import annotations

import codecs

GIF = b"GIF8"
JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"

_IMAGES = {GIF: "GIF", PNG: "PNG", JPEG: "JPEG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_CONTAINERS = {
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    b"FLV\1": "FLV",
    b"OggS": "Ogg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "ASF (WMV)",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01": "MXF",
    b".RMF": "RealMedia",
    b"FWS": "SWF",
    b"CWS": "SWF",
    b"DKIF": "IVF",
    b"YUV4MPEG2": "Y4M",
    b"nut/multimedia container": "NUT",
    b"\0\0\1\xba": "MPEG-PS",
    b"SIMPLE  =": "FITS",
}
_PLAYLISTS = (b"ffconcat", b"#EXTM3U", b"<?xml", b"<MPD", b"v=0", b"[playlist]")


def image_format(head: bytes) -> str | None:
    """Return the name of an image format that Pillow reads; None for any other file.

    Args:
        head: the first 64 bytes of the file.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if brands(head) & {b"avif", b"avis"}:
        return "AVIF"
    if head[:1] == b"P" and head[1:2] in b"123456f" and head[2:3].isspace():
        return "Netpbm"
    return next((name for start, name in _IMAGES.items() if head.startswith(start)), None)


def container_format(head: bytes) -> str | None:
    """Return the name of the container format of a file other than MP4; None if it is unknown."""
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return "AVI"
    return next((name for start, name in _CONTAINERS.items() if head.startswith(start)), None)


def brands(head: bytes) -> frozenset[bytes]:
    """Return the brands of an ISO base media file (MP4, HEIF, AVIF); none for other files."""
    if head[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return frozenset([head[8:12], *(head[i : i + 4] for i in range(16, end, 4))])


def is_playlist(head: bytes) -> bool:
    """Return whether a file is a playlist, which only names other files."""
    return head.lstrip(b"\xef\xbb\xbf \r\n").startswith(_PLAYLISTS)


def is_text(head: bytes) -> bool:
    """Return whether a file is UTF-8 text; an empty file isn't."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # incremental: the last character may be incomplete
    except UnicodeDecodeError:
        return False
    return bool(head) and all(byte >= 32 or byte in b"\t\n\f\r" for byte in head)
