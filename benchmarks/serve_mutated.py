"""Send broken videos to `openxclip serve`, and print how it answers and what memory it uses.

`python benchmarks/serve_mutated.py --videos 500` starts a server with mini and sends mutations of the samples in eight
containers to /v1/classify and /v1/timeline, six at a time: flipped, cut, spliced and repeated bytes. Every answer must
have status 200, or 422 with a reason; otherwise the exit status is 1. Memory is the proportional set size (PSS) of the
server and all its processes, after each tenth of the videos. `tests/client/test_mutated_videos.py` does the same with
fewer videos, and makes them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "client"))

from mutating import mutated_videos
from serving import SAMPLES, running
from test_mutated_videos import ask_all


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other mutations")
    arguments = parser.parse_args()
    videos = list(mutated_videos(sorted(SAMPLES.glob("*.mp4")), arguments.videos, arguments.seed))
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), "--root", SAMPLES) as server:
        answers, memory = asyncio.run(ask_all(server, videos))
    codes = Counter(
        "200" if answer.status_code == 200 else f"{answer.status_code} {answer.json()['error']['code']}"
        for answer in answers
    )
    for code, count in codes.most_common():
        print(f"{count:6} {code}")
    print("memory in MB:", ", ".join(f"{size / 1e6:.0f}" for size in memory[:: max(1, len(memory) // 10)]))
    if any(answer.status_code not in (200, 422) for answer in answers):
        sys.exit("some answers have another status than 200 and 422.")


if __name__ == "__main__":
    main()
