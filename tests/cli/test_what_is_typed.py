"""Input of users: names, videos on standard input, empty folders, times and formats; and help."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from openxclip.cli.main import cli
from openxclip.cli.names import names_from
from openxclip.common.times import format_time, parse_time

Run = Callable[..., Any]
VERBS = cli.list_commands(click.Context(cli))
TAKES_NAMES = {
    "classify": ["--labels", "a", "--model", "mini"],
    "embed": ["--out", "{out}/f.npz", "--model", "mini"],
    "timeline": ["--query", "a", "--model", "mini"],
    "check": [],
    "info": [],
    "index": ["--to", "{out}/index", "--model", "mini"],
}


class Bytes(io.StringIO):
    """A text stream of these bytes."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.buffer = io.BytesIO(content)


# -- standard input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", TAKES_NAMES)
def test_a_video_on_standard_input_is_not_names(
    verb: str, run: Run, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (clip_folder / "red2.mp4").read_bytes().decode("utf-8", "surrogateescape")
    arguments = [argument.format(out=tmp_path) for argument in TAKES_NAMES[verb]]
    ran = run(verb, "-", *arguments, stdin=content)
    assert ran.returncode == 2
    instead = "save it to a file first" if verb == "index" else "use /dev/stdin instead of -"
    assert ran.stderr.splitlines()[-1] == f"Error: standard input is video, not names: {instead}."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x00\x00\x20ftypisom\x00\x00",
        b"\x1aE\xdf\xa3\x01\x00\x00\x00",
        b".RMF\x00\x00\x00\x12",
        b"nut/multimedia container\x00NM",
        b"CWS\x0a\x00\x00",
        b"II*\x00\x08\x00",
        b"P5 16 12 255\n\xff\x00",
        b"RIFF\x10\x00\x00\x00AVI LIST",
        b"FLV\x01\x05\x00\x00\x00\x09",
        b"\x00\x00\x01\xba\x44\x00",
        (b"G\x40\x00\x10" + bytes(184)) * 3,
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b"YUV4MPEG2 W64 H64\nFRAME\n\x00\x10",
    ],
)
def test_first_bytes_of_videos_are_recognised(content: bytes) -> None:
    with pytest.raises(click.UsageError, match="is video, not names"):
        list(names_from(Bytes(content), takes_pipes=True))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a.mp4\r\n".encode("utf-16"), "UTF-16"),
        (b"a.mp4\0b.mp4\0", "end with NUL"),
        (bytes(range(256)) * 8, "is not text"),
    ],
)
def test_other_bytes_on_standard_input_are_refused(content: bytes, told: str) -> None:
    with pytest.raises(click.UsageError, match=told):
        list(names_from(Bytes(content), takes_pipes=True))


@pytest.mark.parametrize("stream", [Bytes, lambda content: io.StringIO(content.decode("utf-8", "surrogateescape"))])
def test_names_on_standard_input(stream: Callable[[bytes], io.StringIO]) -> None:
    content = b"\xef\xbb\xbfa.mp4\r\n\n  b c.mp4 \nRIFF.avi\nGarden.mp4\n\xff.mp4\nlast"
    names = list(names_from(stream(content), takes_pipes=True))
    assert names == ["a.mp4", "b c.mp4", "RIFF.avi", "Garden.mp4", "\udcff.mp4", "last"]
    many = [f"{number:04}.mp4" for number in range(3000)]  # more than what is looked at
    assert list(names_from(stream("\n".join(many).encode()), takes_pipes=True)) == many
    assert list(names_from(stream(b""), takes_pipes=True)) == []


# -- folders without videos --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", TAKES_NAMES)
def test_an_empty_folder(verb: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "in/below").mkdir(parents=True)
    (tmp_path / "in/readme.txt").write_text("no video")
    (tmp_path / "out").mkdir()
    arguments = [argument.format(out=tmp_path / "out") for argument in TAKES_NAMES[verb]]
    ran = run(verb, tmp_path / "in", *arguments)
    assert ran.returncode in (1, 2)
    told = f"{tmp_path / 'in'}: it contains no videos" if verb == "info" else f"no videos in {tmp_path / 'in'}"
    assert told in ran.stderr
    assert list((tmp_path / "out").iterdir()) == [], "nothing that blocks the next run"


