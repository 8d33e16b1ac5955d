"""`openxclip timeline`: its output on each stream, its files, and its exit status."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from openxclip import VideoIndex, VideoPipeline
from openxclip.errors import VideoError
from openxclip.timelines import TimelineFinder

Run = Callable[..., Any]


@pytest.fixture
def timeline(run: Run, tiny_folder: Path) -> Run:
    """Run `openxclip timeline` with a tiny model and windows that fit in a second."""

    def call(*arguments: object, **settings: Any) -> Any:
        how = ("--model", tiny_folder, "--device", "cpu", "--window", 0.4, "--stride", 0.2)
        return run("timeline", *arguments, *how, **settings)

    return call


def rows(ran: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.stdout.splitlines()]


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_json_lines_with_readable_and_unreadable_files(timeline: Run, clip_folder: Path) -> None:
    ran = timeline(clip_folder / "red2.mp4", "gone.mp4", "--labels", "red, a blue video", "--threshold", 0)
    red, gone = rows(ran)
    assert ran.returncode == 1
    assert (red["path"], red["windows"], red["window"], red["stride"]) == (str(clip_folder / "red2.mp4"), 4, 0.4, 0.2)
    assert [(one["label"], one["start"], one["end"]) for one in red["segments"]] == [
        ("red", 0.0, 1.0), ("a blue video", 0.0, 1.0)
    ]  # fmt: skip
    assert [one["threshold"] for one in red["labels"]] == [0.0, 0.0]
    assert "scores" not in red
    assert (gone["path"], gone["windows"], gone["duration"], gone["segments"]) == ("gone.mp4", 0, None, [])
    assert "no such file" in gone["error"]
    assert "openxclip: gone.mp4: there is no such file" in ran.stderr
    assert "1 of 2 videos could not be read." in ran.stderr


def test_scores_of_all_windows(timeline: Run, clip_folder: Path) -> None:
    (row,) = rows(timeline(clip_folder / "red2.mp4", "--query", "red, or so", "--query", "blue", "--scores"))
    assert row["scores"]["start"] == [0.0, 0.2, 0.4, 0.6]
    assert {label: len(scores) for label, scores in row["scores"]["labels"].items()} == {"red, or so": 4, "blue": 4}
    best = {one["label"]: one["best"] for one in row["labels"]}
    assert best == {label: max(scores) for label, scores in row["scores"]["labels"].items()}


def test_csv_has_a_row_for_each_segment(timeline: Run, clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("red\n\nblue, and more\n", encoding="utf-8")
    labels = ("--labels-file", tmp_path / "labels.txt")
    ran = timeline(clip_folder / "red2.mp4", "gone.mp4", *labels, "--threshold", 0, "--format", "csv")
    first, second, gone = csv.DictReader(io.StringIO(ran.stdout))
    assert [first["label"], second["label"]] == ["red", "blue, and more"]
    assert float(first["start"]) <= float(first["peak"]) <= float(first["end"])
    assert (gone["path"], gone["label"], gone["error"]) == ("gone.mp4", "", "there is no such file: check the path")
    none = timeline(clip_folder / "red2.mp4", *labels, "--threshold", 1, "--format", "csv")
    assert none.stdout.splitlines() == ["path,label,start,end,score,peak,error"]


@pytest.mark.parametrize("columns", [20, 80])
def test_a_table_on_a_terminal(columns: int, timeline: Run, clip_folder: Path) -> None:
    video, label = clip_folder / "red2.mp4", "riding a bicycle downhill"
    ran = timeline(video, "--labels", f"{label}, [b]", "--threshold", 0, columns=columns)
    text = "".join(click.unstyle(ran.stdout).split())
    assert ran.returncode == 0, ran.stderr
    assert f"{video}(0:01.0)" in text
    assert text.count("0:01.0") == 3, "the duration, and the end of each segment"
    assert "ridingabicyc" in text
    assert "[b]" in text
    assert "…" not in ran.stdout


def test_without_segments_the_table_says_how_near_each_label_was(timeline: Run, clip_folder: Path) -> None:
    video = clip_folder / "red2.mp4"
    (row,) = rows(timeline(video, "--labels", "red, blue"))
    shown = timeline(video, "--labels", "red, blue", "--threshold", 0.99, columns=80)
    text = click.unstyle(shown.stdout)
    assert shown.returncode == 0
    assert "no segments" in text
    for one in row["labels"]:
        assert f"{one['label']}: its best score is {one['best']:.4f} at 0:00." in text
    assert text.count("0.9900 is needed.") == 2


def test_notes_are_said_once(run: Run, tiny_folder: Path, clip_folder: Path) -> None:
    ran = run("timeline", clip_folder, "--query", "red", "--model", tiny_folder, "--device", "cpu")
    assert ran.returncode == 0
    assert ran.stderr.count("states no window for timelines: windows of 10 s are used, one every 5 s") == 1
    assert ran.stderr.count("lasts 1 s, less than a window of 10 s") == 3, "with the name of each video"
    quiet = run("timeline", clip_folder, "--query", "red", "--model", tiny_folder, "--device", "cpu", "--quiet")
    assert quiet.stderr == ""
    assert quiet.stdout == ran.stdout


# -- what can't be done ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.mp4"], "--labels"),
        (["x.mp4", "--labels", "a", "--query", "b"], "one of them"),
        (["--labels", "a"], "no videos are named"),
        (["x.mp4", "--labels", " , "], "no labels"),
        (["x.mp4", "--labels", "a,a"], "'a' is given twice"),
        (["x.mp4", "--query", "a", "--window", "0"], "--window"),
        (["x.mp4", "--query", "a", "--threshold", "1.1"], "--threshold"),
        (["x.mp4", "--query", "a", "--threshold", "0.3", "--stop", "0.4"], "--stop 0.4: must not be above"),
        (["x.mp4", "--query", "a", "--scores", "--format", "csv"], "--scores goes with --json"),
        (["x.mp4", "--query", "a", "--shots", "y.mp4"], "put --shots without a value after the videos"),
        (["x.mp4", "--query", "a", "--contract", "/does/not/exist"], "/does/not/exist: can't be read"),
        (["x.mp4", "--query", "a", "--write", "x.doc"], "x.doc: its name must end with one of these"),
        (["x.mp4", "--query", "a", "--write", "x.json"], "x.json"),
        (["x.mp4", "y.mp4", "--query", "a", "--write", "x.vtt"], "put {stem} into the name"),
        (["x.mp4", "y.mp4", "--query", "a", "--plot", "x.png"], "put {stem} into the name"),
        (["x.mp4", "--query", "a", "--plot", "x.gif"], "must end with .png or .svg"),
        (["x.mp4", "--query", "a", "--write", "x.vtt", "--write", "./x.vtt"], "named twice"),
        (["--query", "a", "--in", "i", "--window", "3"], "--window doesn't go with --in"),
        (["--query", "a", "--in", "i", "--fps", "3"], "--fps doesn't go with --in"),
    ],
)
def test_usage_errors_come_before_any_work(
    run: Run, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(VideoPipeline, "from_pretrained", None)
    ran = run("timeline", *arguments, cwd=tmp_path)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_for_clips_must_be_empty(timeline: Run, clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.mp4").touch()
    ran = timeline(clip_folder / "red2.mp4", "--query", "red", "--save-clips", tmp_path)
    assert ran.returncode == 2
    assert "is not empty: choose another folder for the clips" in ran.stderr


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_of_one_and_of_several_videos(timeline: Run, clip_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ran = timeline(
        clip_folder, "--query", "red", "--threshold", 0, "--write", "{stem}.vtt", "--write", "label-studio:all.json",
        "--plot", "{stem}.svg", "--save-clips", "clips", cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    stems = ("blue", "red10", "red2")
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"all.json", "clips", *(f"{stem}.{end}" for stem in stems for end in ("vtt", "svg"))}
    assert len(json.loads((tmp_path / "all.json").read_text())) == 3
    assert "clips: 3 clips, " in ran.stderr
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == [
        f"{stem}_00-00-00.0_red.mp4" for stem in stems
    ]
    assert all(f"wrote {name}" in ran.stderr for name in made - {"clips"})


def test_videos_of_the_same_name_have_files_of_their_own(timeline: Run, clip_folder: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(clip_folder / "red2.mp4", tmp_path / folder)
    out = tmp_path / "out"
    out.mkdir()
    assert timeline(tmp_path, "--query", "red", "--write", "{stem}.srt", cwd=out).returncode == 0
    assert sorted(path.name for path in out.iterdir()) == ["red2-2.srt", "red2.srt"]


def test_a_file_that_can_no_longer_be_written(
    timeline: Run, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = TimelineFinder._find

    def loses_its_folder(*arguments: Any) -> Any:
        (tmp_path / "out").rmdir()
        yield from find(*arguments)

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(TimelineFinder, "_find", loses_its_folder)
    ran = timeline(
        clip_folder, "--query", "red", "--write", "out/all.otio", "--write", tmp_path / "all.jsonl", cwd=tmp_path
    )
    assert ran.returncode == 1
    assert len(rows(ran)) == 3
    assert "out/all.otio: there is no folder" in ran.stderr
    assert (tmp_path / "all.jsonl").exists()


def test_an_interruption_keeps_what_is_done(
    timeline: Run, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = TimelineFinder._find

    def is_interrupted(*arguments: Any) -> Any:
        for number, one in enumerate(find(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(TimelineFinder, "_find", is_interrupted)
    ran = timeline(
        clip_folder, "--query", "red", "--threshold", 0, "--write", "{stem}.srt", "--write", "label-studio:all.json",
        "--save-clips", "clips", cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 130
    assert len(rows(ran)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "blue.srt", "red2.srt"]
    assert len(json.loads((tmp_path / "all.json").read_text())) == 2


def test_a_video_that_is_cut_off_has_a_timeline_up_to_there(
    timeline: Run, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = VideoPipeline.encode_clips

    def breaks_off(*arguments: Any, **options: Any) -> Any:
        for number, clip in enumerate(encode(*arguments, **options)):
            if number == 2:
                yield type(clip)(source=clip.source, error=VideoError(clip.source, "it is cut off"))
                return
            yield clip

    monkeypatch.setattr(VideoPipeline, "encode_clips", breaks_off)
    out = tmp_path / "x.vtt"
    ran = timeline(clip_folder / "red2.mp4", "--query", "red", "--threshold", 0, "--write", out)
    (row,) = rows(ran)
    assert ran.returncode == 1
    assert (row["error"], row["segments"][0]["end"]) == ("it is cut off", 0.6)
    assert "red2.mp4: it is cut off" in ran.stderr
    assert "1 of 1 video could be read only in part." in ran.stderr
    assert "00:00:00.600" in out.read_text()


# -- shots and indexes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [["--shots"], ["--shots=exact"], ["--shots", "sampled"]])
def test_cuts_are_printed(option: list[str], timeline: Run, clip_folder: Path) -> None:
    pytest.importorskip("scenedetect")
    ran = timeline(clip_folder / "red2.mp4", "--query", "red", *option)
    assert ran.returncode == 0, ran.stderr
    (row,) = rows(ran)
    assert row["cuts"] == []
    assert "cuts" not in rows(timeline(clip_folder / "red2.mp4", "--query", "red"))[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in what reads and writes the index
def test_videos_of_an_index(run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    videos, index = Path(shutil.copytree(clip_folder, tmp_path / "videos")), tmp_path / "index"
    VideoIndex.open(index, model=tiny_folder, window=0.4, stride=0.2, device="cpu").add(videos)
    shutil.rmtree(videos)
    every = run("timeline", "--in", index, "--query", "red", "--device", "cpu")
    assert every.returncode == 0, every.stderr
    assert [os.path.basename(row["path"]) for row in rows(every)] == ["blue.mp4", "red10.mp4", "red2.mp4"]  # noqa: PTH119
    some = run("timeline", videos / "red*", "--in", index, "--query", "red", "--device", "cpu")
    assert [row["windows"] for row in rows(some)] == [4, 4]
    missing = run("timeline", videos / "green.mp4", "--in", index, "--query", "red", "--device", "cpu")
    assert missing.returncode == 1
    assert f"{videos / 'green.mp4'}: isn't in the index" in missing.stderr
    none = run("timeline", "--in", tmp_path / "none", "--query", "red")
    assert none.returncode == 1
    assert "there is no index" in none.stderr


# -- thresholds --------------------------------------------------------------------------------------------------------


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second of footage be enough to calibrate with."""
    monkeypatch.setattr("openxclip.timelines.calibration.SHORTEST", 0.5)


