"""Measure timelines on films of the playground, whose events have known times.

    python benchmarks/timeline.py render      --films runs/timeline   # the films, which the other parts read
    python benchmarks/timeline.py films       --films runs/timeline   # metrics, baselines, false alarms, oracles
    python benchmarks/timeline.py calibration --films runs/timeline   # false alarms after --calibrate

films: mini finds the captions of each film's events, and ten captions that don't happen in it, by its own contract of
time. There are 44 films of 10 s to 5 min and 4 of 15 to 60 min, whose things and actions mini was trained on ("seen"),
and 32 films that also have things and pairs of them that it was not trained on ("all"). Beside the segments of
`openxclip timeline`, with and without `--shots`, there are those of

- arg-max: each window gets the label with the highest score; windows of the same label in a row are a segment;
- arg-max or nothing: the same, but a window whose best score is below the threshold gets no label;
- one threshold: windows in a row with a score of the threshold or more are a segment, without smoothing and so on.

A window stands for one stride around its middle there. F1 and mAP are means over films, and so are the differences,
whose 95 % intervals come from 10,000 draws of the films with replacement, in pairs.

Oracles replace one part of the method at a time. "bounds" moves each segment's bounds to those of the event or pause in
which most of it lies. "windows" has one window for each event and pause, as long as it, and its bounds. "scores" gives
each window and label the share of the window that the label's events fill.

The lines with "all" have segments from a threshold of 0.05, so that their scores order as many as arg-max has. Their
mAP is compared; F1 is compared at the contract's threshold.

calibration: an hour of pauses between events sets the thresholds of 20 captions with `--false-alarms 6/hour`. Then
their false alarms in ten other hours are counted.

The scores of windows are kept in --films and used again. Results go to benchmarks/timeline.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openxclip import VideoPipeline, __version__
from openxclip.benchmarking.measuring import cpu_name
from openxclip.playground import film
from openxclip.playground.captions import Scene
from openxclip.playground.clips import Split, draw_pairs
from openxclip.playground.films import Film, _Shot
from openxclip.playground.motion import uniform
from openxclip.playground.world import ACTION_NAMES, ACTIONS, SEEN_THINGS, THINGS
from openxclip.timelines import Segment, SegmentOptions, Timeline, TimelineFinder
from openxclip.timelines.annotations import AnnotatedVideo, Moment
from openxclip.timelines.calibration import calibrate
from openxclip.timelines.evaluating import TimelineScores, score_timelines
from openxclip.timelines.metrics import match
from openxclip.timelines.shots import Shots
from openxclip.video import ClipPlan

FPS, SIZE, SIZE_OF_PAUSES = 12, 128, 64
LENGTHS = {"seen": [10] * 8 + [30] * 8 + [60] * 16 + [120] * 8 + [300] * 4, "all": [10] * 8 + [30] * 8 + [60] * 16}
LONG = [900] * 3 + [3600]
SEEDS = {
    "seen": 62_000_000,
    "all": 52_000_000,
    "pauses": 53_000_000,
}  # of tests; films of other seeds chose the settings
ABSENT = 10
HOURS = 10  # of pauses, besides the one to calibrate with
RATE = 6.0
PAUSE_S = (0.5, 3.0)
RESAMPLES = 10_000
LOW = 0.05  # threshold of the segments whose order mAP measures
_SMALL = 20.0  # seconds of each film in a test

Scores = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["render", "films", "calibration"])
    parser.add_argument("--films", type=Path, default=Path("runs/timeline"))
    parser.add_argument("--split", choices=list(LENGTHS), default="seen", help="films to measure")
    parser.add_argument("--first", type=int, help="measure only so many films")
    parser.add_argument("--small", action="store_true", help="a few short films, to test this script")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.films.mkdir(parents=True, exist_ok=True)
    if arguments.part == "render":
        for path in [*film_paths(arguments, "seen"), *film_paths(arguments, "all"), *pause_paths(arguments)]:
            print(path, flush=True)
        return
    result = {"films": films, "calibration": calibration}[arguments.part](arguments)
    results = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    about = {"openxclip": __version__, "cpu": cpu_name(), "torch": torch.__version__}
    name = f"{arguments.part}, {arguments.split}" if arguments.part == "films" else arguments.part
    results[name] = {**about, **result}
    arguments.output.write_text(json.dumps(rounded(results), indent=1) + "\n")


# -- films -------------------------------------------------------------------------------------------------------------


def film_paths(arguments: argparse.Namespace, split: Split) -> Iterator[Path]:
    """Yield the paths of a split's films, and render those that don't exist yet."""
    lengths = [_SMALL] * 3 if arguments.small else LENGTHS[split] + (LONG if split == "seen" else [])
    for number, seconds in enumerate(lengths[: arguments.first]):
        path = arguments.films / f"{split}{number:03}.mp4"
        if not (path.exists() and path.with_suffix(".json").exists()):
            film(seconds, SEEDS[split] + number, size=SIZE, fps=FPS, split=split).save(path)
        yield path


def pause_paths(arguments: argparse.Namespace) -> Iterator[Path]:
    """Yield the paths of films of pauses: an hour to calibrate with, and ten others."""
    seconds = 120.0 if arguments.small else 3600.0
    for number in range(3 if arguments.small else 1 + HOURS):
        path = arguments.films / f"pauses{number:03}.mp4"
        if not path.exists():
            pauses(seconds, SEEDS["pauses"] + number).save(path)
        yield path


def pauses(seconds: float, seed: int) -> Film:
    """Return a film of pauses alone, each with its own background, as long as the pauses between events."""
    generator = torch.Generator().manual_seed(seed)
    shots: list[_Shot] = []
    frames = 0
    while frames < seconds * FPS:
        num_frames = max(1, round(float(uniform(generator, *PAUSE_S, 1)) * FPS))
        shots.append(_Shot(num_frames, int(torch.randint(0, 1 << 62, (1,), generator=generator)), None))
        frames += num_frames
    return Film(shots, [], fps=FPS, size=SIZE_OF_PAUSES, hard=1.0)


def draw_captions(number: int, seed: int, split: Split, without: Sequence[str] = ()) -> list[str]:
    """Draw captions of a split that are not among some others."""
    generator = torch.Generator().manual_seed(seed)
    drawn: list[str] = []
    while len(drawn) < number:
        thing, action = (int(index) for index in draw_pairs(1, generator, split))
        other = int(torch.randint(0, len(SEEN_THINGS) - 1, (1,), generator=generator))
        other += other >= thing
        shown = Scene(THINGS[thing], ACTION_NAMES[action], THINGS[other] if ACTIONS[action].has_other else "")
        if shown.caption not in (*drawn, *without):
            drawn.append(shown.caption)
    return drawn


# -- scores of windows -------------------------------------------------------------------------------------------------


class Scored:
    """A film, its annotations, and the scores of its windows by mini's own contract.

    Args:
        path: path of the film, with its events in a JSON file beside it.
        pipeline: mini.
        split: what the captions that don't happen are drawn from.
        seed: seeds these captions.
    """

    def __init__(self, path: Path, pipeline: VideoPipeline, split: Split, seed: int) -> None:
        self.path, self.pipeline = path, pipeline
        content = json.loads(path.with_suffix(".json").read_text())
        moments = tuple(Moment(event["caption"], event["start"], event["end"]) for event in content["events"])
        happening = list(dict.fromkeys(moment.label for moment in moments))
        labels = (*happening, *draw_captions(ABSENT, seed, split, happening))
        self.duration: float = content["duration"]
        self.video = AnnotatedVideo(name=path.stem, labels=labels, moments=moments, duration=self.duration)
        bounds = [0.0, *(bound for moment in moments for bound in (moment.start, moment.end)), self.duration]
        self.spans = [(start, end) for start, end in pairwise(bounds) if end - start > 1e-3]
        self.timeline = self.find()

    def find(self, shots: Shots | None = None) -> Timeline:
        """Return the timeline whose windows follow cuts, or not."""
        contract, labels = self.pipeline.contract, self.video.labels
        name = f"{self.path.stem}-{contract.window:g}-{contract.stride_seconds:g}{f'-{shots}' if shots else ''}.npz"
        kept = self.path.with_name(name)
        if kept.exists():
            with np.load(kept) as file:
                if tuple(file["labels"].tolist()) == labels:
                    values: dict[str, Any] = {name: file[name] for name in ("starts", "ends", "scores")}
                    values["cuts"] = tuple(file["cuts"].tolist()) if shots else None
                    values["thresholds"] = {label: contract.threshold_of(label) for label in labels}
                    values |= {"window": contract.window, "stride": contract.stride_seconds, "duration": self.duration}
                    return Timeline(path=str(self.path), labels=labels, **values).with_options(SegmentOptions())
        (timeline,) = TimelineFinder(self.pipeline, labels, shots=shots)([self.path])
        if timeline.error is not None:
            raise timeline.error
        values = {name: getattr(timeline, name) for name in ("starts", "ends", "scores")}
        np.savez(kept, labels=labels, cuts=timeline.cuts or (), **values)
        return timeline

    def with_scores(self, scores_WK: NDArray[np.floating]) -> Timeline:
        """Return the timeline with other scores, and the segments that they give."""
        return replace(self.timeline, scores=scores_WK.astype(np.float32)).with_options(SegmentOptions())

    def with_segments(self, segments: Sequence[Segment]) -> Timeline:
        """Return the timeline with other segments."""
        return replace(self.timeline, segments=tuple(segments))


def segment(label: str, start: float, end: float, score: float) -> Segment:
    return Segment(label=label, start=start, end=end, score=score, peak=(start + end) / 2)


def runs(scored: Scored, is_on_WK: NDArray[np.bool_]) -> Timeline:
    """Return segments of windows in a row, each of which stands for a stride around its middle."""
    timeline = scored.timeline
    half = timeline.stride / 2
    segments: list[Segment] = []
    for k, label in enumerate(timeline.labels):
        edges = np.flatnonzero(np.diff(is_on_WK[:, k], prepend=False, append=False))
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            start_s, end_s = timeline.centers[first] - half, timeline.centers[end - 1] + half
            segments.append(segment(label, start_s, end_s, float(timeline.scores[first:end, k].max())))
    return scored.with_segments(segments)


def arg_max(scored: Scored, *, or_nothing: bool = False) -> Timeline:
    scores_WK = scored.timeline.scores
    is_on_WK = scores_WK.argmax(axis=1)[:, None] == np.arange(scores_WK.shape[1])
    return runs(scored, is_on_WK & (scores_WK >= 0.5) if or_nothing else is_on_WK)


def one_threshold(scored: Scored, threshold: float = 0.5) -> Timeline:
    return runs(scored, scored.timeline.scores >= threshold)


# -- oracles -----------------------------------------------------------------------------------------------------------


def known_bounds(scored: Scored) -> Timeline:
    """Move each segment's bounds to those of the event or pause in which most of it lies."""
    best: dict[tuple[str, float], Segment] = {}
    for part in scored.timeline.segments:
        start, end = max(scored.spans, key=lambda span: min(span[1], part.end) - max(span[0], part.start))
        if (part.label, start) not in best or best[part.label, start].score < part.score:
            best[part.label, start] = segment(part.label, start, end, part.score)
    return scored.with_segments(list(best.values()))


