"""Measure what the two stages of search find and cost on one CPU.

    python benchmarks/search.py recall   [--run runs/search]   # what reranking finds in 2,000 playground videos
    python benchmarks/search.py scale    [--run runs/search]   # seconds and disk with 100,000 and a million windows
    python benchmarks/search.py indexing [--run runs/search]   # compared with transformers and PyAV
    python benchmarks/search.py hits     [--run runs/search]   # merged windows, and scores of texts about no video

recall: mini searches 1,600 clips of 2 s and 400 films of about 12 s of the playground, in windows of 2 s. Queries are
captions of the clips and of the films' events. A window is right if the caption's event fills half of it or more. R@k
is the share of queries for which one of the first k windows is right. "Exhaustive" scores every window with prompts.

scale: an index has 20,000 distinct embeddings of width 512 in 200 clusters, repeated with noise, and random patches of
the size that B/32 has. B/32 encodes a sentence in each query, but an embedding from the same clusters replaces the
result. Disk is the size of the index's folder.

indexing: seconds for a clip of 10 s, from the file to its row in an open index, for eight clips in one call. They are
compared with PyAV, the processor and `get_video_features` of transformers, one clip after the other as its
documentation shows. Both are measured in turns.

hits: mini searches 120 films in windows of 1 s. Queries are 200 captions of their events. Among the first five hits,
the right hit with the highest intersection over union with its event counts, for several values of `moments._LEVEL`.
Then the scores of the best hits are compared for captions and for texts about things that are in no film.

The videos and indexes are kept in --run and used again. Results go to benchmarks/search.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import torch
from numpy.typing import NDArray

from openxclip import VideoIndex, VideoPipeline, XCLIPProcessor, __version__, optimize
from openxclip.benchmarking.measuring import Rounds, cpu_name, medians
from openxclip.benchmarking.peers import Peer, random_model
from openxclip.benchmarking.videos import (
    FPS,
    FRAMES,
    SECONDS,
    SIZES,
    decode_as_documented,
    documented_processor,
    make_clip,
)
from openxclip.playground import film
from openxclip.playground.captions import caption
from openxclip.playground.clips import render_clips
from openxclip.playground.export import export_clip
from openxclip.playground.world import THINGS
from openxclip.search import Hit, maintenance, moments, scoring
from openxclip.search.index import RERANK
from openxclip.search.opening import OpenIndex
from openxclip.search.patches import compress_patches
from openxclip.search.schema import VideoRow, embeddings_of
from openxclip.search.store import Store

CLIPS, FILMS, QUERIES = 1600, 400, 500
WINDOW_S = 2.0
RANKS = (1, 5, 10)

Span = tuple[str, float, float]  # the path of a video, and the start and end of a part of it, in seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["render", "recall", "scale", "indexing", "hits"])
    parser.add_argument("--run", type=Path, default=Path("runs/search"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.run.mkdir(parents=True, exist_ok=True)
    if arguments.part == "render":
        render(arguments.run)
        return
    parts: dict[str, Callable[[argparse.Namespace], Any]] = {
        "recall": recall, "scale": scale, "indexing": indexing, "hits": hits,
    }  # fmt: skip
    results = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    about = {"openxclip": __version__, "cpu": cpu_name(), "threads": arguments.threads, "torch": torch.__version__}
    results[arguments.part] = {**about, "result": parts[arguments.part](arguments)}
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")


# -- what a search finds ---------------------------------------------------------------------------------------------


def render(run: Path) -> tuple[Path, dict[str, list[Span]]]:
    """Render the videos that don't exist yet; return their folder, and the spans that show each caption's event."""
    folder, events_file = run / "videos", run / "told.jsonl"
    folder.mkdir(exist_ok=True)
    videos = [json.loads(line) for line in events_file.read_text().splitlines()] if events_file.exists() else []
    with events_file.open("a") as lines:
        for number in range(len(videos), CLIPS + FILMS):
            name = f"{'clip' if number < CLIPS else 'film'}{number:05}.mp4"
            if number < CLIPS:
                clip = render_clips(1, 31_000_000 + number, size=96, num_frames=16, empty=0.0)
                export_clip(clip.frames[0], folder / name, fps=8)
                thing, action, other = (int(indices[0]) for indices in (clip.things, clip.actions, clip.others))
                events = [(0.0, 2.0, caption(thing, action, None if other < 0 else other))]
            else:
                made = film(12, 32_000_000 + number, size=96, fps=8)
                made.save(folder / name)
                events = [(event.start, event.end, event.caption) for event in made.events]
            videos.append({"name": name, "events": events})
            lines.write(json.dumps(videos[-1]) + "\n")
            lines.flush()
    spans: dict[str, list[Span]] = {}
    for video in videos:
        for start, end, text in video["events"]:
            spans.setdefault(text, []).append((str((folder / video["name"]).resolve()), start, end))
    return folder, spans


def is_right(window: Span, events: list[Span]) -> bool:
    """Return whether an event fills half of a window or more."""
    path, start, end = window
    return any(path == video and min(end, e) - max(start, s) >= 0.5 * (end - start) for video, s, e in events)


def recall(arguments: argparse.Namespace) -> dict[str, Any]:
    folder, events = render(arguments.run)
    uri = arguments.run / "mini.index"
    index = VideoIndex.open(uri, model="mini", window=WINDOW_S, stride=WINDOW_S / 2)
    began = time.perf_counter()
    done = index.add(folder)
    if done.added:
        print(f"{len(done.added)} videos indexed in {time.perf_counter() - began:.0f} s")
    scoring.decompress_patches = cache(scoring.decompress_patches)  # the exhaustive search needs all of them each time
    random = np.random.default_rng(0)
    all_windows = windows(uri)
    shown = sorted(text for text, spans in events.items() if any(is_right(window, spans) for window in all_windows))
    texts = [shown[i] for i in random.permutation(len(shown))[:QUERIES]]
    ways = {"stage one": 0, "reranked 50": 50, "reranked 200": 200, "exhaustive": len(index)}
    hits: dict[str, dict[int, list[bool]]] = {name: {k: [] for k in RANKS} for name in ways}
    for number, text in enumerate(texts):
        for name, rerank in ways.items():
            found = index.search(text, k=max(RANKS), rerank=rerank, merge=False)
            right = [is_right(span_of(hit), events[text]) for hit in found]
            for k in RANKS:
                hits[name][k].append(any(right[:k]))
        if number % 50 == 49:
            print(number + 1, {name: round(float(np.mean(ranks[1])), 3) for name, ranks in hits.items()}, flush=True)
    print(f"{len(done.added) + len(done.unchanged)} videos, {len(index)} windows, {len(texts)} queries")
    print(f"{'':<14}" + "".join(f"{f'R@{k}':>8}" for k in RANKS))
    result: dict[str, Any] = {"windows": len(index), "queries": len(texts)}
    for name, ranks in hits.items():
        result[name] = {f"R@{k}": round(100 * float(np.mean(ranks[k])), 1) for k in RANKS}
        print(f"{name:<14}" + "".join(f"{result[name][f'R@{k}']:>8}" for k in RANKS))
    result["prompts against plain, by query"] = {}
    for k in RANKS:
        plain, prompted = np.array(hits["stage one"][k]), np.array(hits["exhaustive"][k])
        low, high = interval(prompted.astype(float) - plain, random)
        result["prompts against plain, by query"][f"R@{k}"] = {
            "only with": int((prompted & ~plain).sum()), "only without": int((plain & ~prompted).sum()),
            "gain": round(100 * float(prompted.mean() - plain.mean()), 1), "95 %": [low, high],
        }  # fmt: skip
        print(f"prompts, R@{k}: {result['prompts against plain, by query'][f'R@{k}']}")
    return result


def windows(uri: Path) -> set[Span]:
    """Return all windows of an index."""
    store = Store(str(uri))
    store.open()
    return {
        (row["path"], row["start"], row["end"])
        for table in store.read_windows(["path", "start", "end"])
        for row in table.to_pylist()
    }


def interval(differences: NDArray[np.float64], random: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference, in points, by 2,000 draws of the queries."""
    draws = random.integers(0, len(differences), (2000, len(differences)))
    low, high = np.quantile(differences[draws].mean(1), [0.025, 0.975])
    return round(100 * float(low), 1), round(100 * float(high), 1)


