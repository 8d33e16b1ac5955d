"""Measure how the cost of each verb grows with the number of files, labels or windows, or with a video's length.

`python benchmarks/costs.py` prints a table and writes benchmarks/costs.json. Each verb runs in its own process, at
three sizes that double. The exponent is the slope of log(seconds) over log(size): 0 is constant, 1 linear, 2 quadratic.
Large indexes have random windows; the model mini encodes everything else, from generated clips.

The last rows compare the sizes of two indexes of 1,000 clips, which were added one by one and all at once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

WIDTH = 512
PATCHES = 2000  # bytes for each window; B/32's are 50,000


class Case(NamedTuple):
    """A verb to measure at several sizes.

    Attributes:
        verb: name of the verb.
        of: what the sizes count.
        sizes: sizes to measure.
        prepare: takes a folder and a size, and returns the function to time.
    """

    verb: str
    of: str
    sizes: tuple[int, ...]
    prepare: Callable[[Path, int], Callable[[], object]]


def clips(folder: Path, count: int) -> list[str]:
    """Write small clips with different bytes, so that none is skipped as a copy, and return their paths."""
    source = min(Path("samples").glob("*.mp4")).read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        path = folder / f"{i}.mp4"
        path.write_bytes(source + i.to_bytes(4, "big"))
        paths.append(str(path))
    return paths


def film(path: Path, seconds: int) -> str:
    """Write a video of 96 x 96 pixels with 10 frames a second, and return its path."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width = stream.height = 96
        stream.pix_fmt = "yuv420p"
        picture = np.zeros((96, 96, 3), dtype=np.uint8)
        for i in range(10 * seconds):
            picture[:, i % 96] = (i * 7) % 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


def mini() -> Any:
    from openxclip import VideoPipeline

    return VideoPipeline.from_pretrained("mini", device="cpu")