def test_an_empty_folder_among_videos(run: Run, clip_folder: Path, tmp_path: Path) -> None:
    ran = run("check", tmp_path, clip_folder, "--quick")
    assert ran.returncode == 1
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["error"] is None for line in lines] == [False, True, True, True]


def test_embed_writes_nothing_if_no_video_can_be_read(
    run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "f.npz"
    arguments = ("--out", out, "--model", tiny_folder, "--device", "cpu")
    failed = run("embed", tmp_path / "mistyped.mp4", *arguments)
    assert failed.returncode == 1
    assert f"1 of 1 video could not be read, and {out} was not written" in failed.stderr
    assert list(tmp_path.iterdir()) == []
    done = run("embed", clip_folder / "red2.mp4", *arguments)
    assert done.returncode == 0, done.stderr
    assert "1 row of 16 numbers from 1 video" in done.stdout


# -- times -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 0.1, 9.9, 59.9, 60.0, 83.5, 3599.9, 3600.0, 3602.5, 360_000.0])
def test_times_are_read_as_they_are_shown(seconds: float) -> None:
    assert parse_time(format_time(seconds)) == pytest.approx(seconds)
    assert parse_time(f"{seconds:.6g}") == pytest.approx(seconds)


def test_times_that_are_rounded_up() -> None:
    assert format_time(59.96) == "1:00.0"
    assert format_time(3599.97) == "1:00:00.0"


@pytest.mark.parametrize("text", ["", "x", "1:", ":5", "1:60", "1:2:3:4", "1:60:00", "-1", "nan", "inf", "1e3", "1,5"])
def test_invalid_times_are_refused(text: str, run: Run) -> None:
    with pytest.raises(ValueError, match=r"write seconds \(83.5\) or h:mm:ss.s"):
        parse_time(text)
    ran = run("classify", "x.mp4", "--labels", "a", f"--start={text}")
    assert ran.returncode == 2
    assert "--start" in ran.stderr
    assert repr(text) in ran.stderr


def test_start_and_end_select_a_part_of_a_video(run: Run, clip_folder: Path, tiny_folder: Path) -> None:
    arguments = ("classify", clip_folder / "red10.mp4", "--labels", "a, b", "--model", tiny_folder, "--device", "cpu")
    one, other = (run(*arguments, "--start", start, "--end", end) for start, end in (("0.5", "1"), ("0:00.5", "0:01")))
    assert one.returncode == 0, one.stderr
    assert one.stdout == other.stdout
    assert json.loads(one.stdout)["times"][0][0] >= 0.5


def test_info_shows_times_as_they_are_typed(run: Run, clip_folder: Path) -> None:
    shown = run("info", clip_folder / "red2.mp4", columns=100).stdout
    (duration,) = re.findall(r"duration +(\S+)", click.unstyle(shown))
    assert parse_time(duration) == pytest.approx(
        json.loads(run("info", clip_folder / "red2.mp4").stdout)["duration"], abs=0.05
    )


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["models"], ["profile", "mini"]])
def test_formats_of_models_and_profile(arguments: list[str], run: Run) -> None:
    lines = run(*arguments, "--format", "jsonl")
    assert lines.returncode == 0, lines.stderr
    assert lines.stdout == run(*arguments, "--json").stdout == run(*arguments).stdout
    assert all(isinstance(json.loads(line), dict) for line in lines.stdout.splitlines())
    table = run(*arguments, "--format", "table")
    assert table.returncode == 0, table.stderr
    assert click.unstyle(run(*arguments, columns=80).stdout).split() == click.unstyle(table.stdout).split()
    rows = list(csv.reader(io.StringIO(run(*arguments, "--format", "csv").stdout)))
    assert len({len(row) for row in rows}) == 1, "a header, and rows of as many columns"
    both = run(*arguments, "--json", "--format", "csv")
    assert both.returncode == 2
    assert "--json is short for --format jsonl" in both.stderr


