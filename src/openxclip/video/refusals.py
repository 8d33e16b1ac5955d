"""Sentences for files that cannot be opened: what was looked at, what is wrong with it, and what to do."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from openxclip.video.boxes import boxes, reading, size_of
from openxclip.video.failures import ffmpeg_failure

_PLAYLISTS = (b"ffconcat", b"#EXTM3U", b"<?xml", b"<MPD", b"v=0", b"[playlist]")
_MP4_BOXES = frozenset((b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"wide", b"free", b"skip", b"pnot"))
_COPY_AGAIN = "Copy, download or record it again"

# How files of known formats begin
_BEGINNINGS = {
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
_IMAGES = {
    b"GIF8": "GIF",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"RIFF": "WebP",
}


def is_playlist(head: bytes) -> bool:
    """Whether a file that begins with `head` only names other files."""
    return head.lstrip(b"\xef\xbb\xbf \r\n").startswith(_PLAYLISTS)


def not_opened(source: Path | BinaryIO | str, error: Exception) -> str:
    """Why FFmpeg could not open a source.

    Args:
        source: a file, or an address.
        error: what PyAV raised.
    """
    if isinstance(source, str):
        return f"it cannot be opened: {getattr(error, 'strerror', None) or error}"
    failure = ffmpeg_failure(error, source)
    if failure is not None:
        return f"it cannot be read: {failure}"
    with reading(source) as file:
        size = size_of(file)
        file.seek(0)
        head = file.read(64)
        if is_playlist(head):
            return (
                "it is a playlist, which only names other files: give those themselves, or say what it may open with "
                "allow_protocols=… or --allow-protocols"
            )
        if head[4:8] in _MP4_BOXES:
            return _mp4_not_opened(file, size)
    kind = next((kind for begin, kind in _BEGINNINGS.items() if head.startswith(begin)), None)
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        kind = "AVI"
    if kind is not None:
        return f"it begins as {kind}, but its header is damaged or cut off. {_COPY_AGAIN}"
    if getattr(error, "errno", None) == errno.EINVAL:
        return (
            "it is not a video but of another kind (a script, text, subtitles, or a sound or image format that is not "
            "read here): convert it, e.g. to MP4"
        )
    return (
        "it is not a video, or its beginning is damaged or encrypted: no known format was recognised. Check the file, "
        "or copy it again"
    )


def _mp4_not_opened(file: BinaryIO, size: int) -> str:
    """By the boxes of the file: its index `moov` is missing, cut off or damaged."""
    found = list(boxes(file, 0, size))
    names = {box.name for box in found}
    for box in found:
        if box.name == b"moov":
            if box.end > size:
                missing = box.end - size
                return f"it is cut off: the last {missing} bytes of its index (moov) are missing. {_COPY_AGAIN}"
            return f"it is an MP4 whose index (moov) is damaged: FFmpeg cannot read it. {_COPY_AGAIN}"
    if b"meta" in names:
        return "it is a HEIF picture that FFmpeg cannot read: convert it, e.g. to JPEG"
    if names & {b"moof", b"styp", b"sidx"}:
        return (
            "it is a piece of a fragmented MP4 without the beginning that describes it (moov): put its initialisation "
            "segment before it"
        )
    return (
        "it is an MP4 without its index (moov), which is written last: it was cut off, or its recording was not "
        f"completed. {_COPY_AGAIN}"
    )


def not_an_image(source: Path | BinaryIO, error: Exception) -> str:
    """Why Pillow could not open an image.

    Args:
        source: the file.
        error: what Pillow raised.
    """
    with reading(source) as file:
        file.seek(0)
        head = file.read(64)
    kind = next((kind for begin, kind in _IMAGES.items() if head.startswith(begin)), None)
    if head[4:8] == b"ftyp":
        kind = "AVIF"
    elif head[:1] == b"P" and kind is None:
        kind = "Netpbm"
    data = f"its {kind} data" if kind else "its data"
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"it has more pixels than Pillow allows ({most}): make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS"
    return (
        f"it is an image that cannot be read: {data} are damaged, cut off, or of a variant that is not read here. "
        "Copy or convert it"
    )
