from __future__ import annotations

import functools
import http.server
import io
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from made_videos import encode
from PIL import Image

from openxclip.common.sizes import format_bytes, parse_bytes
from openxclip.errors import VideoError
from openxclip.video import NO_LIMITS, ClipPlan, Limits, ReadOptions, VideoReader, read_clip, read_clips
from openxclip.video.limits import Deadline

Videos = Callable[[str], Path]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("limits") / "clip.mp4", "libx264", count=20)


def test_reading_needs_no_torch() -> None:
    code = (
        "import sys, openxclip.video as v\n"
        "assert 'torch' not in sys.modules\n"
        "r = v.VideoReader(sys.argv[1]); r.get_arrays([0], allocate=__import__('numpy').empty); r.close()\n"
        "v.inspect(sys.argv[1], full=True)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[2] / "samples" / "cat_moves_left.mp4")], check=True
    )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(pixels=6143), r"96×64 = 6144 pixels, over the limit of 6143: .* Limits\(pixels=…\) or --max-pixels"),
        (Limits(frames=19), r"20 frames or more, over the limit of 19: .* Limits\(frames=…\) or --max-frames"),
        (Limits(memory=73727), r"4 frames of 96×64 asked for take 73.7 kB, over .* --max-memory; or ask for fewer"),
        (Limits(seconds=1e-9), r"took longer than the limit of 1e-09 s: .* Limits\(seconds=…\) or --max-seconds"),
    ],
)
def test_each_limit_names_value_limit_and_option(clip: Path, limits: Limits, message: str) -> None:
    for source in (clip, clip.read_bytes()):
        with pytest.raises(VideoError, match=message):
            read_clips(source, ClipPlan(num_frames=2, num_clips=2), read=ReadOptions(limits=limits))


def test_a_video_just_within_the_limits(clip: Path) -> None:
    limits = Limits(pixels=6144, frames=20, memory=4 * 96 * 64 * 3)
    assert len(read_clip(clip, num_frames=4, read=ReadOptions(limits=limits))) == 4
    assert len(read_clip(clip, num_frames=4, read=ReadOptions(limits=NO_LIMITS))) == 4


def test_absurdly_many_frames_asked_for(clip: Path) -> None:
    with pytest.raises(VideoError, match=r"the 1000000000000 frames of 96×64 asked for take 18432000 GB"):
        read_clip(clip, num_frames=10**12)


def test_videos_counted_by_decoding_have_limits_too(videos: Videos) -> None:
    with pytest.raises(VideoError, match=r"over the limit of 59: .* --max-frames"):
        VideoReader(videos("mpeg4_b_frames.avi"), read=ReadOptions(limits=Limits(frames=59)))
    with VideoReader(videos("mpeg4_b_frames.avi")) as reader:
        reader._footage.deadline._seconds = 1e-9
        with pytest.raises(VideoError, match="--max-seconds"):
            reader.get_frames([30])


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"pixels": -1}, {"frames": 0}, {"memory": float("nan")}])
def test_impossible_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0, or None"):
        Limits(**limits)  # type: ignore[arg-type]


def test_sizes_are_parsed_and_formatted() -> None:
    sizes = {"2GB": 2 * 10**9, "512MiB": 512 << 20, "1.5 kb": 1500, "1000": 1000, "7 bytes": 7, "1g": 10**9}
    assert {text: parse_bytes(text) for text in sizes} == sizes
    assert [format_bytes(n) for n in (7, 73728, 2 * 10**9)] == ["7 bytes", "73.7 kB", "2 GB"]
    for text in ("", "GB", "2XB", "a lot", "nan", "1e999"):
        with pytest.raises(ValueError, match="write it as"):
            parse_bytes(text)


def test_a_deadline_may_have_no_limit() -> None:
    assert Deadline(None, "x").left() is None
    Deadline(None, "x").check()
    assert 0 < (Deadline(5.0, "x").left() or 0) <= 5


# -- pictures and arrays -----------------------------------------------------------------------------------------------


def animation(kind: str, count: int = 4) -> bytes:
    pictures = [Image.new("RGB", (20, 10), (i * 40, 0, 0)) for i in range(count)]
    out = io.BytesIO()
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:], duration=40)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_animations(kind: str) -> None:
    data = animation(kind)
    with VideoReader(data) as reader:
        assert reader.num_frames == 4
    for limits, message in ((Limits(frames=3), "over the limit of 3"), (Limits(pixels=199), "20×10 = 200 pixels")):
        with pytest.raises(VideoError, match=message):
            VideoReader(data, read=ReadOptions(limits=limits))


