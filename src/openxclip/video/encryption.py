"""Detect encrypted videos, which decoders would read as noise or report as damaged.

Files with clear and encrypted parts count as encrypted: the clear parts alone would be another video.

Sources: ISO/IEC 23001-7 (Common Encryption); ISO/IEC 14496-12, 8.12 (protected sample entries); RFC 9559, 5.1.4.1.31
(Matroska); Apple, "MPEG-2 Stream Encryption Format for HTTP Live Streaming"; ISO/IEC 13818-1, tables 2-3 and 2-21
(scrambling); Adobe, "Video File Format Specification" 10.1, E.4.1 (filtered tags); Microsoft, "Advanced Systems Format"
(Content Encryption Objects); SMPTE ST 429-6 (encrypted MXF).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from openxclip.video.boxes import Part, boxes, boxes_at, boxes_of_track, content, elements_at, read_at, reading, size_of
from openxclip.video.tracks import matroska_videos

_CENC_SCHEMES = ("cenc", "cens", "cbc1", "cbcs")
_SCHEMES = {"piff": "PlayReady", "odkm": "OMA DRM", "adkm": "Adobe Access", "itun": "FairPlay"}
_ENCODINGS, _ENCODING, _ENCODING_TYPE = b"\x6d\x80", b"\x62\x40", b"\x50\x33"
_SAMPLE_AES_H264 = 0xDB  # a stream type of transport streams
_ASF_GUIDS = "fbb3112223bdd211b4b700a0c955fc6e 14e68a292226174cb935dae07ee9289c 338505438169e6499b74ad12cb86d58c"
_ASF_ENCRYPTED = re.compile(b"|".join(re.escape(bytes.fromhex(guid)) for guid in _ASF_GUIDS.split()))
_MXF_ENCRYPTED = re.compile(rb"\x06\x0e\x2b\x34\x02\x04\x01.\x0d\x01\x03\x01\x02", re.DOTALL)  # any version
_NUM_SPOTS, _SPOT_BYTES = 64, 1 << 18  # number and size of the parts of a long file that are read
_HEAD_BYTES = 1 << 20
_FEW = 4  # packets
_MAX_TAGS = 256


def find_encryption(source: Path | BinaryIO, container: Any, stream: Any) -> str | None:
    """Describe how a video is encrypted ("it is encrypted (Common Encryption, cbcs): …"); None if it isn't.

    Args:
        source: the file.
        container: PyAV's container.
        stream: the video stream that is read; others may be encrypted.
    """
    check = _CHECKS.get(container.format.name)
    if check is None:
        return None
    with reading(source) as file:
        return check(file, stream)


def _check_mp4(file: BinaryIO, stream: Any) -> str | None:
    entries = [
        entry
        for stsd in boxes_of_track(file, stream.id, b"mdia", b"minf", b"stbl", b"stsd")
        for entry in boxes(file, stsd.start + 8, stsd.end)  # after version, flags and a count
    ]
    protected = [entry for entry in entries if entry.name in (b"encv", b"drmi")]
    return _message(_scheme(file, protected[0]), in_parts=len(protected) < len(entries)) if protected else None


def _scheme(file: BinaryIO, entry: Part) -> str:
    """Return the scheme of a protected sample entry from the box `schm`; 78 bytes of properties precede the boxes."""
    for schm in boxes_at(file, Part(entry.name, entry.start + 78, entry.end), b"sinf", b"schm"):
        scheme = content(file, schm, 8)[4:].decode("latin-1")
        if scheme in _CENC_SCHEMES:
            return f"Common Encryption, {scheme}"
        if scheme in _SCHEMES:
            return _SCHEMES[scheme]
    return "FairPlay" if entry.name == b"drmi" else "by an unknown scheme"


def _check_matroska(file: BinaryIO, stream: Any) -> str | None:
    before = sum(s.type == "video" for s in list(stream.container.streams)[: stream.index])
    for track in matroska_videos(file)[before : before + 1]:
        for kind in elements_at(file, track, _ENCODINGS, _ENCODING, _ENCODING_TYPE):
            if content(file, kind).strip(b"\0"):
                return _message("Matroska's or WebM's own encryption")
    return None


def _check_transport_stream(file: BinaryIO, stream: Any) -> str | None:
    if _stream_type(stream) == _SAMPLE_AES_H264:
        return _message("HLS Sample-AES")
    scrambled = total = 0
    for data in _spots(file):
        heads = _packet_heads(np.frombuffer(data, np.uint8))
        ours = heads[((heads[:, 1] & 31).astype(np.int64) << 8 | heads[:, 2]) == stream.id]
        scrambled += int(np.count_nonzero(ours[:, 3] & 0x80))
        total += len(ours)
    return _message_if_intended("scrambled for broadcasting", scrambled, total)


def _stream_type(stream: Any) -> int:
    """Return the stream type in a transport stream's table: FFmpeg's codec tag, which PyAV takes for letters."""
    try:
        tag: bytes = stream.codec_context.codec_tag.encode()
    except UnicodeDecodeError as error:
        tag = error.object
    except AttributeError:  # a stream without a decoder
        return 0
    return tag[0] if tag else 0


def _packet_heads(data: Any) -> Any:
    """Return the first 4 bytes of each packet, (N, 4); packets begin with 0x47, 188, 192 or 204 bytes apart."""
    for size in (188, 192, 204):
        count = len(data) // size - 1
        if count < 1:
            continue
        grid = data[: count * size].reshape(count, size)
        at = int((grid == 0x47).sum(axis=0).argmax())
        heads = data[at : at + count * size].reshape(count, size)[:, :4]
        if (heads[:, 0] == 0x47).mean() > 0.9:
            return heads[heads[:, 0] == 0x47]
    return np.empty((0, 4), np.uint8)


def _check_program_stream(file: BinaryIO, stream: Any) -> str | None:
    scrambled = total = 0
    for data in _spots(file):
        at = data.find(b"\0\0\1")
        while 0 <= at < len(data) - 7:
            if data[at + 3] == stream.id & 0xFF and data[at + 6] >> 6 == 2:
                total += 1
                scrambled += bool(data[at + 6] & 0x30)
            at = data.find(b"\0\0\1", at + 3)
    return _message_if_intended("scrambled, as on DVDs", scrambled, total)


def _check_flv(file: BinaryIO, stream: Any) -> str | None:
    at = int.from_bytes(read_at(file, 5, 4), "big") + 4
    filtered = total = 0
    for _ in range(_MAX_TAGS):
        head = read_at(file, at, 11)
        if len(head) < 11:
            break
        if head[0] & 0x1F == 9:
            total += 1
            filtered += head[0] >> 5 & 1
        at += 11 + int.from_bytes(head[1:4], "big") + 4
    return _message_if_intended("Adobe Access", filtered, total)


def _check_head(mark: re.Pattern[bytes], scheme: str, file: BinaryIO, stream: Any) -> str | None:
    return _message(scheme) if mark.search(read_at(file, 0, _HEAD_BYTES)) else None


def _spots(file: BinaryIO) -> list[bytes]:
    """Return the content of a file, or evenly spaced parts of a long file."""
    size = size_of(file)
    if size <= _NUM_SPOTS * _SPOT_BYTES:
        return [read_at(file, 0, size)]
    starts = [i * (size - _SPOT_BYTES) // (_NUM_SPOTS - 1) for i in range(_NUM_SPOTS)]
    return [read_at(file, start, _SPOT_BYTES) for start in starts]


def _message(scheme: str, *, in_parts: bool = False) -> str:
    return f"{'parts of it are' if in_parts else 'it is'} encrypted ({scheme}): decrypt it first"


def _message_if_intended(scheme: str, marked: int, total: int) -> str | None:
    """Return the message if packets are marked on purpose: damage marks one or two, similar-looking audio a few."""
    if marked < min(_FEW, max(total, 1)) or marked * 100 <= total:
        return None
    return _message(scheme, in_parts=marked < total)


_CHECKS: dict[str, Callable[[BinaryIO, Any], str | None]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": _check_mp4,
    "matroska,webm": _check_matroska,
    "mpegts": _check_transport_stream,
    "mpeg": _check_program_stream,
    "flv": _check_flv,
    "asf": partial(_check_head, _ASF_ENCRYPTED, "Windows Media DRM"),
    "mxf": partial(_check_head, _MXF_ENCRYPTED, "as digital cinema does, SMPTE ST 429-6"),
}