def filled(folder: Path, windows: int) -> Any:
    """Make an index of one real file, and of videos that don't exist with ten random windows each."""
    import numpy as np
    import pyarrow as pa

    from openxclip import VideoIndex
    from openxclip.search.schema import VideoRow
    from openxclip.search.store import Store

    pipeline = mini()
    VideoIndex.open(folder / "index", model=pipeline, window=1.0).add(clips(folder / "real", 1))
    store = Store(str(folder / "index"))
    store.open()
    random = np.random.default_rng(0)
    videos = [
        VideoRow(id=i + 1, path=f"/none/{i}.mp4", state="complete", windows=10, size=i, duration=10.0)
        for i in range(windows // 10)
    ]
    store.put_videos(videos, new=True)

    def tables() -> Iterator[Any]:
        for first in range(0, len(videos), 500):
            part = [(video, number) for video in videos[first : first + 500] for number in range(10)]
            embeddings = random.normal(size=(len(part), store.width)).astype(np.float32)
            embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
            yield pa.table(
                {
                    "video": [video.id for video, _ in part],
                    "path": [video.path for video, _ in part],
                    "number": pa.array([number for _, number in part], pa.int32()),
                    "start": [float(number) for _, number in part],
                    "end": [number + 1.0 for _, number in part],
                    "duration": [10.0] * len(part),
                    "size": [video.size for video, _ in part],
                    "featureless": [False] * len(part),
                    "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), store.width),
                    "patches": [random.bytes(PATCHES) for _ in part],
                }
            )

    store.add_window_tables(tables())
    store.tidy()
    return VideoIndex.open(folder / "index", model=pipeline)


# -- the cases ---------------------------------------------------------------------------------------------------------


def check_files(folder: Path, count: int) -> Callable[[], object]:
    from openxclip.video import check_videos

    paths = clips(folder, count)
    return lambda: list(check_videos(paths))


def classify_files(folder: Path, count: int) -> Callable[[], object]:
    import openxclip

    paths, pipeline = clips(folder, count), mini()
    return lambda: openxclip.classify(paths, ["a cat moves left", "a dog bounces"], model=pipeline)


def classify_labels(folder: Path, count: int) -> Callable[[], object]:
    import openxclip

    paths, pipeline = clips(folder, 1), mini()
    return lambda: openxclip.classify(paths, [f"a cat moves {i}" for i in range(count)], model=pipeline)


def embed_files(folder: Path, count: int) -> Callable[[], object]:
    import openxclip

    paths, pipeline = clips(folder, count), mini()
    return lambda: openxclip.embed(paths, folder / "out.npz", model=pipeline)


def embed_length(folder: Path, seconds: int) -> Callable[[], object]:
    import openxclip

    path, pipeline = film(folder / "film.mp4", seconds), mini()
    return lambda: openxclip.embed(path, folder / "out.npz", model=pipeline, window=2.0)


def index_files(folder: Path, count: int) -> Callable[[], object]:
    from openxclip import VideoIndex

    paths, pipeline = clips(folder, count), mini()
    return lambda: VideoIndex.open(folder / "index", model=pipeline, window=10.0).add(paths)


def index_length(folder: Path, seconds: int) -> Callable[[], object]:
    from openxclip import VideoIndex

    path, pipeline = film(folder / "film.mp4", seconds), mini()
    return lambda: VideoIndex.open(folder / "index", model=pipeline, window=2.0).add(path)


def index_unchanged(folder: Path, count: int) -> Callable[[], object]:
    from openxclip import VideoIndex

    paths = clips(folder, count)
    index = VideoIndex.open(folder / "index", model=mini(), window=10.0)
    index.add(paths)
    return index.update


def index_touched(folder: Path, windows: int) -> Callable[[], object]:
    index = filled(folder, windows)
    path = folder / "real" / "0.mp4"
    os.utime(path, ns=(1, 1))
    return lambda: index.add(path)


def index_one_more(folder: Path, windows: int) -> Callable[[], object]:
    index = filled(folder, windows)
    paths = clips(folder / "real", 2)
    return lambda: index.add(paths)


def index_remove_half(folder: Path, windows: int) -> Callable[[], object]:
    index = filled(folder, windows)
    paths = [f"/none/{i}.mp4" for i in range(0, windows // 10, 2)]
    return lambda: index.remove(paths)


def index_export(folder: Path, windows: int) -> Callable[[], object]:
    index = filled(folder, windows)
    return lambda: index.export(folder / "out.parquet")


def index_import(folder: Path, windows: int) -> Callable[[], object]:
    from openxclip import VideoIndex

    filled(folder, windows).export(folder / "out.parquet")
    return lambda: VideoIndex.open(folder / "other", model=mini()).add(folder / "out.parquet")


def search_windows(folder: Path, windows: int) -> Callable[[], object]:
    index = filled(folder, windows)
    index.search("a cat moves left", rerank=0)  # the patches of these windows are random bytes
    return lambda: [index.search(text, rerank=0) for text in ("a cat", "a dog bounces", "a ball moves up", "nothing")]


def dedup_windows(folder: Path, windows: int) -> Callable[[], object]:
    index = filled(folder, windows)
    index.remove(index.files()[-1])  # the real file: if no file exists, none counts as deleted
    return index.duplicates


def classify_length(folder: Path, seconds: int) -> Callable[[], object]:
    import openxclip

    path, pipeline = film(folder / "film.mp4", seconds), mini()
    return lambda: openxclip.classify(path, ["a cat moves left", "a dog bounces"], model=pipeline)


def sheet_rows(folder: Path, count: int) -> Callable[[], object]:
    from openxclip import VideoIndex
    from openxclip.search import write_contact_sheet

    index = VideoIndex.open(folder / "index", model=mini(), window=10.0)
    index.add(clips(folder / "clips", count))
    hits = index.search("a cat moves left", k=count)
    return lambda: write_contact_sheet(hits, folder / "found.html", title="a cat moves left")


def train_listing(folder: Path, count: int) -> Callable[[], object]:
    from openxclip.datasets import open_dataset

    clips(folder / "clips" / "one", count)
    clips(folder / "clips" / "two", count)
    return lambda: open_dataset(folder / "clips")


CASES = (
    Case("check", "files", (20, 40, 80), check_files),
    Case("classify", "files", (40, 80, 160), classify_files),
    Case("classify", "labels", (1000, 2000, 4000), classify_labels),
    Case("classify", "seconds", (600, 1200, 2400), classify_length),
    Case("embed", "files", (40, 80, 160), embed_files),
    Case("embed", "seconds", (300, 600, 1200), embed_length),
    Case("index", "files", (40, 80, 160), index_files),
    Case("index", "seconds", (300, 600, 1200), index_length),
    Case("index --update, nothing new", "files", (100, 200, 400), index_unchanged),
    Case("index, one touched file", "windows", (20_000, 40_000, 80_000), index_touched),
    Case("index, one more file", "windows", (20_000, 40_000, 80_000), index_one_more),
    Case("index --remove of half", "windows", (50_000, 100_000, 200_000), index_remove_half),
    Case("index --export", "windows", (20_000, 40_000, 80_000), index_export),
    Case("index, of a .parquet", "windows", (20_000, 40_000, 80_000), index_import),
    Case("search", "windows", (20_000, 40_000, 80_000), search_windows),
    Case("search --html", "rows", (20, 40, 80), sheet_rows),
    Case("dedup", "windows", (20_000, 40_000, 80_000), dedup_windows),
    Case("train, list of clips", "files", (500, 1000, 2000), train_listing),
)
ADDS = 1000


def adds(count: int, *, at_once: bool) -> dict[str, float]:
    """Return the megabytes of an index of clips, and the megabytes that were written to make it."""
    import lancedb

    from openxclip import VideoIndex

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = clips(folder / "clips", count)
        index = VideoIndex.open(folder / "index", model=mini(), window=10.0)
        index.add(paths[:1])
        written_before = written_bytes()
        for part in [paths] if at_once else paths[1:]:
            index.add(part)
        sizes = {"written": written_bytes() - written_before, "on disk": bytes_of(folder / "index")}
        database = lancedb.connect(folder / "index")
        tables = (database.open_table(name) for name in ("videos", "windows"))
        sizes["live"] = sum(table.stats()["total_bytes"] for table in tables)
        index.compact()
        sizes["compacted"] = bytes_of(folder / "index")
    return {name: size / 1e6 for name, size in sizes.items()}


def written_bytes() -> int:
    """Return the number of bytes that this process has written."""
    return int(Path("/proc/self/io").read_text().split("wchar:")[1].split()[0])


def child(name: str, of: str, size: int) -> None:
    """Run one case at one size, and print its seconds, megabytes of memory and megabytes of new files."""
    case = next(case for case in CASES if (case.verb, case.of) == (name, of))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = case.prepare(folder, size)
        memory, files = peak(), bytes_of(folder)
        began = time.perf_counter()
        run()
        seconds = time.perf_counter() - began
        print(json.dumps([seconds, (peak() - memory) / 1e6, (bytes_of(folder) - files) / 1e6]))


def peak() -> float:
    """Return the peak memory in bytes since the last call; on systems other than Linux, since the start."""
    try:
        status = Path("/proc/self/status").read_text()
        value = int(status.split("VmHWM:")[1].split()[0]) * 1024
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, IndexError):
        value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return value


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def slope(sizes: tuple[int, ...], costs: list[float]) -> float | None:
    """Return the exponent of the costs; None if a cost is too small to be measured."""
    if min(costs) <= 0:
        return None
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    return statistics.linear_regression(x, y).slope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=3, metavar=("VERB", "OF", "SIZE"))
    parser.add_argument("--small", action="store_true", help="a tenth of the sizes, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="measure only the verbs that begin with this text")
    parser.add_argument("--json", type=Path, help="default is costs.json beside this file, if everything is measured")
    arguments = parser.parse_args()
    if arguments.child:
        name, of, size = arguments.child
        child(name, of, int(size))
        return
    rounds = 1 if arguments.small else arguments.rounds
    rows = []
    print(f"{'verb':32}{'of':>9}{'sizes':>24}{'seconds':>24}{'exponent':>9}{'memory MB':>18}{'written MB':>21}")
    for case in CASES:
        if not case.verb.startswith(arguments.only):
            continue
        sizes = tuple(max(2, size // 10) for size in case.sizes) if arguments.small else case.sizes
        measured: list[list[list[float]]] = [[] for _ in sizes]
        for _ in range(rounds):
            for i, size in enumerate(sizes):
                command = [sys.executable, "-W", "ignore", __file__, "--child", case.verb, case.of, str(size)]
                ran = subprocess.run(command, check=True, capture_output=True, text=True)
                measured[i].append(json.loads(ran.stdout.splitlines()[-1]))
        seconds, memory, written = (
            [statistics.median(run[column] for run in runs) for runs in measured] for column in range(3)
        )
        rows.append(
            {
                "verb": case.verb, "of": case.of, "sizes": sizes, "seconds": seconds, "memory_mb": memory,
                "written_mb": written, "exponent": slope(sizes, seconds),
            }
        )  # fmt: skip
        numbers = [
            " ".join(f"{value:.{digits}f}" for value in values)
            for values, digits in ((seconds, 2), (memory, 0), (written, 2))
        ]
        shown = " ".join(map(str, sizes))
        exponent = f"{rows[-1]['exponent'] or 0:.2f}"
        columns = (f"{case.verb:32}{case.of:>9}{shown:>24}", f"{numbers[0]:>24}{exponent:>9}{numbers[1]:>18}")
        print(*columns, f"{numbers[2]:>21}", sep="", flush=True)
    sizes_of_index = {}
    if "adds".startswith(arguments.only):
        count = ADDS // 10 if arguments.small else ADDS
        sizes_of_index = {
            f"{count} clips, {how}": adds(count, at_once=how == "at once") for how in ("at once", "one by one")
        }
        print(
            f"\n{'MB of an index':32}" + "".join(f"{name:>12}" for name in ("written", "on disk", "live", "compacted"))
        )
        for name, megabytes in sizes_of_index.items():
            print(f"{name:32}" + "".join(f"{value:12.2f}" for value in megabytes.values()))
    is_complete = not arguments.small and not arguments.only
    if output := arguments.json or (Path(__file__).with_suffix(".json") if is_complete else None):
        about = {
            "cpu": platform.processor() or platform.machine(), "rounds": rounds, "rows": rows, "index": sizes_of_index,
        }  # fmt: skip
        output.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