def test_a_gif_with_very_many_frames_reaches_its_limit() -> None:
    data = animation("gif", 2)
    head, frame = data[: data.index(b"\x21\xf9\x04")], data[data.index(b"\x21\xf9\x04") : -1]
    endless = head + frame * 200_000 + b";"
    with pytest.raises(VideoError, match="--max-seconds"):
        VideoReader(endless, read=ReadOptions(limits=Limits(seconds=0.2)))
    with pytest.raises(VideoError, match="--max-frames"):
        VideoReader(endless, read=ReadOptions(limits=Limits(frames=50)))


def test_a_picture_of_absurd_size_is_not_decoded(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("L", (9000, 9000)).save(out, "png")
    path = tmp_path / "large.png"
    path.write_bytes(out.getvalue())
    for source in (path, out.getvalue()):
        with pytest.raises(VideoError, match="9000×9000 = 81000000 pixels, over the limit of 67108864"):
            VideoReader(source)


def test_folders(tmp_path: Path) -> None:
    for i in range(3):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{i}.png")
    with pytest.raises(VideoError, match=r"over the limit of 2: .*--max-frames"):
        VideoReader(tmp_path, read=ReadOptions(limits=Limits(frames=2)))
    with (
        VideoReader(tmp_path, read=ReadOptions(limits=Limits(pixels=100))) as reader,
        pytest.raises(VideoError, match="--max-pixels"),
    ):
        reader.get_frames([0])


def array(shape: str, data: bytes = bytes(6000)) -> bytes:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("(1000000000, 100000, 10000, 3)", "cut off: the last 299999999999+4000 bytes are missing"),
        ("(10, 10, 20, 3)", "10 frames or more, over the limit of 9"),
        ("(1, 1, 2000, 3)", "2000×1 = 2000 pixels, over the limit of 500"),
        ("(-1, 10, 20, 3)", "frames are uint8"),
        ("(10**9,)", "cannot be read"),
        ("(" * 300, "cannot be read"),
    ],
)
def test_arrays_with_false_headers_are_refused(shape: str, message: str, tmp_path: Path) -> None:
    limits = Limits(frames=9, pixels=500)
    data = array(shape)
    (tmp_path / "a.npy").write_bytes(data)
    for source in (data, tmp_path / "a.npy"):
        with pytest.raises(VideoError, match=message):
            VideoReader(source, read=ReadOptions(limits=limits))


