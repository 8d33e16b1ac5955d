"""Read the sound of a part of a video, and copy or encode it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np

from openxclip.errors import VideoError
from openxclip.timelines.copying import MP4_SOUND, add_copied_stream
from openxclip.video import ReadOptions, VideoReader
from openxclip.video.containers import ContainerFootage
from openxclip.video.demuxing import open_video
from openxclip.video.limits import Deadline

_EARLIER_S, _LATER_S = 1.0, 5.0  # how far sound may lie from its picture in a file
_AAC_RATES = frozenset((96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350))
_BIT_RATE = 64_000  # of a channel
_ROUNDING_S = 0.002


class Sound:
    """The sound tracks of a video file, read apart from its picture.

    Args:
        reader: the video.
        source: what it was opened from: an address, if it has no file.
        read: how to open it.

    Attributes:
        tracks: the sound tracks, PyAV's streams.
        codecs: their codecs, by FFmpeg's names.
        notes: sentences about tracks and sound that clips lack.
    """

    def __init__(self, reader: VideoReader, source: Any, read: ReadOptions) -> None:
        self._name = reader.source
        self._deadline = Deadline(read.limits.seconds, self._name)
        self._container: Any = None
        self.tracks: list[Any] = []
        self.notes: list[str] = []
        with reader.locked_footage() as footage:
            if not isinstance(footage, ContainerFootage):
                return
            has_sound = any(stream.type == "audio" for stream in footage.coded.container.streams)
            file = footage.file
        self._note_other_tracks(footage)
        if not has_sound:
            return
        if file is not None:
            source = io.BytesIO(file.getvalue()) if isinstance(file, io.BytesIO) else file
        self._container, self._video, _ = open_video(
            source, name=self._name, options=read, deadline=self._deadline, is_first=False
        )
        self.tracks = [s for s in self._container.streams.audio if getattr(s, "codec_context", None) is not None]
        num_lost = len(self._container.streams.audio) - len(self.tracks)
        if num_lost:
            self.notes.append(f"{num_lost} sound tracks are left out: this FFmpeg doesn't know their codec")

    @property
    def codecs(self) -> list[str]:  # noqa: D102
        return [str(track.codec_context.codec.canonical_name) for track in self.tracks]

    def _note_other_tracks(self, footage: ContainerFootage) -> None:
        counts: dict[str, int] = {}
        for stream in footage.coded.container.streams:
            if stream.type != "audio" and stream.index != footage.coded.stream.index:
                counts[stream.type] = counts.get(stream.type, 0) + 1
        for kind, count in counts.items():
            tracks = f"a {kind} track is" if count == 1 else f"{count} {kind} tracks are"
            self.notes.append(f"{tracks} left out: clips have one picture track and all sound")

    def add_streams(self, output: Any, *, is_copy: bool) -> list[Any]:
        """Add a stream for each track: a copy of what the container can hold, else AAC.

        Args:
            output: PyAV's container, before the first packet.
            is_copy: whether its picture is copied from a file, so that the container was chosen for this sound.
        """
        streams = []
        for track, codec in zip(self.tracks, self.codecs, strict=True):
            if is_copy or codec in MP4_SOUND:
                stream = add_copied_stream(output, track)
            else:
                rate = track.codec_context.sample_rate
                stream = output.add_stream("aac", rate=rate if rate in _AAC_RATES else 48000)
                stream.codec_context.layout = track.codec_context.layout.name
                stream.codec_context.bit_rate = _BIT_RATE * track.codec_context.layout.nb_channels
            stream.metadata.update(
                {key: value for key, value in track.metadata.items() if key in ("language", "title")}
            )
            streams.append(stream)
        return streams

    def packets(self, streams: list[Any], *, start: float, length: float) -> Iterator[tuple[float, Any]]:
        """Yield the sound of a part as packets for `streams`, each with its time in the clip in seconds.

        Args:
            streams: what `add_streams` returned.
            start: the start of the part by the container's clock, in seconds.
            length: its length in seconds.
        """
        if not streams:
            return
        writers = {
            track.index: _Copier(stream) if stream.codec_context.is_decoder else _Encoder(stream)
            for track, stream in zip(self.tracks, streams, strict=True)
        }
        for packet in self._packets(start, start + length):
            try:
                yield from writers[packet.stream.index].write(packet, start, length)
            except av.error.FFmpegError:  # noqa: PERF203
                self._note_damage()
        for writer in writers.values():
            yield from writer.flush()

    def _packets(self, start: float, end: float) -> Iterator[Any]:
        """Yield the packets of all tracks from about `start` on, until all tracks or the picture are past the end."""
        self._deadline.restart()
        container_start = (self._container.start_time or 0) / av.time_base
        target = max(start - _EARLIER_S, container_start)
        try:
            self._container.seek(int(target * av.time_base))
        except av.error.FFmpegError:  # some formats can't seek to their beginning
            self._note_damage()
            return
        waiting = {track.index for track in self.tracks}
        try:
            for packet in self._container.demux(self._video, *self.tracks):
                self._deadline.check()
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is None or not packet.size:
                    continue
                time = float(stamp * packet.time_base)
                if packet.stream.index == self._video.index:
                    if time > end + _LATER_S:
                        return
                    continue
                if time >= end:
                    waiting.discard(packet.stream.index)
                    if not waiting:
                        return
                    continue
                yield packet
        except av.error.FFmpegError:
            self._note_damage()

    def _note_damage(self) -> None:
        note = "its sound is damaged: clips lack what can't be read"
        if note not in self.notes:
            self.notes.append(note)

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()


class _Copier:
    """Copies the packets of a track that begin within a part."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, packet: Any, start: float, length: float) -> Iterator[tuple[float, Any]]:
        time = float(packet.pts * packet.time_base) - start if packet.pts is not None else -1.0
        if not -_ROUNDING_S <= time < length:
            return
        origin = round(Fraction(start).limit_denominator(10**9) / packet.time_base)
        packet.pts = max(0, packet.pts - origin)
        packet.dts = packet.pts  # sound is stored in the order in which it is heard
        packet.stream = self._stream
        yield max(0.0, time), packet

    def flush(self) -> Iterator[tuple[float, Any]]:
        return iter(())


