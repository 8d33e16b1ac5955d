"""`check` finds cuts in all containers that state their length or how their last part must end."""

from __future__ import annotations

from pathlib import Path

import pytest
from intact_oddities import ODDITIES
from intact_videos import combination, several
from made_videos import encode

from openxclip.video import inspect

# containers that state a length, have an index, or packets with lengths; each with a codec
STATED = """
libx264.mp4 mpeg4.mov libx264.matroska libvpx.webm libx264.avi mjpeg.avi wmv2.asf libx264.flv mpeg2video.mxf
mpeg2video.mxf_opatom rv10.rm flv.swf mpeg4.nut libvpx.ogg libvpx-vp9.ivf dvvideo.gxf mpeg4.wtv h263.3gp libx264.f4v
libx264.ismv cinepak.film_cpk mjpeg.smjpeg wrapped_avframe.yuv4mpegpipe dvvideo.dv libsvtav1.avif libwebp_anim.webp
"""
# containers without a length, in which the last packet is incomplete
MUXED = """
muxed_fragmented.mp4 muxed_partly_fragmented.mp4 muxed_fragment_each.mp4 muxed_dash.mp4 muxed_faststart.mp4
muxed_live.mkv muxed_live.webm muxed_no_size.flv muxed_no_metadata.flv muxed_m2ts.ts late_picture.avi late_picture.asf
timecode.mxf
"""
SHARES = (0.35, 0.6, 0.8, 0.92, 0.98)
BYTES = (1, 40)


def intact(name: str, folder: Path) -> bytes:
    path = folder / name
    if name in ODDITIES:
        ODDITIES[name](path)
    else:
        combination(name, path)
    return path.read_bytes()


@pytest.mark.parametrize("name", [*STATED.split(), *MUXED.split()])
def test_a_cut_is_found_anywhere(name: str, tmp_path: Path) -> None:
    data = intact(name, tmp_path)
    cuts = [int(len(data) * share) for share in SHARES] + [len(data) - missing for missing in BYTES]
    for cut in cuts:
        # not between two packets of a stream without a length, nor between two fragments: nothing seems to be missing
        cut -= cut % 188 == 0 or cut % 192 == 0 or cut % 2048 == 0 or data[cut + 4 : cut + 8] in (b"moof", b"mfra")
        report = inspect(data[:cut], full=True)
        assert not report.is_fine, cut
        message = "; ".join(report.problems) if report.error is None else report.error.reason
        assert "Error" not in message


@pytest.mark.parametrize("name", ["mpeg2video.mpeg", "libx264.mpegts", "mjpeg.mjpeg"])
def test_a_cut_within_the_last_packet_is_found(name: str, tmp_path: Path) -> None:
    """These formats state no length: a cut between two packets can't be noticed."""
    data = intact(name, tmp_path)
    for cut in (len(data) // 3 // 188 * 188 // 2048 * 2048 + 300, len(data) - 800):
        assert not inspect(data[:cut], full=True).is_fine, cut


def test_the_message_tells_how_much_is_missing(tmp_path: Path) -> None:
    data = intact("mpeg4.avi", tmp_path)
    assert inspect(data[:-40], full=True).problems == ("it is cut off: the last 40 bytes are missing",)
    assert inspect(data[:-40]).is_fine  # all frames are there: only `check` reads on
    fragments = intact("muxed_fragmented.mp4", tmp_path)
    assert inspect(fragments[:-7], full=True).problems == ("it is cut off: the last 7 bytes are missing",)
    nut = intact("mpeg4.nut", tmp_path)
    assert inspect(nut[:-1], full=True).problems == ("it may be cut off: it has no index at its end",)


def test_a_cut_in_the_second_part_of_a_long_avi(tmp_path: Path) -> None:
    """An AVI above a gigabyte has several RIFF lists, and the last may be cut."""
    first = encode(tmp_path / "first.avi", "mjpeg", pix_fmt="yuvj420p", count=20).read_bytes()
    at = first.index(b"00dc", first.index(b"movi"))
    chunk = first[at : at + 8 + int.from_bytes(first[at + 4 : at + 8], "little")]
    frames = (chunk + b"\0" * (len(chunk) & 1)) * 10
    movi = b"LIST" + (4 + len(frames)).to_bytes(4, "little") + b"movi" + frames
    both = first + b"RIFF" + (4 + len(movi)).to_bytes(4, "little") + b"AVIX" + movi
    report = inspect(both[:-100])
    assert report.error is not None
    assert report.error.reason.startswith("it is cut off: the last 100 bytes are missing")


def test_a_cut_in_the_audio_only(tmp_path: Path) -> None:
    sound = {"codec": "aac", "seconds": 6.0}
    data = several(tmp_path / "a.mp4", {"codec": "mpeg4"}, sound, muxer={"movflags": "faststart"}).read_bytes()
    assert inspect(data[:-3000], full=True).problems == ("it is cut off: the last 3000 bytes are missing",)


def test_a_cut_within_or_after_the_header_of_a_fragment(tmp_path: Path) -> None:
    data = intact("muxed_fragment_each.mp4", tmp_path)
    moof = data.rindex(b"moof") - 4
    mdat = data.rindex(b"mdat") - 4
    end = mdat + int.from_bytes(data[mdat : mdat + 4], "big")
    for cut, missing in ((moof + 1, 7), (moof + 7, 1), (mdat, end - mdat), (mdat + 3, end - mdat - 3)):
        assert inspect(data[:cut], full=True).problems == (f"it is cut off: the last {missing} bytes are missing",), cut
    # a live recording may end after any fragment: only the order of the frames tells that some are missing
    assert not any("cut off" in problem for problem in inspect(data[:moof], full=True).problems)


def test_a_cut_within_the_header_of_the_last_ivf_frame(tmp_path: Path) -> None:
    data = intact("libvpx-vp9.ivf", tmp_path)
    at = last = 32
    while at < len(data):
        last, at = at, at + 12 + int.from_bytes(data[at : at + 4], "little")
    for cut in range(last + 1, last + 13):
        assert not inspect(data[:cut], full=True).is_fine, cut


@pytest.mark.parametrize("name", ["mpeg2video.mxf", "mpeg2video.mxf_opatom", "timecode.mxf"])
def test_a_cut_within_the_keys_at_the_end_of_an_mxf(name: str, tmp_path: Path) -> None:
    data = intact(name, tmp_path)
    footer = int.from_bytes(data[44:52], "big")
    index = int.from_bytes(data[-4:], "big")  # the length of the random index pack
    for begin in (footer, len(data) - index):
        for cut in range(begin + 1, begin + 18):
            assert not inspect(data[:cut], full=True).is_fine, cut


def test_a_cut_between_two_samples_of_a_sega_film(tmp_path: Path) -> None:
    data = intact("cinepak.film_cpk", tmp_path)
    sample_20 = int.from_bytes(data[4:8], "big") + int.from_bytes(data[64 + 20 * 16 : 68 + 20 * 16], "big")
    report = inspect(data[:sample_20])
    assert report.error is not None
    missing = len(data) - sample_20
    assert report.error.reason.startswith(f"it is cut off: the last {missing} bytes are missing")