def test_an_array_in_fortran_order(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    np.save(tmp_path / "columns.npy", np.asfortranarray(frames))
    for source in (tmp_path / "columns.npy", (tmp_path / "columns.npy").read_bytes()):
        with VideoReader(source) as reader:
            assert np.array_equal(reader.get_frames([0, 1]).frames_THWC.numpy(), frames)


# -- pipes -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def feed() -> Iterator[Callable[[int | Path, bytes], None]]:
    """Return a function that writes bytes to a pipe in a thread, and closes it."""
    threads = []

    def write(pipe: int | Path, data: bytes) -> None:
        def run() -> None:
            try:
                with open(pipe, "wb") as out:  # noqa: PTH123
                    out.write(data)
            except BrokenPipeError:
                pass

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield write
    for thread in threads:
        thread.join()


def test_pipes_by_name_and_as_files(clip: Path, tmp_path: Path, feed: Callable[[int | Path, bytes], None]) -> None:
    expected = read_clip(clip, num_frames=3).frames_THWC
    os.mkfifo(tmp_path / "pipe")
    feed(tmp_path / "pipe", clip.read_bytes())
    assert (read_clip(tmp_path / "pipe", num_frames=3).frames_THWC == expected).all()
    for ahead in (0, 5):  # bytes that were peeked at are part of the video
        out, into = os.pipe()
        feed(into, clip.read_bytes())
        with open(out, "rb") as file:  # noqa: PTH123
            assert len(file.peek(ahead)) >= 0
            assert (read_clip(file, num_frames=3).frames_THWC == expected).all()


def test_a_silent_pipe_ends_at_its_limit(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    out, into = os.pipe()
    with open(out, "rb") as file, open(into, "wb"):  # noqa: PTH123
        for source in (tmp_path / "pipe", file):
            started = time.monotonic()
            with pytest.raises(VideoError, match=r"longer than the limit of 0\.2 s"):
                VideoReader(source, read=ReadOptions(limits=Limits(seconds=0.2)))
            assert time.monotonic() - started < 10
        assert os.get_blocking(out)


def test_an_endless_pipe_ends_at_its_limit() -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as process:
        message = r"it has 5.* MB or more to keep in memory, over the limit of 5 MB: .* --max-memory"
        with pytest.raises(VideoError, match=message):
            VideoReader(process.stdout, read=ReadOptions(limits=Limits(memory=5_000_000)))  # type: ignore[arg-type]
        process.kill()


def test_file_objects_that_cannot_seek(clip: Path) -> None:
    class Response(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.data = io.BytesIO(data)

        def read(self, size: int = -1) -> bytes:
            return self.data.read(min(size, 1000))

    assert len(read_clip(Response(clip.read_bytes()), num_frames=3)) == 3  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="--max-memory"):
        VideoReader(Response(bytes(9999)), read=ReadOptions(limits=Limits(memory=5000)))  # type: ignore[arg-type]


# -- addresses and playlists -------------------------------------------------------------------------------------------


@pytest.fixture
def served(clip: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the clip's folder on this machine; return the address and the list of requests."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(clip.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_addresses_are_opened_if_their_protocols_are_allowed(clip: Path, served: tuple[str, list[str]]) -> None:
    address, asked = served
    with pytest.raises(VideoError, match=r'allow_protocols=\["http", …\] or --allow-protocols http,…'):
        VideoReader(f"{address}/clip.mp4")
    with pytest.raises(VideoError, match="an address, which isn't opened without permission"):
        VideoReader(f"{address}/clip.mp4", read=ReadOptions(allow_protocols=["https", "tls", "tcp"]))
    assert asked == []
    got = read_clip(f"{address}/clip.mp4", num_frames=3, read=ReadOptions(allow_protocols=["http", "tcp"]))
    assert (got.frames_THWC == read_clip(clip, num_frames=3).frames_THWC).all()
    assert asked
    with pytest.raises(VideoError, match=r"cannot be opened: .*404"):
        VideoReader(f"{address}/gone.mp4", read=ReadOptions(allow_protocols=["http", "tcp"]))


def test_playlists_use_only_allowed_protocols(clip: Path, served: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = served
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "files").write_text("ffconcat version 1.0\nfile clip.mp4\nfile clip.mp4\n")
    (tmp_path / "net").write_text(f"ffconcat version 1.0\nfile {address}/clip.mp4\n")
    with VideoReader(tmp_path / "files", read=ReadOptions(allow_protocols=["file"])) as reader:
        assert reader.num_frames == 40
        assert len(reader.get_frames([0, 39])) == 2
    with pytest.raises(VideoError):
        VideoReader(tmp_path / "net", read=ReadOptions(allow_protocols=["file"]))
    assert asked == []
    with VideoReader(tmp_path / "net", read=ReadOptions(allow_protocols=["http", "tcp"])) as reader:
        assert reader.num_frames == 20
    for text in (f"file {tmp_path / 'clip.mp4'}", f"file 'file:{tmp_path / 'clip.mp4'}'"):
        (tmp_path / "mixed").write_text(f"ffconcat version 1.0\n{text}\n")
        for source in (tmp_path / "mixed", (tmp_path / "mixed").read_bytes()):
            with pytest.raises(VideoError):
                VideoReader(source, read=ReadOptions(allow_protocols=["http", "tcp"]))


def test_an_hls_playlist(videos: Videos, tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(videos("h264_late_start.ts").read_bytes())
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:2.4,\na.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError, match="--allow-protocols"):
        VideoReader(path)
    with VideoReader(path, read=ReadOptions(allow_protocols=["file"])) as reader:
        assert reader.num_frames == 60


@pytest.mark.parametrize("names", ["https", ["file:"], ["a,b"], [""]])
def test_impossible_protocols_are_refused(clip: Path, names: object) -> None:
    with pytest.raises(ValueError, match="list of protocols by FFmpeg's names"):
        VideoReader(clip, read=ReadOptions(allow_protocols=names))  # type: ignore[arg-type]