def hits(arguments: argparse.Namespace) -> dict[str, Any]:
    folder = arguments.run / "films"
    folder.mkdir(exist_ok=True)
    events: dict[str, list[Span]] = {}
    for number in range(120):
        path = (folder / f"film{number:04}.mp4").resolve()
        if not path.exists():
            film(12, 32_000_000 + number, size=96, fps=8).save(path)
        for event in json.loads(path.with_suffix(".json").read_text())["events"]:
            events.setdefault(event["caption"], []).append((str(path), event["start"], event["end"]))
    index = VideoIndex.open(arguments.run / "films.index", model="mini", window=1.0)
    index.add(folder)
    captions = sorted(events)
    result: dict[str, Any] = {"windows": len(index)}
    for level in (None, 0.0, 0.25, 0.5, 0.6, 0.75):
        moments._LEVEL = level or 0.0
        best_ious, repeated, videos = [], [], []
        for text in captions[:200]:
            found = index.search(text, rerank=0, merge=level is not None)
            ious = [max(iou(span_of(hit), event) for event in events[text]) for hit in found]
            right = [ious[i] for i, hit in enumerate(found[:5]) if is_right(span_of(hit), events[text])]
            best_ious += [max(right)] if right else []
            repeated.append(max(0, sum(value > 0 for value in ious) - 1))
            videos.append(len({hit.path for hit in found}))
        row = {"IoU": best_ious, "more of the same event": repeated, "videos": videos}
        name = "raw" if level is None else f"{level} of the way"
        result[name] = {column: round(float(np.mean(values)), 3) for column, values in row.items()}
        print(level, result[name], flush=True)
    moments._LEVEL = 0.5
    words = {word for text in captions for word in text.split()}
    absent = [f"a {thing} spins" for thing in THINGS if not words & {*thing.split()}]
    for name, texts in (("captions", captions[::3]), ("in no film", absent)):
        best = [index.search(text, k=1)[0] for text in texts]
        result[name] = {
            "texts": len(texts), "median score": round(statistics.median(hit.score or 0.0 for hit in best), 2),
            "median similarity": round(statistics.median(hit.similarity for hit in best), 2),
        }  # fmt: skip
        print(name, result[name])
    return result


