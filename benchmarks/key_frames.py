"""Measure what `openxclip index --decode key` costs in retrieval, and in pairs of actions that differ in order only.

    python benchmarks/key_frames.py [--run runs/key_frames] [--seeds 3] [--only-720p]

mini indexes clips of 2 s of the playground (24 frames a second, 128 pixels, H.264), one window each, with all frames
and with key frames only, for several distances of key frames. A clip begins with a key frame. Two lists of questions
are asked (`openxclip.playground.questions`), of clips that each seed renders anew:

- order pairs: 384 clips, of which the action or its reverse (the same frames backwards) must get the higher score; 50 %
  is chance.
- captions: 200 clips of different scenes; R@k is the share of captions whose clip is among the first k hits of a
  search, with all candidates reranked.

Reading is the CPU time of decoding and resizing for the index of order pairs, as a share of that with all frames. It is
measured with a minute of 1280 x 720 too (clips of the playground, enlarged), windows of 10 s; --only-720p measures only
that. Clips are in --run, and used again. Results go to benchmarks/key_frames.json: means over the seeds, and standard
deviations.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch
from torch.nn import functional

from openxclip import VideoIndex, VideoPipeline, __version__
from openxclip.benchmarking.measuring import cpu_name
from openxclip.playground.clips import render_clips
from openxclip.playground.questions import _reverse, questions
from openxclip.search.opening import OpenIndex
from openxclip.search.scoring import logits_of_rows
from openxclip.video import ClipPlan, ReadOptions
from openxclip.video.reading import read_planned

FPS, FRAMES, SIZE = 24, 48, 128
RUNS = (("all", 48), ("nonref", 48), ("key", 6), ("key", 12), ("key", 24), ("key", 48))  # with frames from key to key
LISTS = ("order_pairs", "captions")


def write(frames_TCHW: Iterable[torch.Tensor], path: Path, distance: int, size: tuple[int, int] = (SIZE, SIZE)) -> None:
    """Write a clip with a key frame every so many frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "26"})
        stream.options |= {"x264-params": f"mbtree=0:keyint={distance}:min-keyint={distance}:scenecut=0"}
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for frame in frames_TCHW:
            array = frame.permute(1, 2, 0).contiguous().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))


def render(run: Path, name: str, seed: int) -> None:
    """Render the clips of a list of questions, with each distance of key frames, unless they are there."""
    for number, scene in enumerate(questions()[name]):
        paths = {distance: run / f"{name}-{seed}-{distance}" / f"{number:04}.mp4" for _, distance in RUNS}
        if all(path.exists() for path in paths.values()):
            continue
        indices = [torch.tensor([index]) for index in scene.indices()]
        clip = render_clips(
            1, (seed + LISTS.index(name)) * 1_000_003 + number, size=SIZE, num_frames=FRAMES,
            things=indices[0], actions=indices[1], others=indices[2], empty=0.0,
        )  # fmt: skip
        for distance, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(clip.frames[0], path.with_suffix(".part.mp4"), distance)
            path.with_suffix(".part.mp4").replace(path)


def reading_seconds(folder: Path, decode: Any, window: float = 2.0) -> float:
    """Return the CPU time of reading what the windows need, on one thread."""
    read = ReadOptions(decode=decode, threads=1)
    plan = ClipPlan(num_frames=8, window=window)
    began = time.process_time()
    for path in sorted(folder.glob("*.mp4")):
        for piece in read_planned(str(path), plan, read=read):
            del piece
    return time.process_time() - began


def read_720p(run: Path) -> dict[str, dict[str, float]]:
    """Return, by the distance of key frames, the CPU time of reading a minute, as shares of that with all frames."""
    shares: dict[str, dict[str, float]] = {}
    for distance in (2 * FPS, 10 * FPS):
        folder = run / f"720p-{distance}"
        if not (folder / "film.mp4").exists():
            folder.mkdir(parents=True, exist_ok=True)
            clips = (render_clips(1, number, size=SIZE, num_frames=FRAMES).frames[0] for number in range(30))
            frames = (
                functional.interpolate(frame[None].float(), (720, 1280), mode="bilinear").round().byte()[0]
                for clip in clips
                for frame in clip
            )
            write(frames, folder / "part.mp4", distance, (1280, 720))
            (folder / "part.mp4").rename(folder / "film.mp4")
        seconds: dict[str, list[float]] = {}
        for _ in range(5):
            for decode in ("all", "nonref", "key"):
                seconds.setdefault(decode, []).append(reading_seconds(folder, decode, window=10.0))
        row = {decode: statistics.median(values) for decode, values in seconds.items()}
        shares[f"one in {distance // FPS} s"] = {decode: round(value / row["all"], 3) for decode, value in row.items()}
        print(f"720p, a key frame in {distance // FPS} s:", shares[f"one in {distance // FPS} s"], flush=True)
    return shares


