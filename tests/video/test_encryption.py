"""Encrypted videos are refused in every container; other encrypted tracks in the file don't matter."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from made_videos import encode, picture

from openxclip.errors import VideoError
from openxclip.video import VideoReader, inspect
from openxclip.video.encryption import find_encryption

CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


def common(path: Path, codec: str = "libx264", **muxer: str) -> bytes:
    options = {"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {}
    encode(path, codec, count=12, gop=6, options=options, muxer=CENC | muxer)
    return path.read_bytes()


def plain(path: Path, codec: str = "libx264") -> bytearray:
    return bytearray(encode(path, codec, count=12, gop=6).read_bytes())


def with_scheme(data: bytes, scheme: bytes) -> bytes:
    """Write another scheme into the box `schm`."""
    at = data.index(b"schm") + 8
    return data[:at] + scheme + data[at + 4 :]


def with_clear_entry(path: Path) -> bytes:
    """Add a second, unprotected sample entry, as in films with a clear beginning."""
    data = bytearray(common(path))
    at = data.index(b"stsd") + 12
    length = int.from_bytes(data[at : at + 4], "big")
    clear = bytes(data[at : at + length]).replace(b"encv", b"avc1").replace(b"sinf", b"free")
    data[at - 4 : at] = (2).to_bytes(4, "big")
    data[at:at] = clear
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        box = data.index(name) - 4
        data[box : box + 4] = (int.from_bytes(data[box : box + 4], "big") + length).to_bytes(4, "big")
    return bytes(data)


def matroska(path: Path) -> bytes:
    """A Matroska file with an element ContentEncodings in place of the track's name."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.metadata["title"] = "x" * 40
        for i in range(12):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        out.mux(stream.encode(None))
    key = b"\x47\xe1\x81\x05" + b"\x47\xe2\x84" + b"key1"
    encoding = b"\x50\x33\x81\x01" + b"\x50\x35" + bytes([0x80 + len(key)]) + key
    encoding = b"\x62\x40" + bytes([0x80 + len(encoding)]) + encoding
    element = b"\x6d\x80" + bytes([0x80 + len(encoding)]) + encoding
    name = b"\x53\x6e" + bytes([0x80 + 40]) + b"x" * 40
    void = b"\xec" + bytes([0x80 + len(name) - len(element) - 2]) + bytes(len(name) - len(element) - 2)
    return path.read_bytes().replace(name, element + void)


def checksum(section: bytes) -> bytes:
    """Return the CRC-32 of a transport stream's table, ISO/IEC 13818-1 annex A."""
    crc = 0xFFFFFFFF
    for byte in section:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc.to_bytes(4, "big")


def sample_aes(path: Path) -> bytes:
    """A transport stream whose program table marks the H.264 as encrypted."""
    data = plain(path)
    for at in range(0, len(data), 188):
        if data[at + 1] & 31 == 0x10 and data[at + 2] == 0:  # the table's packets
            table = at + 5
            end = table + 3 + (int.from_bytes(data[table + 1 : table + 3], "big") & 0xFFF)
            entry = table + 12 + (int.from_bytes(data[table + 10 : table + 12], "big") & 0xFFF)
            assert data[entry] == 0x1B
            data[entry] = 0xDB
            data[end - 4 : end] = checksum(data[table : end - 4])
    return bytes(data)


def scrambled(path: Path, first: int = 0) -> bytes:
    """A transport stream whose video packets from `first` on are marked as scrambled."""
    data = plain(path)
    ours = [at for at in range(0, len(data), 188) if data[at + 1] & 31 == 1 and data[at + 2] == 0]
    for at in ours[first:]:
        data[at + 3] |= 0x80
    return bytes(data)


def dvd(path: Path) -> bytes:
    data = bytearray(encode(path, "mpeg2video", count=12, gop=6, container="dvd").read_bytes())
    at = data.find(b"\0\0\1\xe0")
    while at >= 0:
        data[at + 6] |= 0x10
        at = data.find(b"\0\0\1\xe0", at + 4)
    return bytes(data)


def filtered(path: Path) -> bytes:
    data = plain(path, "flv")
    at = 9 + 4
    while at < len(data):
        data[at] |= 0x20 if data[at] == 9 else 0
        at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
    return bytes(data)


def windows_media(path: Path) -> bytes:
    """Turn an unneeded object of the header into an encryption object."""
    codecs = bytes.fromhex("4052d1861d31d011a3a400a0c90348f6")
    data = plain(path, "wmv2")
    at = data.index(codecs)
    length = int.from_bytes(data[at + 16 : at + 24], "little")
    data[at : at + 16] = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e")
    data[at + 24 : at + length] = bytes(length - 24)
    return bytes(data)


def cinema(path: Path) -> bytes:
    data = bytes(plain(path, "mpeg2video"))
    essence = bytes.fromhex("060e2b34010201010d01030115010500")
    assert essence in data
    return data.replace(essence, bytes.fromhex("060e2b34020401070d010301027e0100"))


