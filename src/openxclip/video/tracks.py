"""Choose the video track of a file: the one that players show, unless another is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from openxclip.errors import VideoError
from openxclip.video.assumptions import Assumption
from openxclip.video.boxes import (
    SEGMENT,
    Part,
    boxes_at,
    content,
    elements,
    elements_at,
    mp4_tracks,
    reading,
    size_of,
    track_id,
)

# AV_DISPOSITION_…
_DEFAULT, _COVER, _THUMBNAILS, _DEPENDENT = 0x1, 0x400, 0x800, 0x80000
_HEIF_BRANDS = frozenset(("mif1", "mif2", "msf1", "heic", "heix", "hevc", "hevx", "heim", "heis", "avif", "avis"))
_TRACKS, _TRACK, _TYPE, _ENABLED = b"\x16\x54\xae\x6b", b"\xae", b"\x83", b"\xb9"


def choose_track(
    container: Any, source: Path | BinaryIO | str, *, track: int | None, name: str
) -> tuple[Any, str | None]:
    """Choose the video track; return its stream, and a note for the user if there were several tracks.

    Tracks are the video streams of a file without covers and thumbnails, and in a HEIF or AVIF sequence without its
    still picture. The default is FFmpeg's best stream among those that are enabled and can be decoded: a track with the
    flag "default", then the one with the higher bit rate.

    Args:
        container: PyAV's.
        source: what the container was opened from.
        track: number of the track, counted from 0 in the order of the file; None chooses the default.
        name: names the source in errors.

    Raises:
        VideoError: the file has no video track, or none with this number.
    """
    tracks = _tracks(container, source, name)
    if track is not None:
        if track >= len(tracks):
            count = "one video track, 0" if len(tracks) == 1 else f"{len(tracks)} video tracks, 0 to {len(tracks) - 1}"
            raise VideoError(name, f"it has {count}: there is no track {track}")
        return tracks[track], None
    if len(tracks) == 1:
        return tracks[0], None
    disabled = _disabled(container, source)
    ranks = {
        stream.index: (stream.index not in disabled, stream.codec_context is not None, _has(stream, _DEFAULT))
        for stream in tracks
    }
    leading = [stream for stream in tracks if ranks[stream.index] == max(ranks.values())]
    best = container.streams.best("video")
    chosen = next((s for s in leading if best is not None and s.index == best.index), leading[0])
    number = next(i for i, s in enumerate(tracks) if s.index == chosen.index)
    note = (
        f"of {len(tracks)} video tracks, track {number} is read: choose another with --track (ReadOptions(track=…) in "
        "Python)"
    )
    return chosen, Assumption(note)


def is_cover(stream: Any) -> bool:
    """Tell whether a video stream is a cover picture."""
    return _has(stream, _COVER)


def _has(stream: Any, flag: int) -> bool:
    return bool(int(stream.disposition) & flag)


def _tracks(container: Any, source: Path | BinaryIO | str, name: str) -> list[Any]:
    streams = list(container.streams)
    videos = [s for s in streams if s.type == "video" and not _has(s, _COVER | _THUMBNAILS)]
    tracks = [s for s in videos if not _has(s, _DEPENDENT)]
    if not tracks and videos:
        raise VideoError(
            name, f"it is a picture of {len(videos)} tiles, which are not put together here: convert it, e.g. to JPEG"
        )
    if not tracks:
        has_audio = any(s.type == "audio" for s in streams)
        raise VideoError(
            name,
            "it has sound but no picture: give a file with a video track"
            if has_audio
            else "it has no video track: give a file with one",
        )
    brands = container.metadata.get("major_brand", "") + container.metadata.get("compatible_brands", "")
    if is_heif(brands):
        tracks = [s for s in tracks if s.frames > 1] or [s for s in tracks if _has(s, _DEFAULT)] or tracks
    if len(tracks) > 1:
        auxiliary = _auxiliary(container, source)
        tracks = [s for s in tracks if s.id not in auxiliary] or tracks
    return tracks


def is_heif(brands: str | bytes) -> bool:
    """Tell whether a file with these brands (four letters each) is HEIF or AVIF."""
    text = brands if isinstance(brands, str) else brands.decode("latin-1")
    return any(text[i : i + 4] in _HEIF_BRANDS for i in range(0, len(text), 4))


def _auxiliary(container: Any, source: Path | BinaryIO | str) -> set[int]:
    """Return the numbers of MP4's auxiliary tracks, which hold another track's transparency or depth."""
    if isinstance(source, str) or not container.format.name.startswith("mov,"):
        return set()
    with reading(source) as file:
        return {
            track_id(file, track)
            for track in mp4_tracks(file)
            if any(content(file, hdlr)[8:12] == b"auxv" for hdlr in boxes_at(file, track, b"mdia", b"hdlr"))
        }


def _disabled(container: Any, source: Path | BinaryIO | str) -> set[int]:
    """Return the streams that Matroska's FlagEnabled excludes. (In MP4, FFmpeg takes "enabled" for "default".)"""
    if isinstance(source, str) or container.format.name != "matroska,webm":
        return set()
    streams = [s.index for s in container.streams if s.type == "video"]
    with reading(source) as file:
        enabled = [
            all(content(file, flag).strip(b"\0") for flag in elements_at(file, track, _ENABLED))
            for track in matroska_videos(file)
        ]
    return {index for index, is_enabled in zip(streams, enabled, strict=False) if not is_enabled}


def matroska_videos(file: BinaryIO) -> list[Part]:
    """Return the entries of a Matroska file's video tracks, in order."""
    segment = next((e for e in elements(file, 0, size_of(file)) if e.name == SEGMENT), None)
    tracks = None if segment is None else next(elements_at(file, segment, _TRACKS), None)
    if tracks is None:
        return []
    return [
        track
        for track in elements_at(file, tracks, _TRACK)
        if any(content(file, kind) == b"\1" for kind in elements_at(file, track, _TYPE))
    ]
