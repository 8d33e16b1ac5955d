"""Public datasets, by their annotation files as they are distributed: Kinetics, UCF-101, HMDB-51 and MSR-VTT.

The videos are found by their names, wherever below the folder of videos they lie: with class folders and without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from openxclip.datasets.files import (
    Scan,
    VideoIndex,
    called,
    chosen_split,
    entries,
    gathered,
    is_folder,
    numbered_lines,
    read_text,
    split_called,
    subfolders,
)
from openxclip.datasets.labels import Names, class_names
from openxclip.datasets.lists import csv_rows
from openxclip.datasets.samples import Dataset, DatasetError, Sample
from openxclip.video import natural_key

# ------------------------------------------------------------------------------------------------------------- Kinetics

_KINETICS_COLUMNS = {"youtube_id", "time_start", "time_end"}


@dataclass(frozen=True)
class _Clip:
    where: str
    split: str
    label: str
    youtube_id: str
    start: int
    end: int


def open_kinetics(
    path: Path, *, videos: Path | None, split: str | None, names: Names | None, scan: Scan | None = None
) -> Dataset:
    """Kinetics-400, -600 or -700: a CSV `label,youtube_id,time_start,time_end,split`, or a folder of such.

    Arguments and errors are as for `open_dataset`. `ID_SSSSSS_EEEEEE.mp4` is the clip, from start to end in six digits;
    `ID.mp4` is the whole video on YouTube, of which the clip is the stretch from start to end.
    """
    clips = [clip for table in kinetics_tables(path) for clip in _kinetics_clips(table)]
    if not clips:
        raise DatasetError(
            f"{path}: has no CSV of Kinetics, with the columns label,youtube_id,time_start,time_end,split."
        )
    chosen = chosen_split(split, _in_order({clip.split for clip in clips}), path)
    raw = sorted({clip.label for clip in clips} - {""})
    classes, number = class_names(raw, names), {label: i for i, label in enumerate(raw)}
    root = videos or (path if is_folder(path) else path.parent)
    index = VideoIndex(root, scan)
    found = []
    for clip in clips:
        if clip.split != chosen:
            continue
        if not clip.label:
            raise DatasetError(f"{clip.where}: the split {chosen} has no labels: choose another.")
        name = f"{clip.youtube_id}_{clip.start:06}_{clip.end:06}.mp4"
        video = index.find(f"{clip.label}/{name}", f"{clip.label}/{clip.youtube_id}.mp4")
        stretch = (float(clip.start), float(clip.end)) if video.stem == clip.youtube_id else (None, None)
        found.append((clip.where, Sample(str(video), number[clip.label], None, *stretch)))
    return gathered(f"{called(path)}/{chosen}" if is_folder(path) else path.stem, root, found, classes=classes)


def kinetics_splits(path: Path) -> tuple[str, ...]:
    """The splits that the tables have."""
    return _in_order({clip.split for table in kinetics_tables(path) for clip in _kinetics_clips(table)})


def kinetics_tables(path: Path) -> list[Path]:
    """The CSV files of Kinetics that a path means: itself, or those in a folder or in a folder in it; [] if none."""
    files = [file for folder in (path, *subfolders(path)) for file in entries(folder)] if is_folder(path) else [path]
    return [file for file in files if file.suffix.lower() == ".csv" and file.is_file() and _has_kinetics_columns(file)]


def _has_kinetics_columns(table: Path) -> bool:
    try:
        with table.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(1000)
    except OSError as error:
        raise DatasetError(f"{table}: can't be read: {error.strerror or error}.") from error
    return {name.strip(' "\r\n').lower() for name in header.split(",")} >= _KINETICS_COLUMNS


def _kinetics_clips(table: Path) -> Iterator[_Clip]:
    of_file = split_called(re.split(r"[-_. ]", table.stem)[-1]) or table.stem
    for where, fields in csv_rows(table, _KINETICS_COLUMNS):
        times = [fields["time_start"], fields["time_end"]]
        if not all(re.fullmatch(r"[0-9]{1,9}(\.0*)?", time) for time in times):
            raise DatasetError(f"{where}: the times must be whole seconds, and are {' and '.join(map(repr, times))}.")
        start, end = (int(float(time)) for time in times)
        if not fields["youtube_id"] or end <= start:
            raise DatasetError(f"{where}: the video {fields['youtube_id']!r} from {start} to {end} s is no clip.")
        split = fields.get("split") or of_file
        yield _Clip(where, split_called(split) or split, fields.get("label", ""), fields["youtube_id"], start, end)


# -------------------------------------------------------------------------------------------------------------- UCF-101


def open_ucf101(
    path: Path, *, videos: Path | None, split: str | None, fold: int, names: Names | None, scan: Scan | None = None
) -> Dataset:
    """UCF-101: `classInd.txt`, `trainlist01.txt` and `testlist01.txt`, …; arguments as for `open_dataset`."""
    lists = ucf101_lists(path)
    if lists is None:
        raise DatasetError(f"{path}: has no classInd.txt in it, nor in a folder in it such as ucfTrainTestlist.")
    chosen = chosen_split(split, ("train", "test"), path)
    raw: list[str] = []
    for line, text in numbered_lines(lists / "classInd.txt"):
        fields = text.split()
        if len(fields) != 2 or fields[0] != str(len(raw) + 1):
            raise DatasetError(
                f"{lists / 'classInd.txt'}, line {line}: must be {len(raw) + 1} and a name, and is {text!r}."
            )
        raw.append(fields[1])
    number = {name.casefold(): i for i, name in enumerate(raw)}
    root = videos or _first_folder(lists.parent / "UCF-101", lists / "UCF-101", path)
    index, table, found = VideoIndex(root, scan), lists / f"{chosen}list{_checked_fold(fold):02}.txt", []
    for line, text in numbered_lines(table):
        where = f"{table}, line {line}"
        name, label = re.fullmatch(r"(.*?)(?:\s+(\d+))?", text).groups()  # type: ignore[union-attr]  # fits any line
        of_class = PurePosixPath(name).parts[0]
        if of_class.casefold() not in number or "/" not in name:
            raise DatasetError(f"{where}: must be CLASS/VIDEO, with a class of classInd.txt, and is {name!r}.")
        place = number[of_class.casefold()]
        if label is not None and label != str(place + 1):
            raise DatasetError(
                f"{where}: has the label {label}, but classInd.txt gives {of_class} the number {place + 1}."
            )
        found.append((where, Sample(str(index.find(name, any_case=True)), place)))
    return gathered(f"ucf101/{chosen}{fold}", root, found, classes=class_names(raw, names))


def ucf101_lists(path: Path) -> Path | None:
    """The folder that has `classInd.txt` in it: this one or one in it; None if there is none."""
    return _folder_with(path, r"classInd\.txt")


# -------------------------------------------------------------------------------------------------------------- HMDB-51

_HMDB51_PARTS = {"0": None, "1": "train", "2": "test"}  # as the splits' own readme says; 0 is in neither


def open_hmdb51(
    path: Path, *, videos: Path | None, split: str | None, fold: int, names: Names | None, scan: Scan | None = None
) -> Dataset:
    """HMDB-51: a list for each class, such as `brush_hair_test_split1.txt`; arguments as for `open_dataset`."""
    lists = hmdb51_lists(path)
    if lists is None:
        raise DatasetError(
            f"{path}: has no lists CLASS_test_split1.txt, nor a folder testTrainMulti_7030_splits in it."
        )
    chosen, ending = chosen_split(split, ("train", "test"), path), f"_test_split{_checked_fold(fold)}.txt"
    tables = {file.name.removesuffix(ending): file for file in entries(lists) if file.name.endswith(ending)}
    if not tables:
        raise DatasetError(f"{lists}: has no lists CLASS{ending}.")
    raw = sorted(tables)
    root = videos or _first_folder(*(lists.parent / name for name in ("hmdb51_org", "hmdb51", "videos")), path)
    index, found = VideoIndex(root, scan), []
    for number, name in enumerate(raw):
        for line, text in numbered_lines(tables[name]):
            where, parts = f"{tables[name]}, line {line}", text.rsplit(maxsplit=1)
            if len(parts) < 2 or parts[1] not in _HMDB51_PARTS:
                raise DatasetError(f"{where}: must be a video and 0, 1 or 2, and is {text!r}.")
            if _HMDB51_PARTS[parts[1]] == chosen:
                found.append((where, Sample(str(index.find(f"{name}/{parts[0]}", any_case=True)), number)))
    return gathered(f"hmdb51/{chosen}{fold}", root, found, classes=class_names(raw, names))


def hmdb51_lists(path: Path) -> Path | None:
    """The folder that has the lists of the classes in it: this one or one in it; None if there is none."""
    return _folder_with(path, r".+_test_split[123]\.txt")


# -------------------------------------------------------------------------------------------------------------- MSR-VTT

_MSR_VTT_JSON = r"(?i)msr_?vtt_data\.json|(train_val|train|val|test)_videodatainfo.*\.json"
_MSR_VTT_1K_A, _MSR_VTT_9K = r"(?i)msr_?vtt_jsfusion_test\.csv", r"(?i)msr_?vtt_train\.9k\.csv"


def open_msr_vtt(path: Path, *, videos: Path | None, split: str | None, scan: Scan | None = None) -> Dataset:
    """MSR-VTT: a sample for each caption of each video; arguments and errors as for `open_dataset`.

    Splits are "train", "val" and "test" of the JSON files; "1k-A", the 1,000 pairs on which retrieval is usually
    tested, of `MSRVTT_JSFUSION_test.csv`; and "9k", the videos trained on for it, of `MSRVTT_train.9k.csv`.
    """
    pairs = _msr_vtt_pairs(path)
    chosen = chosen_split(split, tuple(pairs), path)
    root = videos or (path if is_folder(path) else path.parent)
    index = VideoIndex(root, scan)
    places = {video: str(index.find(f"{video}.mp4")) for _, video, _ in pairs[chosen]}
    found = [(where, Sample(places[video], text=caption)) for where, video, caption in pairs[chosen] if caption]
    problems = [f"{where}: {video} has no caption" for where, video, caption in pairs[chosen] if not caption]
    return gathered(f"msr-vtt/{chosen}", root, found, problems=problems)


def msr_vtt_splits(path: Path) -> tuple[str, ...]:
    """The splits that the files have."""
    return tuple(_msr_vtt_pairs(path))


def msr_vtt_files(path: Path) -> list[Path]:
    """The annotation files of MSR-VTT that a path means: itself, or those in a folder or in a folder in it."""
    files = [file for folder in (path, *subfolders(path)) for file in entries(folder)] if is_folder(path) else [path]
    return [
        file
        for file in files
        if any(re.fullmatch(kind, file.name) for kind in (_MSR_VTT_JSON, _MSR_VTT_1K_A, _MSR_VTT_9K))
    ]


def _msr_vtt_pairs(path: Path) -> dict[str, list[tuple[str, str, str]]]:
    """Of each split, for each caption where it stands, its video, and the caption, "" where a video has none."""
    files = msr_vtt_files(path)
    if not files:
        raise DatasetError(
            f"{path}: has no train_val_videodatainfo.json, MSRVTT_data.json or MSRVTT_JSFUSION_test.csv."
        )
    tables = [file for file in files if file.suffix.lower() == ".json"]
    whole = [file for file in tables if "videodatainfo" not in file.name]  # has what the others have
    split_of: dict[str, str] = {}
    captions: dict[str, list[tuple[str, str]]] = {}
    for table in whole[:1] or tables:
        splits, sentences = _read_msr_vtt(table)
        split_of.update(splits)
        for video, caption in sentences:
            captions.setdefault(video, []).append((f"{table}, {video}", caption))
    videos: dict[str, list[tuple[str, str]]] = {}  # of each split, each with where it is named
    for split in _in_order(set(split_of.values())):
        videos[split] = [(str(path), video) for video in sorted(split_of, key=natural_key) if split_of[video] == split]
    pairs: dict[str, list[tuple[str, str, str]]] = {}
    for file in files:
        if re.fullmatch(_MSR_VTT_9K, file.name) and captions:
            videos["9k"] = [(where, fields["video_id"]) for where, fields in csv_rows(file, {"video_id"})]
        elif re.fullmatch(_MSR_VTT_1K_A, file.name):
            rows = csv_rows(file, {"video_id", "sentence"})
            pairs["1k-A"] = [(where, fields["video_id"], fields["sentence"]) for where, fields in rows]
    for split, named in videos.items():
        pairs[split] = [
            (at, video, caption) for where, video in named for at, caption in captions.get(video, [(where, "")])
        ]
    return {split: pairs[split] for split in (*videos, "1k-A") if split in pairs}


def _read_msr_vtt(table: Path) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The split of each video, and videos with their captions."""
    try:
        content: Any = json.loads(read_text(table))
        splits = {str(video["video_id"]): str(video["split"]) for video in content["videos"]}
        pairs = [(str(one["video_id"]), str(one["caption"]).strip()) for one in content["sentences"]]
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{table}: is not JSON ({error}).") from error
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{table}: is not as MSR-VTT's files are, with videos (video_id, split) and sentences (video_id, caption): "
            f"{error} is missing or of another kind."
        ) from error
    return {video: split_called(split) or split for video, split in splits.items()}, pairs


# -------------------------------------------------------------------------------------------------------------- shared


def _in_order(splits: set[str]) -> tuple[str, ...]:
    known = ("train", "val", "test")
    return (*(split for split in known if split in splits), *sorted(splits - set(known)))


def _checked_fold(fold: int) -> int:
    if fold not in (1, 2, 3):
        raise ValueError(f"fold={fold} must be 1, 2 or 3: the datasets have three official splits.")
    return fold


def _folder_with(path: Path, pattern: str) -> Path | None:
    """The folder itself, or one in it, that has a file whose name is of a pattern."""
    folders = [path, *subfolders(path)] if is_folder(path) else []
    return next((each for each in folders if any(re.fullmatch(pattern, file.name) for file in entries(each))), None)


def _first_folder(*folders: Path) -> Path:
    return next((folder for folder in folders if is_folder(folder)), folders[-1])
