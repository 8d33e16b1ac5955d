"""Read Kinetics, UCF-101, HMDB-51 and MSR-VTT from their official annotation files.

Videos are found by name at any depth below the folder of videos, with or without class folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from openxclip.common.files import cannot_read
from openxclip.datasets.files import base_name, candidate_files, candidate_folders, entries, is_folder
from openxclip.datasets.labels import class_names
from openxclip.datasets.request import Request
from openxclip.datasets.samples import Dataset, Sample, build_dataset
from openxclip.datasets.splits import sort_splits, split_of_name
from openxclip.datasets.text import DatasetError, numbered_lines, read_csv, read_json
from openxclip.video import natural_key

# ------------------------------------------------------------------------------------------------------------- Kinetics

_KINETICS_COLUMNS = {"youtube_id", "time_start", "time_end"}


@dataclass(frozen=True)
class _Clip:
    place: str
    split: str
    label: str
    youtube_id: str
    start: int
    end: int


def open_kinetics(request: Request) -> Dataset:
    """Open Kinetics-400, -600 or -700: CSV files `label,youtube_id,time_start,time_end,split`; see `open_dataset`.

    `ID_SSSSSS_EEEEEE.mp4` is a clip, with its start and end in six digits. `ID.mp4` is the whole YouTube video, whose
    segment from start to end is the sample.
    """
    path = request.path
    clips = [clip for table in kinetics_tables(path) for clip in _read_kinetics(table)]
    if not clips:
        raise DatasetError(
            f"{path}: has no CSV of Kinetics, with the columns label,youtube_id,time_start,time_end,split."
        )
    chosen = request.choose_split(sort_splits(clip.split for clip in clips))
    raw = sorted({clip.label for clip in clips} - {""})
    classes, index_of = class_names(raw, request.names), {label: i for i, label in enumerate(raw)}
    finder = request.video_finder()
    samples = []
    for clip in clips:
        if clip.split != chosen:
            continue
        if not clip.label:
            raise DatasetError(f"{clip.place}: the split {chosen} has no labels: choose another.")
        name = f"{clip.youtube_id}_{clip.start:06}_{clip.end:06}.mp4"
        video = finder.find(f"{clip.label}/{name}", f"{clip.label}/{clip.youtube_id}.mp4")
        times = (float(clip.start), float(clip.end)) if video.stem == clip.youtube_id else (None, None)
        samples.append((clip.place, Sample(str(video), index_of[clip.label], None, *times)))
    name = f"{base_name(path)}/{chosen}" if is_folder(path) else path.stem
    return build_dataset(name, finder.root, samples, classes=classes)


def kinetics_splits(path: Path) -> tuple[str, ...]:
    """Return the splits in the tables."""
    return sort_splits(clip.split for table in kinetics_tables(path) for clip in _read_kinetics(table))


def kinetics_tables(path: Path) -> list[Path]:
    """Return the CSV files of Kinetics in a folder and its subfolders, or the file itself; [] if there are none."""
    tables = [file for file in candidate_files(path) if file.suffix.lower() == ".csv" and file.is_file()]
    return [table for table in tables if _has_kinetics_columns(table)]


def _has_kinetics_columns(table: Path) -> bool:
    try:
        with table.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(1000)
    except OSError as error:
        raise DatasetError(cannot_read(table, error)) from error
    return {name.strip(' "\r\n').lower() for name in header.split(",")} >= _KINETICS_COLUMNS


def _read_kinetics(table: Path) -> Iterator[_Clip]:
    file_split = split_of_name(re.split(r"[-_. ]", table.stem)[-1]) or table.stem
    for place, fields in read_csv(table, _KINETICS_COLUMNS):
        times = [fields["time_start"], fields["time_end"]]
        if not all(re.fullmatch(r"[0-9]{1,9}(\.0*)?", time) for time in times):
            raise DatasetError(f"{place}: the times must be whole seconds, but are {' and '.join(map(repr, times))}.")
        start, end = (int(float(time)) for time in times)
        if not fields["youtube_id"] or end <= start:
            raise DatasetError(f"{place}: the video {fields['youtube_id']!r} from {start} to {end} s isn't valid.")
        split = fields.get("split") or file_split
        yield _Clip(place, split_of_name(split) or split, fields.get("label", ""), fields["youtube_id"], start, end)


# -------------------------------------------------------------------------------------------------------------- UCF-101


def open_ucf101(request: Request) -> Dataset:
    """Open UCF-101: `classInd.txt` beside `trainlist01.txt`, `testlist01.txt`, …; see `open_dataset`."""
    path, lists = request.path, ucf101_lists(request.path)
    if lists is None:
        raise DatasetError(f"{path}: has no classInd.txt, and neither have its subfolders, such as ucfTrainTestlist.")
    chosen, fold = request.choose_split(("train", "test")), request.fold
    raw: list[str] = []
    for place, line in numbered_lines(lists / "classInd.txt"):
        fields = line.split()
        if len(fields) != 2 or fields[0] != str(len(raw) + 1):
            raise DatasetError(f"{place}: must be {len(raw) + 1} and a name, but is {line!r}.")
        raw.append(fields[1])
    index_of = {name.casefold(): i for i, name in enumerate(raw)}
    finder = request.video_finder(lists.parent / "UCF-101", lists / "UCF-101")
    samples = []
    for place, line in numbered_lines(lists / f"{chosen}list{fold:02}.txt"):
        name, number = re.fullmatch(r"(.*?)(?:\s+(\d+))?", line).groups()  # type: ignore[union-attr]  # fits any line
        label = PurePosixPath(name).parts[0]
        if label.casefold() not in index_of or "/" not in name:
            raise DatasetError(f"{place}: must be CLASS/VIDEO, with a class of classInd.txt, but is {name!r}.")
        index = index_of[label.casefold()]
        if number is not None and number != str(index + 1):
            raise DatasetError(f"{place}: has the label {number}, but {label} is number {index + 1} in classInd.txt.")
        samples.append((place, Sample(str(finder.find(name, any_case=True)), index)))
    return build_dataset(f"ucf101/{chosen}{fold}", finder.root, samples, classes=class_names(raw, request.names))


def ucf101_lists(path: Path) -> Path | None:
    """Return the folder with `classInd.txt`: this folder or a subfolder; None if there is none."""
    return _folder_with(path, r"classInd\.txt")


# -------------------------------------------------------------------------------------------------------------- HMDB-51

_HMDB51_SPLITS = {"0": None, "1": "train", "2": "test"}  # from the readme of the splits; 0 is in neither


def open_hmdb51(request: Request) -> Dataset:
    """Open HMDB-51: a list for each class, such as `brush_hair_test_split1.txt`; see `open_dataset`."""
    path, lists = request.path, hmdb51_lists(request.path)
    if lists is None:
        raise DatasetError(f"{path}: has neither lists CLASS_test_split1.txt nor a folder testTrainMulti_7030_splits.")
    chosen, fold = request.choose_split(("train", "test")), request.fold
    ending = f"_test_split{fold}.txt"
    tables = {file.name.removesuffix(ending): file for file in entries(lists) if file.name.endswith(ending)}
    if not tables:
        raise DatasetError(f"{lists}: has no lists CLASS{ending}.")
    raw = sorted(tables)
    finder = request.video_finder(*(lists.parent / name for name in ("hmdb51_org", "hmdb51", "videos")))
    samples = []
    for index, label in enumerate(raw):
        for place, line in numbered_lines(tables[label]):
            parts = line.rsplit(maxsplit=1)
            if len(parts) < 2 or parts[1] not in _HMDB51_SPLITS:
                raise DatasetError(f"{place}: must be a video and 0, 1 or 2, but is {line!r}.")
            if _HMDB51_SPLITS[parts[1]] == chosen:
                samples.append((place, Sample(str(finder.find(f"{label}/{parts[0]}", any_case=True)), index)))
    return build_dataset(f"hmdb51/{chosen}{fold}", finder.root, samples, classes=class_names(raw, request.names))


def hmdb51_lists(path: Path) -> Path | None:
    """Return the folder with the lists of the classes: this folder or a subfolder; None if there is none."""
    return _folder_with(path, r".+_test_split[123]\.txt")


def _folder_with(path: Path, pattern: str) -> Path | None:
    """Return the folder or the first subfolder that contains a file whose name matches a pattern."""
    for folder in candidate_folders(path):
        if any(re.fullmatch(pattern, file.name) for file in entries(folder)):
            return folder
    return None


# -------------------------------------------------------------------------------------------------------------- MSR-VTT

_MSR_VTT_JSON = re.compile(r"(?i)msr_?vtt_data\.json|(train_val|train|val|test)_videodatainfo.*\.json")
_MSR_VTT_1K_A = re.compile(r"(?i)msr_?vtt_jsfusion_test\.csv")
_MSR_VTT_9K = re.compile(r"(?i)msr_?vtt_train\.9k\.csv")
_Caption = tuple[str, str, str]  # place, video, caption; the caption is "" if the video has none


def open_msr_vtt(request: Request) -> Dataset:
    """Open MSR-VTT, with a sample for each caption of each video; see `open_dataset`.

    The splits are "train", "val" and "test" of the JSON files; "1k-A", the 1,000 pairs of `MSRVTT_JSFUSION_test.csv` on
    which retrieval is usually tested; and "9k", the training videos of `MSRVTT_train.9k.csv` that go with it.
    """
    captions = _read_captions(request.path)
    chosen = request.choose_split(captions)
    finder = request.video_finder()
    paths = {video: str(finder.find(f"{video}.mp4")) for _, video, _ in captions[chosen]}
    samples = [(place, Sample(paths[video], text=caption)) for place, video, caption in captions[chosen] if caption]
    problems = [f"{place}: {video} has no caption" for place, video, caption in captions[chosen] if not caption]
    return build_dataset(f"msr-vtt/{chosen}", finder.root, samples, problems=problems)


def msr_vtt_splits(path: Path) -> tuple[str, ...]:
    """Return the splits in the annotation files."""
    return tuple(_read_captions(path))


def msr_vtt_files(path: Path) -> list[Path]:
    """Return the annotation files of MSR-VTT in a folder and its subfolders, or the file itself; [] if none."""
    patterns = (_MSR_VTT_JSON, _MSR_VTT_1K_A, _MSR_VTT_9K)
    return [file for file in candidate_files(path) if any(pattern.fullmatch(file.name) for pattern in patterns)]


def _read_captions(path: Path) -> dict[str, list[_Caption]]:
    """Read the captions of each split."""
    files = msr_vtt_files(path)
    if not files:
        raise DatasetError(
            f"{path}: has no train_val_videodatainfo.json, MSRVTT_data.json or MSRVTT_JSFUSION_test.csv."
        )
    tables = [file for file in files if file.suffix.lower() == ".json"]
    complete = [file for file in tables if "videodatainfo" not in file.name]  # MSRVTT_data.json includes the others
    split_of: dict[str, str] = {}
    captions_of: dict[str, list[_Caption]] = {}  # by video
    for table in complete[:1] or tables:
        splits, sentences = _read_msr_vtt(table)
        split_of.update(splits)
        for video, caption in sentences:
            captions_of.setdefault(video, []).append((f"{table}, {video}", video, caption))
    captions: dict[str, list[_Caption]] = {split: [] for split in sort_splits(split_of.values())}
    for video in sorted(split_of, key=natural_key):
        captions[split_of[video]] += captions_of.get(video, [(str(path), video, "")])
    pairs: list[_Caption] = []
    for file in files:
        if _MSR_VTT_9K.fullmatch(file.name) and captions_of:
            listed = [(place, row["video_id"]) for place, row in read_csv(file, {"video_id"})]
            found = [captions_of.get(video, [(place, video, "")]) for place, video in listed]
            captions["9k"] = list(chain.from_iterable(found))
        elif _MSR_VTT_1K_A.fullmatch(file.name):
            rows = read_csv(file, {"video_id", "sentence"})
            pairs = [(place, row["video_id"], row["sentence"]) for place, row in rows]
    return {**captions, "1k-A": pairs} if pairs else captions


def _read_msr_vtt(table: Path) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the split of each video, and the videos with their captions."""
    content = read_json(table)
    try:
        splits = {str(video["video_id"]): str(video["split"]) for video in content["videos"]}
        captions = [(str(row["video_id"]), str(row["caption"]).strip()) for row in content["sentences"]]
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{table}: must have videos (video_id, split) and sentences (video_id, caption), as MSR-VTT's files do: "
            f"{error} is missing or of another kind."
        ) from error
    return {video: split_of_name(split) or split for video, split in splits.items()}, captions