def known_windows(scored: Scored) -> Timeline:
    """Encode each event and pause as one window."""
    finder = TimelineFinder(scored.pipeline, scored.video.labels)
    segments: list[Segment] = []
    for start, end in scored.spans:
        plan = ClipPlan(num_frames=finder.plan.num_frames, start=start, end=end)
        (result,) = scored.pipeline.encode_videos([scored.path], plan)
        if result.error is not None:
            raise result.error
        assert result.features is not None
        segments += spans_of(scored.timeline, start, end, finder.scorer.score([result.features])[0])
    return scored.with_segments(segments)


def spans_of(timeline: Timeline, start: float, end: float, shares_K: NDArray[np.floating]) -> Iterator[Segment]:
    for label, share in zip(timeline.labels, shares_K.tolist(), strict=True):
        if share >= timeline.thresholds[label]:
            yield segment(label, start, end, share)


def known_scores(scored: Scored) -> Timeline:
    """Give each window and label the share of the window that the label's events fill."""
    timeline = scored.timeline
    scores_WK = np.zeros(timeline.scores.shape)
    for label, start, end in scored.video.moments:
        shared_W = np.minimum(timeline.ends, end) - np.maximum(timeline.starts, start)
        scores_WK[:, timeline.labels.index(label)] += shared_W.clip(0) / (timeline.ends - timeline.starts)
    return scored.with_scores(scores_WK.clip(0, 1))


