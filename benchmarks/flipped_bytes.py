"""Measure how often `openxclip check` finds a single changed byte, by codec and container.

`python benchmarks/flipped_bytes.py` takes two minutes on one core, prints a table and writes
benchmarks/flipped_bytes.json, which a test compares its results with. It changes one random byte of each intact video
of `tests/video/intact_videos.py` to another value, and checks the video; 20 times, with the same bytes in each run.

Without checksums, a changed byte often gives another valid picture, and such a change can't be detected. Formats with
checksums (Ogg, Matroska, FFV1, PNG) show what is possible.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import av

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "video"))

from intact_videos import COMBINATIONS, combination  # noqa: E402

from openxclip.benchmarking.measuring import cpu_name  # noqa: E402
from openxclip.video import inspect  # noqa: E402

FLIPS = 20


def flipped(data: bytes, seed: str, number: int) -> bytes:
    """Return the file with one byte changed; seed and number determine the byte and its new value."""
    draw = random.Random(zlib.crc32(f"{seed} {number}".encode()))
    at, other = draw.randrange(len(data)), draw.randrange(1, 256)
    return data[:at] + bytes((data[at] ^ other,)) + data[at + 1 :]


def found_of(name: str, flips: int) -> int:
    """Return how many of `flips` changed bytes are found in a video of `COMBINATIONS`."""
    with tempfile.TemporaryDirectory() as folder:
        data = combination(name, Path(folder, name)).read_bytes()
    return sum(not inspect(flipped(data, name, i), full=True).is_fine for i in range(flips))


def table(found: dict[str, int], flips: int) -> str:
    """Return a table with a row for each codec: shares in percent by container."""
    rows: dict[str, list[str]] = {}
    for name, count in found.items():
        codec, _, container = name.partition(".")
        rows.setdefault(codec, []).append(f"{container} {round(100 * count / flips)}")
    lines = []
    for codec, cells in rows.items():
        line = f"{codec:16}"
        for cell in cells:
            if len(line) + len(cell) > 116:
                lines.append(line.rstrip(" ·"))
                line = " " * 16
            line += f"{cell} · "
        lines.append(line.rstrip(" ·"))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=FLIPS, help="changed bytes per video")
    parser.add_argument("--only", default="", help="measure only videos whose names contain this")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    found = {}
    for name in COMBINATIONS:
        if arguments.only in name:
            found[name] = found_of(name, arguments.flips)
            print(f"{name:28} {found[name]:3} of {arguments.flips}", file=sys.stderr, flush=True)
    print(table(found, arguments.flips))
    total = sum(found.values()) / max(1, len(found) * arguments.flips)
    print(f"\n{len(found)} kinds of file, {arguments.flips} changed bytes in each: {total:.0%} found")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    facts = {
        "commit": commit.stdout.strip(),
        "cpu": cpu_name(),
        "pyav": av.__version__,
        "python": platform.python_version(),
        "flips": arguments.flips,
        "found": found,
    }
    arguments.output.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