def test_formats_of_videos(run: Run, clip_folder: Path) -> None:
    line = json.loads(run("info", clip_folder / "red2.mp4").stdout)
    checked = list(csv.DictReader(io.StringIO(run("check", clip_folder, "--quick", "--format", "csv").stdout)))
    assert len(checked) == 3
    assert set(checked[0]) == set(line)
    facts = csv.DictReader(io.StringIO(run("info", clip_folder / "red2.mp4", "--format", "csv").stdout))
    assert {row["name"]: row["value"] for row in facts}["frames"] == str(line["frames"])


def test_labels_as_csv(run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    video = shutil.copy(clip_folder / "red2.mp4", tmp_path / 'a, "b".mp4')
    arguments = ("classify", video, tmp_path / "none.mp4", "--labels", "red, blue", "--model", tiny_folder)
    ran = run(*arguments, "--device", "cpu", "--format", "csv")
    first, second, unread = csv.DictReader(io.StringIO(ran.stdout))
    assert first["path"] == second["path"] == str(video)
    assert {first["label"], second["label"]} == {"red", "blue"}
    assert float(first["probability"]) + float(second["probability"]) == pytest.approx(1, abs=1e-5)
    assert float(first["none_of_these"]) == pytest.approx(1 - float(first["score"]), abs=1e-5)
    assert unread["error"]
    assert unread["label"] == unread["score"] == ""


# -- help and messages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_splits_no_word_and_fits_the_terminal(
    verb: str, columns: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: type("Size", (), {"columns": columns, "lines": 25})())
    shown = run(*filter(None, [verb]), "--help").stdout
    wide_columns = 500
    monkeypatch.setattr(
        shutil, "get_terminal_size", lambda *_: type("Size", (), {"columns": wide_columns, "lines": 25})()
    )
    command = cli if not verb else cli.get_command(click.Context(cli), verb)
    assert command is not None
    context = command.context_class(command, info_name=verb, terminal_width=500, max_content_width=500)
    words = set(re.findall(r"\S+", command.get_help(context)))
    assert max(map(len, shown.splitlines())) <= columns
    body = shown.split("\n", 1)[1]  # after the usage, which names the program otherwise
    assert set(re.findall(r"\S+", body)) <= words, "each word is there as it is without line breaks"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["classify", "x.mp4", "--labels", "a", "--start", "5", "--end", "3"], "--end 3.0: must be after --start 5."),
        (["embed", "x.mp4", "--out", "f.npz", "--stride", "2"], "--stride 2 is from one window to the next"),
        (["embed", "x.mp4", "--out", "f.npz", "--window", "0"], "--window"),
    ],
)
def test_errors_name_options_as_they_are_typed(arguments: list[str], told: str, run: Run) -> None:
    ran = run(*arguments)
    assert ran.returncode == 2
    assert told in ran.stderr
    assert not re.search(r"\b(num_frames|start|end|stride|window)=", ran.stderr)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_can_be_quiet(verb: str, run: Run) -> None:
    assert "-q, --quiet" in run(verb, "--help").stdout


@pytest.mark.slow
def test_counts_of_one_are_singular(run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    video = clip_folder / "red2.mp4"
    cpu = ("--model", tiny_folder, "--device", "cpu")
    shown = [
        run("check", video, tmp_path / "none.mp4", columns=80),
        run("embed", video, "--out", tmp_path / "f.npz", *cpu),
        run("classify", tmp_path / "none.mp4", "--labels", "a", *cpu),
        run("playground", "--clips", 1, "--size", 32, "--seconds", 0.2, "--out", tmp_path / "made"),
        run("info", video, tiny_folder, columns=80),
        run("profile", tiny_folder, "--frames", 1, "--texts", 1, columns=80),
    ]
    for ran in shown:
        assert not re.search(r"\b1 \w+s\b(?! the)", click.unstyle(ran.stdout + ran.stderr).replace("1 of 1", "")), ran