# -- films -------------------------------------------------------------------------------------------------------------


def films(arguments: argparse.Namespace) -> dict[str, Any]:
    pipeline = VideoPipeline.from_pretrained("mini", device="cpu")
    seed = SEEDS[arguments.split] + 500_000
    scored = []
    for number, path in enumerate(film_paths(arguments, arguments.split)):
        scored.append(Scored(path, pipeline, arguments.split, seed + number))
        print(path.stem, f"{scored[-1].duration:.0f} s, F1 {scores_of(scored[-1]).counts.f1:.3f}", flush=True)
    short = [film for film in scored if film.duration < LONG[0]]
    contract = pipeline.contract
    result: dict[str, Any] = {
        "films": len(scored), "hours": sum(film.duration for film in scored) / 3600,
        "window": contract.window, "stride": contract.stride_seconds,
    }  # fmt: skip
    ways: dict[str, Callable[[Scored], Timeline]] = {
        "timeline": lambda film: film.timeline,
        "timeline, all": lambda film: film.timeline.with_options(SegmentOptions(threshold=LOW)),
        "timeline --shots": lambda film: film.find("sampled"),
        "arg-max": arg_max,
        "arg-max or nothing": lambda film: arg_max(film, or_nothing=True), "one threshold": one_threshold,
        "one threshold, all": lambda film: one_threshold(film, LOW),
        "oracle: bounds": known_bounds, "oracle: windows": known_windows, "oracle: scores": known_scores,
    }  # fmt: skip
    measured = {name: [scores_of(film, way(film)) for film in short] for name, way in ways.items()}
    for name, scores in measured.items():
        result[name] = means(scores)
        print(f"{name:<20}", line(result[name]))
    for name in ("arg-max", "arg-max or nothing", "one threshold"):
        result[name]["timeline is better by"] = {
            "F1@0.5": difference(measured["timeline"], measured[name], lambda each: each.counts.f1),
            "mAP@0.5": difference(
                measured["timeline, all"], measured.get(f"{name}, all", measured[name]), lambda each: each.map[0.5]
            ),
        }
        print(f"{name:<20}", result[name]["timeline is better by"])
    result["all films"] = together(scored)
    result["long films"] = {film.path.stem: means([scores_of(film)]) for film in scored if film.duration >= LONG[0]}
    result["false segments"] = list(false_segments(scored))
    result["all films, --shots"] = together(scored, "sampled")
    result["false segments, --shots"] = list(false_segments(scored, "sampled"))
    for name in ("all films", "all films, --shots"):
        print(name, result[name])
    for row in (*result["false segments"], *result["false segments, --shots"]):
        print(row)
    return result


