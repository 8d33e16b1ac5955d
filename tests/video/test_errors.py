from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from made_videos import encode

from openxclip.errors import VideoError
from openxclip.video import DEFAULT_LIMITS, Limits, ReadOptions, VideoReader, find_videos

Videos = Callable[[str], Path]


def refusal(source: object, *, limits: Limits = DEFAULT_LIMITS) -> str:
    with pytest.raises(VideoError) as caught:
        VideoReader(source, read=ReadOptions(limits=limits))  # type: ignore[arg-type]
    error = caught.value
    assert type(error) is VideoError
    assert error.source
    assert error.reason
    assert error.source not in error.reason
    assert "Errno" not in error.reason
    assert "\n" not in error.reason
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    return error.reason


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str]) -> object:
    """FFmpeg must not write to the terminal."""
    yield
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_missing_files(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.mp4") == "there is no such file: check the path"
    (tmp_path / "file").write_text("x")
    assert "no such file" in refusal(tmp_path / "file" / "none.mp4")
    assert "no such file" in refusal("")
    (tmp_path / "link.mp4").symlink_to("/nowhere/a.mp4")
    assert refusal(tmp_path / "link.mp4") == "it is a link to /nowhere/a.mp4, where there is nothing: check the link"
    assert find_videos([tmp_path]) == [tmp_path / "link.mp4"]  # not skipped silently
    assert "download it first" in refusal("https://example.org/clip.mp4")
    assert "cannot be read" in refusal("a\0b.mp4")


def test_empty_files(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert "it is empty" in refusal(tmp_path / "empty.mp4")
    assert "it is empty" in refusal(b"")


def test_folders_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "no videos, and no images" in refusal(tmp_path)


@pytest.mark.parametrize("blocked", ["open", "iterdir"])
def test_files_without_permission(
    blocked: str, tmp_path: Path, videos: Videos, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = videos("prores.mov") if blocked == "open" else tmp_path  # patched, because the tests may run as root

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, blocked, refuse)
    assert "not permitted" in refusal(path)


def test_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "longer than the limit of 0.1 s" in refusal(tmp_path / "pipe.mp4", limits=Limits(seconds=0.1))
    assert "neither a file nor a folder" in refusal(os.devnull)


@pytest.mark.parametrize(
    "data",
    [b"x", b"just some text, not a film\n" * 40, bytes(range(256)) * 64, b"\0" * 5000],
)
def test_files_that_are_no_videos(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(data)
    for source in (tmp_path / "clip.mp4", data):
        assert "not a video" in refusal(source)


def audio_file(path: Path, codec: str) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=48000, layout="mono")
        for i in range(10):
            kind = "fltp" if codec == "aac" else "s16"
            silent = np.zeros((1, 1024), np.float32 if codec == "aac" else np.int16)
            frame = av.AudioFrame.from_ndarray(silent, format=kind, layout="mono")
            frame.pts, frame.rate, frame.time_base = i * 1024, 48000, Fraction(1, 48000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_audio_files(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "aac"), ("a.mkv", "aac"), ("a.wav", "pcm_s16le"), ("a.avi", "pcm_s16le")):
        path = audio_file(tmp_path / name, codec)
        assert refusal(path) == "it has sound but no picture: give a file with a video track"


def test_videos_that_were_cut_off(videos: Videos, tmp_path: Path) -> None:
    fast = encode(tmp_path / "index_first.mp4", "libx264", muxer={"movflags": "faststart"})
    for path in (fast, videos("h264_short_gop.mkv"), videos("vp9.webm"), videos("mpeg4.avi"), videos("mjpeg.avi")):
        data = path.read_bytes()
        for share in (0.5, 0.8):
            reason = refusal(data[: int(len(data) * share)])
            assert "cut off" in reason, path.name
    data = videos("h264_one_key_frame.mp4").read_bytes()
    assert "an MP4 without its index" in refusal(data[: len(data) // 2])
    index = data.index(b"moov") - 4
    assert "cut off" in refusal(data[: index + (len(data) - index) * 8 // 10])


def test_a_transport_stream_may_end_anywhere(videos: Videos) -> None:
    data = videos("h264_late_start.ts").read_bytes()
    with VideoReader(data) as complete, VideoReader(data[: len(data) * 6 // 10 // 188 * 188]) as part:
        last = part.num_frames - 3
        assert 20 < part.num_frames < 50
        assert (complete.get_frames([last]).frames_THWC == part.get_frames([last]).frames_THWC).all()


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")])
def test_frames_that_cannot_be_decoded(suffix: str, codec: str, tmp_path: Path) -> None:
    path = encode(tmp_path / f"damaged.{suffix}", codec, gop=1, count=10)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][4]
    at = bytes(data).index(bytes(packet))
    data[at : at + packet.size] = bytes(packet.size)
    with VideoReader(bytes(data)) as reader:
        assert len(reader.get_frames([0, 1, 2])) == 3
        with pytest.raises(VideoError, match=r"damaged: frame 4 \(0\.16 s\) cannot be decoded"):
            reader.get_frames([2, 4])
        assert reader.num_frames == 10
        assert len(reader.get_frames([5, 9])) == 2


def test_playlists_are_refused_without_opening_what_they_name(
    videos: Videos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.mkv").write_bytes(videos("h264_short_gop.mkv").read_bytes())
    named = tmp_path / "named"
    os.mkfifo(named)  # opening it would wait for ever
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        lists = {
            "concat": "ffconcat version 1.0\nfile other.mkv\n",
            "pipe": "ffconcat version 1.0\nfile named\n",
            "address": f"ffconcat version 1.0\nfile {address}\n",
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:2,\n{address}\n#EXT-X-ENDLIST\n",
            "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{address}</BaseURL>',
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\n",
        }
        for kind, text in lists.items():
            for suffix in ("mp4", "m3u8", "ffconcat", "sdp", "mpd"):
                path = tmp_path / f"{kind}.{suffix}"
                path.write_text(text)
                assert "playlist" in refusal(path), path.name
                assert "playlist" in refusal(text.encode())
        with pytest.raises(TimeoutError):
            server.accept()


def test_file_names_are_taken_literally(videos: Videos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b.mp4", "http:x.mp4", "-i.mp4", "100%d.mp4", "näme mit *?.mp4"):
        Path(name).write_bytes(videos("prores.mov").read_bytes())
        with VideoReader(name) as reader:
            assert reader.num_frames == 20