@pytest.mark.usefixtures("minute")
def test_thresholds_are_calibrated_saved_and_used(timeline: Run, clip_folder: Path, tmp_path: Path) -> None:
    video, place = clip_folder / "red2.mp4", tmp_path / "contract.json"
    ran = timeline("--calibrate", video, "--query", "red", "--false-alarms", "6/hour", "--save-to", place)
    assert ran.returncode == 0, ran.stderr
    (own,) = rows(ran)
    assert (own["label"], own["false_alarms_per_hour"], own["extrapolated"]) == ("red", 6.0, True)
    assert "extrapolated" in ran.stderr
    assert f"{place}: has the thresholds" in ran.stderr
    (found,) = rows(timeline(video, "--labels", "red, blue", "--contract", place))
    assert [one["threshold"] for one in found["labels"]] == [own["threshold"], 0.5]
    shown = click.unstyle(timeline("--calibrate", video, "--query", "red", columns=80).stdout)
    assert "red" in shown
    assert "extrapolated" in shown


@pytest.mark.usefixtures("minute")
def test_calibrating_with_a_video_that_is_missing(timeline: Run, clip_folder: Path, tmp_path: Path) -> None:
    ran = timeline(
        "--calibrate", clip_folder / "red2.mp4", "gone.mp4", "--query", "red", "--save-to", tmp_path / "c.json"
    )
    assert ran.returncode == 1
    assert len(rows(ran)) == 1
    assert "gone.mp4: there is no such file" in ran.stderr
    none = timeline("--calibrate", "gone.mp4", "--query", "red")
    assert none.returncode == 1
    assert none.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--false-alarms", "often"], "--false-alarms goes with --calibrate"),
        (["--calibrate", "--false-alarms", "often"], "--false-alarms 'often': must be a number above 0 per hour"),
        (["--calibrate", "--save-to", "x.txt"], "must end with .json"),
        (["--calibrate", "--plot", "x.png"], "--plot doesn't go with --calibrate"),
        (["--calibrate", "--threshold", "0"], "--threshold doesn't go with --calibrate"),
    ],
)
def test_usage_errors_of_calibrating(
    run: Run, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(VideoPipeline, "from_pretrained", None)
    ran = run("timeline", "x.mp4", "--query", "red", *arguments, cwd=tmp_path)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_too_little_footage_to_calibrate_with(timeline: Run, clip_folder: Path) -> None:
    ran = timeline("--calibrate", clip_folder / "red2.mp4", "--query", "red")
    assert ran.returncode == 2
    assert "there is only 0:01.0 of footage to calibrate with" in ran.stderr
