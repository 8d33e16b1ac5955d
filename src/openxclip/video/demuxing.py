"""Open a video file with FFmpeg (PyAV), but no other file that it refers to, and choose its video stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import av

from openxclip.common.cores import num_cores
from openxclip.errors import VideoError
from openxclip.video.encryption import find_encryption
from openxclip.video.failures import cannot_be_read
from openxclip.video.formats import DEMUXERS
from openxclip.video.jpegs import begins_with_jpeg
from openxclip.video.limits import Deadline
from openxclip.video.options import ReadOptions
from openxclip.video.refusals import why_not_opened
from openxclip.video.tracks import choose_track
from openxclip.video.truncation import COPY_AGAIN, CutOff, check_truncation

_FORMATS = ",".join(DEMUXERS)  # other formats, mainly playlists, aren't opened
_PLAYLIST_FORMATS = "hls,dash,concat"  # opened only if the user allows protocols
_SMALL = 640 * 360  # pixels
_LIGHT_CODECS = ("mpeg", "msmpeg", "wmv", "h263", "flv1")  # prefixes of the names of codecs that decode fast
_MAX_THREADS = 16  # FFmpeg's own limit; each takes memory for its frames


def open_video(
    source: Path | BinaryIO | str, *, name: str, options: ReadOptions, deadline: Deadline, is_first: bool = True
) -> tuple[Any, Any, tuple[str, ...]]:
    """Open a file; return the container, the chosen video stream with its decoder set up, and notes for the user.

    Args:
        source, name, options: see `ContainerFootage`.
        deadline: limits how long FFmpeg waits for the source.
        is_first: whether this is the first opening, which checks if the file is encrypted or cut off.

    Raises:
        VideoError: the file can't be opened, has no video, is encrypted or cut off, or its frames exceed the limit.
    """
    container = _open_container(source, name, options, deadline)
    try:
        stream, note = choose_track(container, source, track=options.track, name=name)
        notes = [note]
        if is_first and not isinstance(source, str):  # only FFmpeg can read a URL
            notes.append(_check_readable(source, container, stream, name, allow_cut_off=options.allow_cut_off))
        context = stream.codec_context
        if context is None:
            raise VideoError(
                name, "its video is coded in a way that this FFmpeg cannot decode: convert it, e.g. to H.264"
            )
        stream.thread_type = "AUTO"
        context.thread_count = options.threads or _best_threads(context)
        context.options = options.limits.decoder_options()
        options.limits.check_pixels(name, width=context.width, height=context.height)
    except BaseException:
        container.close()
        raise
    return container, stream, tuple(note for note in notes if note)


def _open_container(source: Path | BinaryIO | str, name: str, options: ReadOptions, deadline: Deadline) -> Any:
    protocols, container_options = list(options.allow_protocols), {"format_whitelist": _FORMATS}
    # opening a file by its path needs the protocol "file", which a playlist must not get without permission
    if protocols and ("file" in protocols or not isinstance(source, Path)):
        container_options["format_whitelist"] += f",{_PLAYLIST_FORMATS}"
        container_options["safe"] = "0"  # disables concat's check of names: the whitelist decides what may be opened
    # by the name, FFmpeg would take a JPEG for one picture of a numbered sequence
    format_name = "mjpeg" if not isinstance(source, str) and begins_with_jpeg(source) else None
    target: Any = source
    if isinstance(source, Path):
        target = f"file:{source}"
        protocols.append("file")
    elif not isinstance(source, str):
        source.seek(0)
    container_options["protocol_whitelist"] = ",".join(protocols) or "none"  # "none" is no protocol: nothing is allowed
    try:
        return av.open(
            target,
            "r",
            format=format_name,
            options=options.limits.decoder_options(),
            container_options=container_options,
            metadata_errors="replace",
            timeout=deadline.left(),
        )
    except (av.error.FFmpegError, UnicodeError, ValueError) as error:
        deadline.check()
        raise VideoError(name, why_not_opened(source, error)) from None
    except OSError as error:  # from the caller's file object
        raise VideoError(name, cannot_be_read(error)) from error


def _check_readable(
    source: Path | BinaryIO, container: Any, stream: Any, name: str, *, allow_cut_off: bool
) -> str | None:
    """Refuse encrypted and truncated files, which decoders may read as noise or as a shorter video.

    Returns:
        A note if the file's end is odd, but all frames are there; or `CutOff` if it is cut off and that is allowed.
    """
    encrypted = find_encryption(source, container, stream)
    if encrypted:
        raise VideoError(name, encrypted)
    error, note = check_truncation(source, stream)
    if error and allow_cut_off:
        return CutOff(error.removesuffix(f". {COPY_AGAIN}"))
    if error:
        raise VideoError(name, error)
    return note


def _best_threads(context: Any) -> int:
    """Return the number of threads that decodes fastest. FFmpeg's default, one more than there are cores, is slower."""
    if 0 < context.width * context.height <= _SMALL and context.name.startswith(_LIGHT_CODECS):
        return 1  # decoding such a frame takes less time than waking a thread
    return min(num_cores(), _MAX_THREADS)


def short_name(container: Any) -> str:
    """Return a short name of the container's format, such as "mp4"."""
    name = str(container.format.name)
    if name.startswith("mov,"):
        return "mov" if container.metadata.get("major_brand", "").startswith("qt") else "mp4"
    return name.partition(",")[0]


def audio_codec(container: Any) -> str | None:
    """Return the codec of the container's first audio stream; None if it has none."""
    audio = next((s for s in container.streams if s.type == "audio"), None)
    return None if audio is None else str(getattr(audio.codec_context, "name", None) or "unknown")