def scores_of(scored: Scored, timeline: Timeline | None = None) -> TimelineScores:
    return score_timelines([(scored.video, timeline or scored.timeline)])


def means(scores: Sequence[TimelineScores]) -> dict[str, Any]:
    """Return the means over films of F1, with its 95 % interval, and of mAP."""
    f1_N = np.array([each.counts.f1 for each in scores])
    return {
        "F1@0.5": float(f1_N.mean()),
        "F1's 95 %": interval(f1_N),
        **{f"mAP@{level:g}": float(np.mean([each.map[level] for each in scores])) for level in scores[0].map},
    }


def interval(by_film_N: NDArray[np.float64]) -> list[float]:
    """Return the 95 % interval of a mean over films, by drawing films with replacement."""
    draws_RN = np.random.default_rng(0).integers(0, len(by_film_N), (RESAMPLES, len(by_film_N)))
    low, high = np.quantile(by_film_N[draws_RN].mean(axis=1), [0.025, 0.975]).tolist()
    return [low, high]


def together(scored: Sequence[Scored], shots: Shots | None = None) -> dict[str, Any]:
    """Return the metrics of all films together; a label is the same in all of them."""
    values = score_timelines((film.video, film.find(shots)) for film in scored)
    return {**values.to_dict(), "moments": values.counts.true, "half a stride": scored[0].timeline.stride / 2}