ENCRYPTED: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "cenc": ("mp4", common, "it is encrypted (Common Encryption, cenc): decrypt it first"),
    "cenc, MOV": ("mov", common, "(Common Encryption, cenc)"),
    "cenc, MPEG-4": ("mp4", lambda p: common(p, "mpeg4"), "(Common Encryption, cenc)"),
    "cenc, HEVC": ("mp4", lambda p: common(p, "libx265"), "(Common Encryption, cenc)"),
    "cenc, AV1": ("mp4", lambda p: common(p, "libsvtav1"), "(Common Encryption, cenc)"),
    "cenc, fragments": ("mp4", lambda p: common(p, movflags="frag_keyframe+empty_moov"), "(Common Encryption, cenc)"),
    "cenc, index first": ("mp4", lambda p: common(p, movflags="faststart"), "(Common Encryption, cenc)"),
    "cbcs": ("mp4", lambda p: with_scheme(common(p), b"cbcs"), "(Common Encryption, cbcs)"),
    "PlayReady": ("mp4", lambda p: with_scheme(common(p), b"piff"), "(PlayReady)"),
    "FairPlay": ("mp4", lambda p: with_scheme(common(p), b"itun").replace(b"encv", b"drmi"), "(FairPlay)"),
    "some scheme": ("mp4", lambda p: with_scheme(common(p), b"abcd"), "(by an unknown scheme)"),
    "clear start": ("mp4", with_clear_entry, "parts of it are encrypted (Common Encryption, cenc): decrypt it first"),
    "Matroska": ("mkv", matroska, "(Matroska's or WebM's own encryption)"),
    "Sample-AES": ("ts", sample_aes, "(HLS Sample-AES)"),
    "scrambled": ("ts", scrambled, "it is encrypted (scrambled for broadcasting)"),
    "scrambled later": ("ts", lambda p: scrambled(p, 10), "parts of it are encrypted (scrambled for broadcasting)"),
    "DVD": ("vob", dvd, "(scrambled, as on DVDs)"),
    "Flash": ("flv", filtered, "(Adobe Access)"),
    "Windows Media": ("asf", windows_media, "(Windows Media DRM)"),
    "cinema": ("mxf", cinema, "(as digital cinema does, SMPTE ST 429-6)"),
}


@pytest.mark.parametrize("name", ENCRYPTED)
def test_encrypted_videos_are_refused(name: str, tmp_path: Path) -> None:
    suffix, make, words = ENCRYPTED[name]
    path = tmp_path / f"film.{suffix}"
    data = make(path)
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(VideoError) as caught:
            VideoReader(source)
        assert words in caught.value.reason
        assert caught.value.reason.endswith(": decrypt it first")
    assert str(inspect(path, full=True).error).endswith(": decrypt it first")


def test_long_recordings_are_checked_in_places(tmp_path: Path) -> None:
    """The recording is scrambled only in its last quarter, and too long to be read completely for the check."""
    clear = bytes(plain(tmp_path / "clear.ts"))
    times = 20 * (1 << 20) // len(clear)
    (tmp_path / "long.ts").write_bytes(clear * times + scrambled(tmp_path / "scrambled.ts") * (times // 3))
    with pytest.raises(VideoError, match="parts of it are encrypted"):
        VideoReader(tmp_path / "long.ts")


@pytest.mark.parametrize("suffix", ["ts", "flv"])
def test_a_flipped_bit_is_not_taken_for_encryption(suffix: str, tmp_path: Path) -> None:
    data = plain(tmp_path / f"film.{suffix}", "libx264" if suffix == "ts" else "flv")
    if suffix == "ts":
        ours = [at for at in range(0, len(data), 188) if data[at + 1] & 31 == 1 and data[at + 2] == 0]
        data[ours[len(ours) // 2] + 3] |= 0x80
    else:
        at = 13
        while data[at] != 9:
            at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
        data[at] |= 0x20
    with VideoReader(bytes(data)) as reader:
        assert reader.num_frames >= 11


def test_an_encryption_box_without_encryption_is_ignored(tmp_path: Path) -> None:
    data = common(tmp_path / "film.mp4")
    clear = bytes(plain(tmp_path / "clear.mp4"))
    with VideoReader(clear) as reader:
        assert reader.num_frames == 12
    at = data.index(b"sinf") - 4
    box = data[at : at + int.from_bytes(data[at : at + 4], "big")]
    with VideoReader(clear + len(box + b"free" * 2).to_bytes(4, "big") + b"free" + box) as reader:
        assert reader.num_frames == 12


def test_an_encrypted_track_that_is_not_read_does_not_matter(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "both.mp4"), "w", options=CENC) as out:
        streams = [out.add_stream("libx264", rate=25), out.add_stream("libx264", rate=25)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(12):
            for stream in streams:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        for stream in streams:
            out.mux(stream.encode(None))
    data = (tmp_path / "both.mp4").read_bytes()
    second = data.index(b"encv", data.index(b"encv") + 1)
    clear = data[:second] + b"avc1" + data[second + 4 :].replace(b"sinf", b"free", 1)
    assert [is_encrypted(clear, i) for i in range(2)] == [True, False]


def is_encrypted(data: bytes, number: int) -> bool:
    with av.open(io.BytesIO(data)) as container:
        return find_encryption(io.BytesIO(data), container, container.streams.video[number]) is not None