class _Encoder:
    """Encodes the samples of a track that lie within a part; silence where there are none."""

    def __init__(self, stream: Any) -> None:
        self._stream, context = stream, stream.codec_context
        self._rate, self._layout = context.sample_rate, context.layout.name
        self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        self._next = 0  # number of samples so far

    def write(self, packet: Any, start: float, length: float) -> Iterator[tuple[float, Any]]:
        for decoded in packet.decode():
            if decoded.pts is None:
                continue
            at = round((float(decoded.pts * decoded.time_base) - start) * self._rate)
            decoded.pts = None
            for frame in self._resampler.resample(decoded):
                samples_CS = frame.to_ndarray()
                yield from self._add(samples_CS, at, round(length * self._rate))
                at += samples_CS.shape[1]

    def _add(self, samples_CS: np.ndarray[Any, Any], at: int, total: int) -> Iterator[tuple[float, Any]]:
        samples_CS = samples_CS[:, max(0, self._next - at) : max(0, total - at)]
        at = max(at, self._next)
        if not samples_CS.shape[1]:
            return
        if at - self._next > _ROUNDING_S * self._rate:
            silence_CS = np.zeros((samples_CS.shape[0], at - self._next), np.float32)
            samples_CS = np.concatenate((silence_CS, samples_CS), axis=1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples_CS), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._next, Fraction(1, self._rate)
        self._next += samples_CS.shape[1]
        yield from self._timed(self._stream.encode(frame))

    def flush(self) -> Iterator[tuple[float, Any]]:
        with suppress(av.error.EOFError):
            yield from self._timed(self._stream.encode(None))

    def _timed(self, packets: list[Any]) -> Iterator[tuple[float, Any]]:
        for packet in packets:
            yield float((packet.pts or 0) * packet.time_base), packet


def sound_error(error: VideoError) -> str:
    """Return a note about sound that can't be read."""
    return f"its sound is left out: {error.reason}"