def difference(
    ours: Sequence[TimelineScores], theirs: Sequence[TimelineScores], metric: Callable[[TimelineScores], float]
) -> dict[str, Any]:
    """Return the mean difference of a metric, and its 95 % interval by a paired bootstrap over films."""
    by_film_N = np.array([metric(own) - metric(other) for own, other in zip(ours, theirs, strict=True)])
    return {"mean": float(by_film_N.mean()), "95 %": interval(by_film_N)}


def false_segments(scored: Sequence[Scored], shots: Shots | None = None) -> Iterator[dict[str, Any]]:
    """Yield, for some thresholds, the false segments an hour of labels that don't happen, and the recall of others."""
    timelines = [film.find(shots) for film in scored]
    for threshold in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98):
        false, seen, true, hours = 0, np.zeros(2, int), 0, 0.0
        for each, found_timeline in zip(scored, timelines, strict=True):
            timeline = found_timeline.with_options(SegmentOptions(threshold=threshold))
            happening = {moment.label for moment in each.video.moments}
            for label in each.video.labels:
                found = [(part.start, part.end) for part in timeline.segments_of(label)]
                if label not in happening:
                    false += len(found)
                    hours += each.duration / 3600
                else:
                    moments = each.video.spans_of(label)
                    seen += [len(match(found, moments)), len(match(found, moments, 1e-3))]
                    true += len(moments)
        yield {
            "threshold": threshold, "false segments an hour of a label": false / hours,
            "recall at tIoU 0.5": seen[0] / true, "recall at any overlap": seen[1] / true,
        }  # fmt: skip


# -- calibration -------------------------------------------------------------------------------------------------------


def calibration(arguments: argparse.Namespace) -> dict[str, Any]:
    pipeline = VideoPipeline.from_pretrained("mini", device="cpu")
    labels = draw_captions(5 if arguments.small else 20, SEEDS["pauses"], "seen")
    finder = TimelineFinder(pipeline, labels)
    timelines = []
    for path in pause_paths(arguments):
        kept = path.with_suffix(f".{len(labels)}.npz")
        if kept.exists():
            with np.load(kept) as file:
                timeline = Timeline(path=str(path), labels=tuple(labels), stride=float(finder.plan.stride or 0),
                                    starts=file["starts"], ends=file["ends"], scores=file["scores"])  # fmt: skip
        else:
            (timeline,) = finder([path])
            np.savez(kept, starts=timeline.starts, ends=timeline.ends, scores=timeline.scores)
        timelines.append(timeline)
        print(path.stem, len(timeline.starts), "windows", flush=True)
    result: dict[str, Any] = {"labels": len(labels), "hours": len(timelines) - 1}
    for rate in (RATE, 1.0, 0.1):
        thresholds = calibrate(timelines[:1], rate)
        own = {label: threshold.threshold for label, threshold in thresholds.items()}
        alarms = dict.fromkeys(labels, 0)
        for timeline in timelines[1:]:
            for part in replace(timeline, thresholds=own).with_options(SegmentOptions()).segments:
                alarms[part.label] += 1
        result[f"{rate:g}/hour"] = {
            "wanted": rate * (len(timelines) - 1),
            "extrapolated": any(threshold.is_extrapolated for threshold in thresholds.values()),
            "alarms": sorted(alarms.values()), "mean": float(np.mean(list(alarms.values()))),
            "thresholds": [min(own.values()), max(own.values())],
        }  # fmt: skip
        print(f"{rate:g}/hour", result[f"{rate:g}/hour"])
    return result


def line(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in values.items() if isinstance(value, float))


def rounded(value: Any) -> Any:
    """Return a value for JSON with 4 significant decimals."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
