"""Choose which video track of a file to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from openxclip.errors import VideoError
from openxclip.video.assumptions import Assumption
from openxclip.video.boxes import SEGMENT, Part, boxes_at, content, elements_at, mp4_tracks, reading, size_of, track_id

# FFmpeg's flags AV_DISPOSITION_…
_DEFAULT, _COVER, _THUMBNAILS, _DEPENDENT = 0x1, 0x400, 0x800, 0x80000
_HEIF_BRANDS = frozenset(("mif1", "mif2", "msf1", "heic", "heix", "hevc", "hevx", "heim", "heis", "avif", "avis"))

# Matroska's elements Tracks, TrackEntry, TrackType and FlagEnabled
_TRACKS, _TRACK, _TYPE, _ENABLED = b"\x16\x54\xae\x6b", b"\xae", b"\x83", b"\xb9"


def choose_track(
    container: Any, source: Path | BinaryIO | str, *, track: int | None, name: str
) -> tuple[Any, str | None]:
    """Choose the video track; return its stream, and a note for the user if there were several tracks.

    Covers, thumbnails and the still picture of a HEIF or AVIF sequence don't count as tracks. By default, enabled
    tracks come first, then those that FFmpeg can decode, then those with the flag "default", then FFmpeg's best stream
    (the one with the highest bit rate).

    Args:
        container: PyAV's container.
        source: the path, file or address that the container was opened from.
        track: number of the track, counted from 0 in the order of the file; None chooses the default.
        name: name of the source in error messages.

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
    disabled = _disabled_indices(container, source)
    best = container.streams.best("video")

    def rank(number: int) -> tuple[bool, ...]:
        stream = tracks[number]
        can_decode = stream.codec_context is not None
        is_best = best is not None and stream.index == best.index
        return stream.index not in disabled, can_decode, _has(stream, _DEFAULT), is_best

    chosen = max(range(len(tracks)), key=rank)  # the first one if several have the same rank
    note = (
        f"reading track {chosen} of {len(tracks)} video tracks: choose another with --track (ReadOptions(track=…) in "
        "Python)"
    )
    return tracks[chosen], Assumption(note)


def is_cover(stream: Any) -> bool:
    """Return whether a video stream is a cover picture."""
    return _has(stream, _COVER)


def _has(stream: Any, flag: int) -> bool:
    return bool(int(stream.disposition) & flag)


def _tracks(container: Any, source: Path | BinaryIO | str, name: str) -> list[Any]:
    streams = list(container.streams)
    videos = [s for s in streams if s.type == "video" and not _has(s, _COVER | _THUMBNAILS)]
    tracks = [s for s in videos if not _has(s, _DEPENDENT)]
    if not tracks and videos:
        raise VideoError(
            name, f"it is a picture of {len(videos)} tiles, which openxclip can't join: convert it, e.g. to JPEG"
        )
    if not tracks and any(s.type == "audio" for s in streams):
        raise VideoError(name, "it has sound but no picture: give a file with a video track")
    if not tracks:
        raise VideoError(name, "it has no video track: give a file with one")
    brands = container.metadata.get("major_brand", "") + container.metadata.get("compatible_brands", "")
    if is_heif(brands):
        tracks = [s for s in tracks if s.frames > 1] or [s for s in tracks if _has(s, _DEFAULT)] or tracks
    if len(tracks) > 1:
        auxiliary = _auxiliary_ids(container, source)
        tracks = [s for s in tracks if s.id not in auxiliary] or tracks
    return tracks


def is_heif(brands: str | bytes) -> bool:
    """Return whether a file with these brands (four letters each) is HEIF or AVIF."""
    text = brands if isinstance(brands, str) else brands.decode("latin-1")
    return any(text[i : i + 4] in _HEIF_BRANDS for i in range(0, len(text), 4))


def _auxiliary_ids(container: Any, source: Path | BinaryIO | str) -> set[int]:
    """Return the ids of an MP4's auxiliary tracks, which hold another track's transparency or depth."""
    if isinstance(source, str) or not container.format.name.startswith("mov,"):
        return set()
    with reading(source) as file:
        return {
            track_id(file, track)
            for track in mp4_tracks(file)
            if any(content(file, hdlr)[8:12] == b"auxv" for hdlr in boxes_at(file, track, b"mdia", b"hdlr"))
        }


def _disabled_indices(container: Any, source: Path | BinaryIO | str) -> set[int]:
    """Return the indices of a Matroska file's disabled streams. (In an MP4, FFmpeg reports "enabled" as "default".)"""
    if isinstance(source, str) or container.format.name != "matroska,webm":
        return set()
    indices = [s.index for s in container.streams if s.type == "video"]
    with reading(source) as file:
        are_enabled = [
            all(content(file, flag).strip(b"\0") for flag in elements_at(file, track, _ENABLED))
            for track in matroska_videos(file)
        ]
    return {index for index, is_enabled in zip(indices, are_enabled, strict=False) if not is_enabled}


def matroska_videos(file: BinaryIO) -> list[Part]:
    """Return the track entries of a Matroska file's video tracks, in order."""
    tracks = next(elements_at(file, Part(b"", 0, size_of(file)), SEGMENT, _TRACKS), None)
    if tracks is None:
        return []
    return [
        track
        for track in elements_at(file, tracks, _TRACK)
        if any(content(file, kind) == b"\1" for kind in elements_at(file, track, _TYPE))
    ]
