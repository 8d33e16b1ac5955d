"""`check` finds no fewer changed bytes than the committed table of `benchmarks/flipped_bytes.json` says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from flipped_bytes import found_of  # noqa: E402
from whole_videos import COMBINATIONS  # noqa: E402

COMMITTED = json.loads((BENCHMARKS / "flipped_bytes.json").read_text())
SOME = """
libx264.mp4 libx264.mpegts libx265.matroska libvpx.webm libvpx.ogg mpeg4.avi mpeg2video.mpeg ffv1.nut png.mov mjpeg.swf
flv.flv rv20.rm
""".split()  # noqa: SIM905


def fallen(names: list[str]) -> dict[str, str]:
    """Where fewer are found than were; one less may be another build of an encoder."""
    flips = COMMITTED["flips"]
    now = {name: found_of(name, flips) for name in names}
    return {
        name: f"{now[name]} of {flips}, and it was {COMMITTED['found'][name]}"
        for name in names
        if now[name] < COMMITTED["found"][name] - 1
    }


def test_the_table_has_every_kind_of_file() -> None:
    assert set(COMMITTED["found"]) == set(COMBINATIONS)


@pytest.mark.parametrize("name", SOME)
def test_no_cell_falls(name: str) -> None:
    assert fallen([name]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("container", sorted({name.partition(".")[2] for name in COMBINATIONS}))
def test_no_cell_of_any_container_falls(container: str) -> None:
    assert fallen([name for name in COMBINATIONS if name.endswith(f".{container}")]) == {}
