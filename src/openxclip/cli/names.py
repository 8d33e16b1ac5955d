"""Reads names of videos from standard input, and refuses anything else."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO, TextIO

import click

_LOOKED_AT = 4096  # bytes at the start of standard input
_SIGNATURES = (  # (offset, bytes) of video and image formats
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"free"), (4, b"skip"), (4, b"wide"), (0, b"\x1aE\xdf\xa3"),
    (0, b"RIFF"), (0, b"FLV\x01"), (0, b"OggS"), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), (0, b"\x00\x00\x01\xba"),
    (0, b"\x00\x00\x01\xb3"), (0, b"\x00\x00\x00\x01"), (0, b"\x00\x00\x01"), (0, b"\x06\x0e\x2b\x34"),
    (0, b"DKIF"), (0, b"YUV4MPEG2"), (0, b"GIF8"), (0, b"\x89PNG"), (0, b"\xff\xd8\xff"), (0, b"\x93NUMPY"),
    (0, b".RMF"), (0, b"nut/multimedia container"), (0, b"FWS"), (0, b"CWS"), (0, b"BIK"), (0, b"SMK2"), (0, b"FILM"),
    (0, b"II*\0"), (0, b"MM\0*"), (0, b"BM"), (0, b"P5"), (0, b"P6"), (0, b"\x12\0\x0a"), (0, b"\0\nSMJPEG"),
    (4, b"\x11\xaf"), (4, b"\x12\xaf"), (0, b"\xb7\xd8\x00\x20"), (0, b"NSVf"), (0, b"\x1f\x07\x00"),
)  # fmt: skip
_TS_PACKET = 188  # bytes of an MPEG-TS packet; each packet begins with G


def names_from(stream: TextIO, *, takes_pipes: bool) -> Iterator[str]:
    """Yield the lines of a stream that are not empty, as file names.

    Args:
        stream: a text stream; its underlying bytes are read if it has them.
        takes_pipes: whether the error may suggest /dev/stdin.

    Raises:
        click.UsageError: the stream holds a video, or isn't text.
    """
    raw: BinaryIO = getattr(stream, "buffer", None) or io.BytesIO(stream.read().encode("utf-8", "surrogateescape"))
    first = raw.read1(_LOOKED_AT) if hasattr(raw, "read1") else raw.read(_LOOKED_AT)
    _check(first, takes_pipes)
    for number, line in enumerate(_lines(first, raw)):
        name = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).strip()
        if name:
            yield name


def _lines(first: bytes, raw: BinaryIO) -> Iterator[bytes]:
    *lines, rest = first.split(b"\n")
    yield from lines
    for line in raw:
        rest += line
        if rest.endswith(b"\n"):
            yield rest[:-1]
            rest = b""
    yield rest


def _check(first: bytes, takes_pipes: bool) -> None:
    is_video = any(first.startswith(signature, at) for at, signature in _SIGNATURES)
    is_video |= len(first) > _TS_PACKET and first[0] == first[_TS_PACKET] == ord("G") and b"\0" in first
    if is_video and (b"\0" in first or not _is_text(first)):
        instead = "use /dev/stdin instead of -" if takes_pipes else "save it to a file first"
        raise click.UsageError(f"standard input is video, not names: {instead}.")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise click.UsageError("standard input is text in UTF-16: - reads names of videos in UTF-8.")
    if b"\0" in first and b"\n" not in first and _is_text(first.replace(b"\0", b"")):
        raise click.UsageError("the names on standard input end with NUL: - reads one name per line (find -print).")
    if b"\0" in first and not _is_utf8(first):
        raise click.UsageError("standard input is not text: - reads names of videos, one per line.")


def _is_utf8(data: bytes) -> bool:
    try:
        data[: -min(3, len(data) - 1)].decode()  # the last character may be incomplete
    except UnicodeDecodeError:
        return False
    return True


def _is_text(data: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r" for byte in data)
