"""Measure how well cuts are found, and what `openxclip timeline --shots` costs.

    python benchmarks/shots.py [--films runs/shots] [--video long.mp4] [--rounds 5]

Cuts: the films of the playground in --films are read, and 16 of a minute each are rendered there if there are none. A
film shows one thing at a time, and pauses; the first frames of events and pauses are its cuts. A cut that is found is
right if it is at most one frame away from such a frame ("exact"), or at most one sampling step ("sampled"); each is
counted once. F1 is computed from the counts of all films.

Time: the timeline of one video (by default the first films, one after the other) without --shots, with --shots and with
--shots exact, in turns. With --shots there may be fewer windows, because no window crosses a cut. So reading the
windows without the model is timed too; looking for cuts adds to it.

Results go to benchmarks/shots.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openxclip import VideoPipeline, __version__
from openxclip.benchmarking.measuring import Rounds, cpu_name, in_turns
from openxclip.playground import film
from openxclip.timelines import Timeline, TimelineFinder
from openxclip.timelines.shots import Shots

FILMS, SECONDS, FIRST_SEED = 16, 60.0, 300
LABELS = ["a cat moves left", "an owl vanishes", "a bee spins"]
WAYS: dict[str, Shots | None] = {"without": None, "sampled": "sampled", "exact": "exact"}


def films_in(folder: Path, *, number: int, seconds: float) -> list[Path]:
    """Return the films in a folder, which are rendered if there are none."""
    paths = sorted(path for path in folder.glob("*.mp4") if path.with_suffix(".json").exists())
    if not paths:
        paths = [film(seconds, FIRST_SEED + i).save(folder / f"film{FIRST_SEED + i}.mp4") for i in range(number)]
    return paths[:number]


def cuts_of(path: Path) -> tuple[list[float], float]:
    """Return the times of a film's cuts in seconds, and its frames per second."""
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    bounds = {round(event[name], 6) for event in about["events"] for name in ("start", "end")}
    return sorted(time for time in bounds if 0 < time < about["duration"] - 1e-3), about["fps"]


def count_right(found: list[float], true: list[float], tolerance: float) -> int:
    """Return the number of cuts that are found, each paired with the nearest one that isn't paired yet."""
    waiting, right = list(true), 0
    for cut in found:
        nearest = min(waiting, key=lambda other: abs(other - cut), default=float("inf"))
        if abs(nearest - cut) <= tolerance + 1e-6:
            waiting.remove(nearest)
            right += 1
    return right


def step_of(finder: TimelineFinder) -> float:
    """Return the seconds from one sampled frame to the next."""
    plan = finder.pipeline.complete_plan(finder.plan)
    return (plan.window or 0.0) / plan.frames_per_clip


