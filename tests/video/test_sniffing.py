"""Which files of a folder are videos, which of its images are animated, and what is left out and counted."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from made_images import Part, apng
from made_videos import picture
from PIL import Image

from openxclip.datasets import open_dataset
from openxclip.video import VIDEO_SUFFIXES, VideoReader, find_videos
from openxclip.video.demuxing import _FORMATS as DEMUXERS_USED
from openxclip.video.finding import LeftOut
from openxclip.video.formats import DEMUXERS, IMAGE_SUFFIXES, MAY_BE_ANIMATED
from openxclip.video.images import _available_formats as pillow_formats
from openxclip.video.sniffing import why_not_a_video

OTHERS = set("m4a m4b isma mks mka ogg avs mpo ty+".split())  # noqa: SIM905 (sound, stills, scripts, no suffix)


def image(kind: str, count: int, **options: object) -> bytes:
    frames = [Image.fromarray(picture(9 * i)) for i in range(count)]
    data = io.BytesIO()
    more = {"save_all": True, "append_images": frames[1:], "duration": 50} if count > 1 else {}
    frames[0].save(data, kind, **more, **options)
    return data.getvalue()


def array(values: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, values)
    return data.getvalue()


ONE = [Part(np.zeros((16, 24, 3), np.uint8))]
HEIF = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic")
VIDEOS = {
    "a.gif": image("GIF", 3),
    "b.webp": image("WEBP", 3),
    "c.png": apng(ONE * 2),
    "d.apng": apng(ONE * 2),
    "e.avif": image("AVIF", 2),
    "f.avifs": image("AVIF", 2),
    "g.heics": HEIF.replace(b"mif1", b"msf1"),
    "h.npy": array(np.zeros((2, 4, 5, 3), np.uint8)),
    "i.npy": array(np.zeros((2, 3, 4, 5), np.uint8)),
    "j.ts": b"G" + bytes(187),
    "k.mod": b"\0\0\1\xba",
    "l.MTS": b"",  # empty: an error when it is read
    "m.gif": b"GIF89a, and nothing that makes sense",  # another error
}
NOT_VIDEOS = {
    "a.gif": (image("GIF", 1), "a still picture"),
    "b.webp": (image("WEBP", 1), "a still picture"),
    "c.png": (image("PNG", 1), "a still picture"),
    "d.apng": (apng(ONE), "a still picture"),
    "e.avif": (image("AVIF", 1), "a still picture"),
    "f.jpg": (image("JPEG", 1), "a still picture"),
    "g.heic": (HEIF, "a still picture"),
    "h.npy": (array(np.zeros((2, 4, 5, 3), np.float32)), "an array, but not of frames"),
    "i.npy": (array(np.zeros((4, 5, 3), np.uint8)), "an array, but not of frames"),
    "j.npy": (array(np.zeros((0, 4, 5, 3), np.uint8)), "an array, but not of frames"),
    "k.npy": (b"no array at all", "an array, but not of frames"),
    "l.ts": (b"export const answer: number = 42;\n", "text"),
    "m.mod": ("module example.com/größe\n".encode(), "text"),
    "n.txt": (b"notes", "not a video by its name"),
    "o.mp4.part": (b"\0\0", "not a video by its name"),
    "p": (b"\0\0", "not a video by its name"),
}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_suffixes_of_all_formats_are_known() -> None:
    assert DEMUXERS_USED.split(",") == list(DEMUXERS)
    for name, suffixes in DEMUXERS.items():
        if suffixes and name != "amv":  # FFmpeg reads AMV with its AVI demuxer
            assert {f".{suffix}" for suffix in suffixes.split()} <= VIDEO_SUFFIXES
            of_ffmpeg = av.format.ContainerFormat(name, "r").extensions - OTHERS
            assert {f".{suffix}" for suffix in of_ffmpeg} <= VIDEO_SUFFIXES | MAY_BE_ANIMATED
    Image.init()
    of_pillow = {suffix for suffix, kind in Image.registered_extensions().items() if kind in pillow_formats()}
    assert of_pillow <= IMAGE_SUFFIXES | MAY_BE_ANIMATED
    named = ".h264 .264 .hevc .265 .h265 .m2t .3gpp .mk3d .mod .tod .insv .lrv .gxf .amv .swf .apng .avifs .heics"
    assert set(named.split()) <= VIDEO_SUFFIXES


@pytest.mark.parametrize("name", VIDEOS)
def test_videos_by_their_first_bytes(name: str, tmp_path: Path) -> None:
    put(tmp_path, {name: VIDEOS[name]})
    assert find_videos([tmp_path]) == [tmp_path / name]


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_files_that_are_no_videos(name: str, tmp_path: Path) -> None:
    data, reason = NOT_VIDEOS[name]
    put(tmp_path, {name: data, "x.mp4": b""})
    left_out: list[LeftOut] = []
    assert find_videos([tmp_path], on_left_out=left_out.append) == [tmp_path / "x.mp4"]
    assert left_out == [(tmp_path / name, reason)]
    assert find_videos([tmp_path / name]) == [tmp_path / name]  # naming a file takes it


def test_a_folder_of_stills_is_one_video_whatever_their_format(tmp_path: Path) -> None:
    """Stills in formats that may be animated are frames too, not videos of one frame."""
    for kind in ("gif", "webp", "png", "avif"):
        folder = put(tmp_path / kind, {f"{i}.{kind}": image(kind.upper(), 1) for i in range(3)} | {"notes.txt": b""})
        left_out: list[LeftOut] = []
        assert find_videos([folder], on_left_out=left_out.append) == [folder]
        assert left_out == [(folder / "notes.txt", "not a video by its name")]  # the frames aren't left out
        with VideoReader(folder) as reader:
            assert reader.num_frames == 3


def test_hidden_files_and_folders(tmp_path: Path) -> None:
    names = ["a.mp4", "._a.mp4", ".Trash-1000/b.mp4", "@eaDir/c.mp4", "__MACOSX/d.mp4", "more/.ipynb_checkpoints/e.mp4"]
    put(tmp_path, dict.fromkeys([*names, ".DS_Store", "lost+found/f.mp4", "#recycle/g.mp4"], b""))
    left_out: list[LeftOut] = []
    assert find_videos([tmp_path], on_left_out=left_out.append) == [tmp_path / "a.mp4"]
    hidden = "._a.mp4 .Trash-1000 @eaDir __MACOSX more/.ipynb_checkpoints lost+found #recycle".split()  # noqa: SIM905
    assert {(item.path, item.reason) for item in left_out} == {(tmp_path / name, "hidden") for name in hidden}
    assert len(find_videos([tmp_path], hidden=True)) == 8
    assert find_videos([tmp_path / ".Trash-1000"]) == [tmp_path / ".Trash-1000/b.mp4"]  # named
    assert find_videos([tmp_path / "._a.mp4"]) == [tmp_path / "._a.mp4"]


def test_hidden_files_of_a_glob(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["a.mp4", "._a.mp4", ".x/b.mp4", "@eaDir/c.mp4", "more/d.mp4"], b""))
    every = f"{tmp_path}/**/*.mp4"
    left_out: list[LeftOut] = []
    assert find_videos([every], on_left_out=left_out.append) == [tmp_path / "a.mp4", tmp_path / "more/d.mp4"]
    assert left_out == [(tmp_path / "@eaDir/c.mp4", "hidden")]
    assert find_videos([f"{tmp_path}/@eaDir/*.mp4"]) == [tmp_path / "@eaDir/c.mp4"]
    assert find_videos([f"{tmp_path}/.*/*.mp4"]) == [tmp_path / ".x/b.mp4"]


@pytest.mark.skipif("sys.version_info < (3, 11)", reason="glob can't include hidden files before")
def test_hidden_option_with_a_glob(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["a.mp4", "._a.mp4", ".x/b.mp4", "@eaDir/c.mp4"], b""))
    assert len(find_videos([f"{tmp_path}/**/*.mp4"], hidden=True)) == 4


def test_datasets_take_the_same_files(tmp_path: Path) -> None:
    for label in ("run", "walk"):
        put(tmp_path / label, VIDEOS | {f"other-{name}": data for name, (data, _) in NOT_VIDEOS.items()})
        put(tmp_path / label, {".x/a.mp4": b"x", "@eaDir/a.mp4": b"x", "._a.mp4": b"x"})
    dataset = open_dataset(tmp_path)
    full = {name for name, data in VIDEOS.items() if data}  # the empty file is among the problems
    assert {Path(sample.source).name for sample in dataset.samples} == full
    assert any(
        problem.startswith(f"left out {2 * len(NOT_VIDEOS)} files that are not videos: ")
        for problem in dataset.problems
    )


def test_an_unreadable_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"a.png": b"", "b.npy": b"", "c.ts": b"x"})

    def refusing(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refusing)
    assert [why_not_a_video(tmp_path / name) for name in ("a.png", "b.npy", "c.ts")] == [None] * 3