def span_of(hit: Hit) -> Span:
    return hit.path, hit.start, hit.end


def iou(first: Span, second: Span) -> float:
    """Return the intersection over union of two spans; 0 if they are in different videos."""
    (first_path, *first_times), (second_path, *second_times) = first, second
    starts, ends = zip(first_times, second_times, strict=True)
    intersection = max(0.0, min(ends) - max(starts))
    return intersection / (max(ends) - min(starts)) if first_path == second_path else 0.0


# -- what a search costs ---------------------------------------------------------------------------------------------


class RandomWindows:
    """Random windows of width 512: 20,000 embeddings in 200 clusters, repeated with noise."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        centres = self._random.standard_normal((200, 512), dtype=np.float32)
        spread = self._random.standard_normal((20_000, 512), dtype=np.float32)
        self._base = centres[self._random.integers(0, 200, 20_000)] + spread

    def draw(self, number: int) -> NDArray[np.float32]:
        """Return embeddings (number, 512) of length 1."""
        drawn = self._base[self._random.integers(0, len(self._base), number)]
        drawn = drawn + 0.3 * self._random.standard_normal((number, 512), dtype=np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    def _patches(self) -> bytes:
        return compress_patches(self._random.standard_normal((49, 512), dtype=np.float32))

    def table(self, first: int, number: int, *, patches: bool) -> Any:
        """Return windows with an index's columns, ten for each video."""
        import pyarrow as pa

        count = np.arange(first, first + number)
        return pa.table({
            "video": count // 10, "path": [f"/archive/{i // 10:07}.mp4" for i in count], "number": count % 10,
            "start": 10.0 * (count % 10), "end": 10.0 * (count % 10) + 10, "duration": np.full(number, 100.0),
            "size": count // 10, "featureless": np.zeros(number, bool),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(self.draw(number).ravel()), 512),
            "patches": [self._patches() for _ in count] if patches else pa.nulls(number, pa.binary()),
        })  # fmt: skip


