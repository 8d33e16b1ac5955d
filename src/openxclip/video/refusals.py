"""Explain why a file can't be opened, and what to do."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from openxclip.video.boxes import boxes, read_at, reading, size_of
from openxclip.video.composing import DamagedImageError
from openxclip.video.failures import ffmpeg_failure
from openxclip.video.signatures import container_format, image_format, is_playlist

_MP4_BOXES = frozenset((b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"wide", b"free", b"skip", b"pnot"))
_COPY_AGAIN = "Copy, download or record it again"


def why_not_opened(source: Path | BinaryIO | str, error: Exception) -> str:
    """Explain why FFmpeg could not open a file or an address, for which PyAV raised this error."""
    if isinstance(source, str):
        return f"it cannot be opened: {getattr(error, 'strerror', None) or error}"
    failure = ffmpeg_failure(error, source)
    if failure is not None:
        return f"it cannot be read: {failure}"
    with reading(source) as file:
        size = size_of(file)
        head = read_at(file, 0, 64)
        if is_playlist(head):
            return (
                "it is a playlist, which only names other files: give those files instead, or allow it to open them "
                "with allow_protocols=… or --allow-protocols"
            )
        if head[4:8] in _MP4_BOXES:
            return _why_mp4_not_opened(file, size)
    container = container_format(head)
    if container is not None:
        return f"it begins as {container}, but its header is damaged or cut off. {_COPY_AGAIN}"
    if getattr(error, "errno", None) == errno.EINVAL:
        return (
            "it is not a video but another kind of file (a script, text, subtitles, or an unsupported sound or image "
            "format): convert it, e.g. to MP4"
        )
    return (
        "it is not a video, or its beginning is damaged or encrypted: no known format was recognised. Check the file, "
        "or copy it again"
    )


def _why_mp4_not_opened(file: BinaryIO, size: int) -> str:
    """Explain from the boxes of the file: its index `moov` is missing, cut off or damaged."""
    top_level = list(boxes(file, 0, size))
    names = {box.name for box in top_level}
    index = next((box for box in top_level if box.name == b"moov"), None)
    if index is not None and index.end > size:
        return f"it is cut off: the last {index.end - size} bytes of its index (moov) are missing. {_COPY_AGAIN}"
    if index is not None:
        return f"it is an MP4 whose index (moov) is damaged: FFmpeg cannot read it. {_COPY_AGAIN}"
    if b"meta" in names:
        return "it is a HEIF picture that FFmpeg cannot read: convert it, e.g. to JPEG"
    if names & {b"moof", b"styp", b"sidx"}:
        return (
            "it is a fragment of an MP4 without the header that describes it (moov): put its initialisation segment "
            "before it"
        )
    return (
        "it is an MP4 without its index (moov), which is written last: it was cut off, or its recording was not "
        f"completed. {_COPY_AGAIN}"
    )


def why_image_not_opened(source: Path | BinaryIO, error: Exception) -> str:
    """Explain why an image could not be opened, after reading its header raised this error."""
    if isinstance(error, DamagedImageError):
        return why_frame_not_decoded("it", error)
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"it has more pixels than Pillow allows ({limit}): make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS"
    with reading(source) as file:
        kind = image_format(read_at(file, 0, 64))
    data = f"its {kind} data" if kind else "its data"
    return (
        f"it is an image that cannot be read: {data} are damaged, cut off, or of an unsupported variant. "
        "Copy or convert it"
    )


def why_frame_not_decoded(frame: str, error: Exception) -> str:
    """Explain why a frame of an image could not be decoded; its name `frame` is the subject of the message."""
    damage = error if isinstance(error, DamagedImageError) else "its pixels cannot be decoded"
    return f"{frame} is damaged or cut off: {damage}. Copy or convert it"


def why_array_not_opened(_error: Exception) -> str:
    """Explain why an array's header, a Python expression, could not be read: any error means damage."""
    return "it is an array that cannot be read: its header is damaged or cut off. Copy or write it again"
