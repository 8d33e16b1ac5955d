"""`check` finds no fewer changed bytes than in the committed table, `benchmarks/flipped_bytes.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from flipped_bytes import found_of  # noqa: E402
from intact_videos import COMBINATIONS  # noqa: E402

COMMITTED = json.loads((BENCHMARKS / "flipped_bytes.json").read_text())
SOME = """
libx264.mp4 libx264.mpegts libx265.matroska libvpx.webm libvpx.ogg mpeg4.avi mpeg2video.mpeg ffv1.nut png.mov mjpeg.swf
flv.flv rv20.rm
""".split()  # noqa: SIM905


def regressions(names: list[str]) -> dict[str, str]:
    """Return where fewer are found than before; one less may come from another build of an encoder."""
    flips = COMMITTED["flips"]
    now = {name: found_of(name, flips) for name in names}
    return {
        name: f"{now[name]} of {flips}, before {COMMITTED['found'][name]}"
        for name in names
        if now[name] < COMMITTED["found"][name] - 1
    }


def test_the_table_covers_every_kind_of_file() -> None:
    assert set(COMMITTED["found"]) == set(COMBINATIONS)


@pytest.mark.parametrize("name", SOME)
def test_flipped_bytes_are_found_as_often_as_before(name: str) -> None:
    assert regressions([name]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("container", sorted({name.partition(".")[2] for name in COMBINATIONS}))
def test_flipped_bytes_are_found_as_often_as_before_in_any_container(container: str) -> None:
    assert regressions([name for name in COMBINATIONS if name.endswith(f".{container}")]) == {}