def ask_order(index: OpenIndex, pipeline: VideoPipeline) -> float:
    scenes = questions()["order_pairs"]
    texts = sorted({pair.caption for scene in scenes for pair in (scene, _reverse(scene))})
    features = pipeline.encode_texts(texts)
    index.require()
    rows = {
        row["path"]: row
        for table in index.store.read_windows(["path", "embedding", "patches"])
        for row in table.to_pylist()
    }
    points = 0.0
    for number, path in enumerate(sorted(rows)):
        (logits,) = logits_of_rows(pipeline, features, [rows[path]], prompts=True)
        own, rival = (logits[texts.index(s.caption)] for s in (scenes[number], _reverse(scenes[number])))
        points += float((own - rival).sign() + 1) / 2
    return 100 * points / len(rows)


def ask_captions(index: VideoIndex) -> dict[str, float]:
    scenes = questions()["captions"]
    ranks = []
    for number, scene in enumerate(scenes):
        hits = index.search(scene.caption, k=10, merge=False, rerank=len(scenes))
        paths = [Path(hit.path).stem for hit in hits]
        ranks.append(paths.index(f"{number:04}") if f"{number:04}" in paths else 99)
    return {f"R@{k}": 100 * statistics.mean(rank < k for rank in ranks) for k in (1, 5, 10)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/key_frames"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only-720p", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    at_720p = read_720p(arguments.run)
    if arguments.only_720p:
        report = json.loads(arguments.output.read_text())
        arguments.output.write_text(json.dumps({**report, "reading at 720p, shares": at_720p}, indent=1) + "\n")
        return
    pipeline = VideoPipeline.from_pretrained("mini", device="cpu")
    values: dict[str, dict[str, list[float]]] = {}
    for seed in range(arguments.seeds):
        for name in LISTS:
            render(arguments.run, name, seed)
        exact = 0.0
        for decode, distance in RUNS:
            row: dict[str, float] = {}
            for name in LISTS:
                folder = arguments.run / f"{name}-{seed}-{distance}"
                place = arguments.run / "index"
                shutil.rmtree(place, ignore_errors=True)
                index = VideoIndex.open(place, model=pipeline, window=2.0, decode=decode)
                done = index.add(folder)
                assert not done.errors
                assert len(index) == len(questions()[name])
                if name == "order_pairs":
                    row["order pairs"] = ask_order(OpenIndex(place, pipeline, {}, {}), pipeline)
                    seconds = reading_seconds(folder, decode)
                    exact = seconds if decode == "all" else exact
                    row["reading, share"] = seconds / exact
                else:
                    row |= ask_captions(index)
            run = decode if decode != "key" else f"key, one in {distance / FPS:g} s"
            for column, value in row.items():
                values.setdefault(run, {}).setdefault(column, []).append(value)
            print(seed, run, {column: round(value, 3) for column, value in row.items()}, flush=True)
    result = {
        run: {
            column: [
                round(statistics.mean(of_seeds), 3),
                round(statistics.stdev(of_seeds), 3) if len(of_seeds) > 1 else 0,
            ]
            for column, of_seeds in columns.items()
        }
        for run, columns in values.items()
    }
    about = {"openxclip": __version__, "cpu": cpu_name(), "seeds": arguments.seeds, "torch": torch.__version__}
    report = {**about, "result": result, "reading at 720p, shares": at_720p}
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    for run, columns in result.items():
        print(
            f"{run:24}"
            + "".join(f"{column}: {mean:.2f} ± {deviation:.2f}  " for column, (mean, deviation) in columns.items())
        )


if __name__ == "__main__":
    main()