def scale(arguments: argparse.Namespace) -> dict[str, Any]:
    folder = arguments.run / "b32"
    if not folder.exists():
        random_model("base-patch32").save_pretrained(folder)
        XCLIPProcessor().save_pretrained(folder)
    pipeline = VideoPipeline.from_pretrained(folder, device="cpu")
    random_windows = RandomWindows()
    return {
        f"{number:,} windows": measure(arguments, pipeline, random_windows, number, patches=patches)
        for number, patches in ((100_000, True), (1_000_000, False))
    }


def measure(
    arguments: argparse.Namespace, pipeline: VideoPipeline, random_windows: RandomWindows, number: int, *, patches: bool
) -> dict[str, Any]:
    """Measure how long it takes to write and search an index, and how many of the exact best windows are found."""
    uri = arguments.run / f"{number}.index"
    shutil.rmtree(uri, ignore_errors=True)
    opened = OpenIndex(uri, pipeline, {"patches": patches}, {})
    opened.pipeline()  # creates the index
    index, store = VideoIndex(opened), opened.store
    began = time.perf_counter()
    parts = range(0, number, 5000)
    videos = (VideoRow(id=i, path=f"/archive/{i:07}.mp4", state="complete", windows=10) for i in range(number // 10))
    store.put_videos(videos, new=True)
    store.add_window_tables(random_windows.table(first, 5000, patches=patches) for first in parts)
    result: dict[str, Any] = {"written in s": round(time.perf_counter() - began, 1)}
    queries = random_windows.draw(50)
    exact = [set(np.argsort(-scores)[:RERANK].tolist()) for scores in exact_scores(store, queries)]
    for how in ("every window compared", "index of vectors"):
        if how == "index of vectors":
            table = lancedb.connect(uri).open_table("windows")
            began = time.perf_counter()
            maintenance.build_vector_index(table)
            result["index of vectors built in s"] = round(time.perf_counter() - began, 1)
            store.refresh()
        row = {"a query without reranking, ms": milliseconds(index, pipeline, queries, rerank=0)}
        if patches:
            row["reranked 200, ms"] = milliseconds(index, pipeline, queries, rerank=200)
        shares = []
        for query, best in zip(queries, exact, strict=True):
            rows = store.nearest(query, RERANK, None, patches=False)
            found = {10 * int(row["path"][-11:-4]) + round(row["start"] / 10) for row in rows}
            shares.append(len(found & best) / RERANK)
        row["of the exact first 200, %"] = round(100 * statistics.mean(shares), 1)
        result[how] = row
        print(f"{number:,} windows, {how}: {row}", flush=True)
    result["MiB on disk"] = round(sum(path.stat().st_size for path in uri.rglob("*") if path.is_file()) / 2**20)
    print(result, flush=True)
    return result


def exact_scores(store: Store, queries_QE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosines (Q, N) of queries and all windows, in the order in which the windows were written."""
    return np.concatenate([queries_QE @ embeddings_of(table).T for table in store.read_windows(["embedding"])], axis=1)


def milliseconds(index: VideoIndex, pipeline: VideoPipeline, queries: NDArray[np.float32], *, rerank: int) -> float:
    """Return the median time of searches by text, after three that aren't counted."""
    seconds = []
    encode = VideoPipeline.encode_texts
    for number, query in enumerate(queries):
        sentence = f"somebody does thing number {number} of {rerank} today"

        def encoded(texts: list[str], query: Any = query) -> torch.Tensor:
            return encode(pipeline, texts) * 0 + torch.from_numpy(query)

        pipeline.encode_texts = encoded  # type: ignore[method-assign,assignment]
        began = time.perf_counter()
        index.search(sentence, rerank=rerank)
        seconds.append(time.perf_counter() - began)
    del pipeline.encode_texts
    return round(1e3 * statistics.median(seconds[3:]), 1)


def indexing(arguments: argparse.Namespace) -> dict[str, Any]:
    model = random_model("base-patch32")
    pipelines = {how: VideoPipeline(optimize(model, how), XCLIPProcessor()) for how in ("fp32", "bf16")}
    peer, processor = Peer(model), documented_processor()
    indices = np.linspace(0, SECONDS * FPS - 1, FRAMES).round().astype(int).tolist()
    result: dict[str, Any] = {}
    print(f"{'':>10} {'documented':>12} {'fp32':>10} ratio {'bf16':>10} ratio")
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_clip(folder / "0.mp4", width, height)
            paths = [folder / f"{number}.mp4" for number in range(8)]
            for path in paths[1:]:
                shutil.copy(paths[0], path)
            runs = iter(range(1000))

            def ours(index: VideoIndex) -> None:
                again = folder / f"again{next(runs)}"  # noqa: B023
                again.mkdir()
                for path in paths:  # noqa: B023
                    (again / path.name).hardlink_to(path)
                assert len(index.add(again).added) == len(paths)  # noqa: B023

            def theirs() -> None:
                for path in paths:  # noqa: B023
                    pixels = processor(list(decode_as_documented(path, indices)), return_tensors="pt")["pixel_values"]
                    with torch.no_grad():
                        peer.video(pixels)

            ways: dict[str, Callable[[], None]] = {"documented": theirs}
            for how, pipeline in pipelines.items():
                ways[how] = partial(ours, VideoIndex.open(folder / how, model=pipeline))
            seconds, rounds = medians(ways, Rounds(arguments.rounds, longest=600))
            row: dict[str, Any] = {how: round(value / len(paths), 3) for how, value in seconds.items()}
            row |= {f"{how} ratio": round(seconds[how] / seconds["documented"], 2) for how in pipelines}
            result[f"{width}x{height}"] = {**row, "rounds": rounds}
            print(f"{f'{width}x{height}':>10} {row['documented']:>10.3f} s", end="")
            print("".join(f" {row[how]:>8.3f} s {row[f'{how} ratio']:5.2f}" for how in pipelines), flush=True)
    result["MiB held after so many clips"] = memory(pipelines["fp32"])
    print(result["MiB held after so many clips"])
    return result


def memory(pipeline: VideoPipeline) -> dict[int, int]:
    """Return this process's resident memory in MiB after 50, 200 and 400 clips."""
    resident: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clip(folder / "0.mp4", 340, 256)
        data = (folder / "0.mp4").read_bytes()
        index = VideoIndex.open(folder / "index", model=pipeline)
        for count in (50, 200, 400):
            paths = [folder / f"{number}.mp4" for number in range(count)]
            for path in paths:
                if not path.exists() or path == paths[0]:
                    path.write_bytes(data)
            index.add(paths)
            status = Path("/proc/self/status").read_text()
            resident[count] = int(status.partition("VmRSS:")[2].split()[0]) >> 10
    return resident


if __name__ == "__main__":
    main()