def measure_cuts(finders: dict[str, TimelineFinder], films: list[Path]) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of all films, a row for each way of finding cuts."""
    rows = []
    for way, finder in finders.items():
        if way == "without":
            continue
        counts, distances = np.zeros(3, int), list[float]()
        for path, timeline in zip(films, finder(list(map(str, films))), strict=True):
            if timeline.error is not None:
                raise SystemExit(str(timeline.error))
            (true, fps), found = cuts_of(path), list(timeline.cuts or ())
            counts += count_right(found, true, 1 / fps if way == "exact" else step_of(finder)), len(found), len(true)
            distances += [min(abs(cut - other) for other in true) for cut in found]
        right, found_all, true_all = (int(count) for count in counts)
        precision, recall = right / max(found_all, 1), right / true_all
        row = {
            "shots": way,
            "cuts": true_all,
            "precision": round(precision, 4),
            "recall": round(recall, 4),
            "f1": round(2 * right / (found_all + true_all), 4),
            "median distance, s": round(statistics.median(distances), 4) if distances else None,
        }
        print(
            f"{way:>8}: {true_all} cuts, precision {precision:.3f}, recall {recall:.3f}, F1 {row['f1']:.3f}, median"
            f" distance {row['median distance, s']} s",
            flush=True,
        )
        rows.append(row)
    return rows


def take_seconds(call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def make_timelines(finder: TimelineFinder, videos: list[str]) -> list[Timeline]:
    """Find the timelines of the videos."""
    return list(finder(videos))


def read_windows(finder: TimelineFinder, way: Shots | None, videos: list[str]) -> int:
    """Read the windows of the videos without encoding them, and return their number."""
    from openxclip.pipeline.clip_reading import ClipReader
    from openxclip.timelines.shot_reading import ShotReading

    pipeline, reading = finder.pipeline, None if way is None else ShotReading(way)
    plan = pipeline.complete_plan(finder.plan)
    size = pipeline.model.config.vision_config.image_size
    views = pipeline.processor.image_processor.levels
    reader = ClipReader(plan, pipeline.read, lambda frames: [views(frames)], 3 * size**2)
    read = (reader.read_clips(None, v) if reading is None else reading(reader, None, v) for v in videos)
    return sum(len(clips) for some in read for clips in some)


def measure_times(finders: dict[str, TimelineFinder], videos: list[str], rounds: int) -> list[dict[str, Any]]:
    """Return the median seconds of each way, of whole timelines and of reading alone, and the ratios to no shots."""
    windows, duration = {}, 0.0
    for way, finder in finders.items():  # the warm-up
        timelines = make_timelines(finder, videos)
        windows[way] = sum(len(timeline.starts) for timeline in timelines)
        duration = sum(timeline.duration for timeline in timelines)
        read_windows(finder, WAYS[way], videos)
    calls: dict[str, Callable[[], float]] = {}
    for way, finder in finders.items():
        calls[way] = partial(take_seconds, partial(make_timelines, finder, videos))
        calls[f"{way}, reading"] = partial(take_seconds, partial(read_windows, finder, WAYS[way], videos))
    taken = in_turns(calls, Rounds(rounds, float("inf")))
    rows = []
    for way in finders:
        row: dict[str, Any] = {"shots": way, "video, s": round(duration, 1), "windows": windows[way]}
        for name, key in (("seconds", way), ("reading, s", f"{way}, reading")):
            base = key.replace(way, "without")
            ratios = [one / other for one, other in zip(taken[key], taken[base], strict=True)]
            row |= {
                name: round(statistics.median(taken[key]), 3),
                f"{name}: ratio": round(statistics.median(ratios), 3),
            }
        print(
            f"{way:>8}: {row['windows']} windows of {duration:.0f} s, {row['seconds']:.2f} s"
            f" ({row['seconds: ratio']:.2f} of no shots), reading alone {row['reading, s']:.2f} s"
            f" ({row['reading, s: ratio']:.2f})",
            flush=True,
        )
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, default=Path("runs/shots"), help="folder of films; default: %(default)s")
    parser.add_argument("--number", type=int, default=FILMS, help="films to use; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of a film that is rendered")
    parser.add_argument("--video", help="the video whose timeline is timed; default: the first four films")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--window", type=float, help="seconds; default: the model's own")
    parser.add_argument("--rounds", type=int, default=5, help="0 measures no times")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    films = films_in(arguments.films, number=arguments.number, seconds=arguments.seconds)
    pipeline = VideoPipeline.from_pretrained(arguments.model, device="cpu")
    finders = {
        way: TimelineFinder(pipeline, LABELS, window=arguments.window, shots=shots) for way, shots in WAYS.items()
    }
    plan, step = finders["without"].plan, step_of(finders["without"])
    print(f"{len(films)} films, windows of {plan.window:g} s, one every {plan.stride:g} s, a sample every {step:.3g} s")
    result: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "openxclip": __version__,
        "model": Path(arguments.model).name,
        "films": len(films),
        "window": plan.window,
        "stride": plan.stride,
        "sampling step": step,
        "found": measure_cuts(finders, films),
    }
    if arguments.rounds:
        videos = [arguments.video] if arguments.video else list(map(str, films[:4]))
        result |= {"rounds": arguments.rounds, "times": measure_times(finders, videos, arguments.rounds)}
    pipeline.close()
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
