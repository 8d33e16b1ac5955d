"""What training and evaluation read: videos, each with its class or its caption."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from openxclip.common.files import reason_of
from openxclip.errors import OpenXCLIPError

_IN_ARCHIVE = re.compile(r"(?i)(?<=\.tar)::")


class DatasetError(OpenXCLIPError):
    """A dataset is not as it should be: files are missing, a list can't be read, labels don't fit."""


@dataclass(frozen=True)
class Sample:
    """One video, or a stretch of one.

    Attributes:
        source: its path; of a video in a tar file "ARCHIVE.tar::MEMBER".
        label: its class, as an index into `Dataset.classes`.
        text: its caption.
        start: where the stretch begins in the video, in seconds; None is at the video's start.
        end: where it ends, in seconds; None is at the video's end.
    """

    source: str
    label: int | None = None
    text: str | None = None
    start: float | None = None
    end: float | None = None

    def open(self) -> str | bytes:
        """What `openxclip.video.read_clip` takes: the path, or the bytes of the member of the archive.

        Raises:
            VideoError: it is in an archive, and can't be read from there.
        """
        place = place_in_archive(self.source)
        if place is None:
            return self.source
        from openxclip.datasets.tars import read_bytes  # which needs this module

        return read_bytes(*place)

    def size(self) -> int:
        """Bytes of the video.

        Raises:
            VideoError: it is in an archive, which can't be read.
            DatasetError: there is no such file.
        """
        place = place_in_archive(self.source)
        if place is not None:
            from openxclip.datasets.tars import size_in_bytes  # which needs this module

            return size_in_bytes(*place)
        try:
            return Path(self.source).stat().st_size
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.source}: can't be found any more ({reason_of(error)}).") from error


@dataclass(frozen=True)
class Missing:
    """A sample that the data name, and whose file is missing or empty.

    Attributes:
        sample: what would have been read.
        problem: in words: where it is named, and what is wrong.
    """

    sample: Sample
    problem: str


@dataclass(frozen=True)
class Dataset:
    """Videos with their classes or captions.

    Attributes:
        name: what to call it.
        samples: the videos that are there, in an order that doesn't depend on the machine.
        classes: their names, as they are given to the text tower; () where the samples have captions.
        problems: what is wanting, each in words: files that are named but missing or empty, classes without videos.
        root: the folder that the samples' names count from; it may lie elsewhere tomorrow, so `hash` leaves it out.
        missing: the samples whose files are missing or empty; of a part of a dataset, those of its classes.
        named: how many videos the data name, there or missing; of a part that was drawn or held out, of the whole.
    """

    name: str
    samples: tuple[Sample, ...]
    classes: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=(), compare=False)
    root: str = field(default="", compare=False)
    missing: tuple[Missing, ...] = field(default=(), compare=False)
    named: int = field(default=0, compare=False)

    def num_missing(self) -> int:
        """How many videos are missing: each once, however many captions it has."""
        return num_videos(one.sample for one in self.missing)

    def name_of(self, sample: Sample) -> str:
        """What a sample is called wherever the dataset lies: its path from `root`, with slashes, composed (NFC)."""
        archive, mark, member = sample.source, "", ""
        if place := place_in_archive(sample.source):
            archive, mark, member = str(place[0]), "::", place[1]
        prefix = str(Path(self.root) / "x")[:-1]  # "" for the current folder, whose name isn't part of paths in it
        inside = self.root != "" and archive.startswith(prefix) and (prefix != "" or not Path(archive).is_absolute())
        name = archive[len(prefix) :] if inside else Path(archive).name
        return unicodedata.normalize("NFC", name.replace(os.sep, "/") + mark + member)

    def hash(self) -> str:
        """SHA-256, in hex, of the classes and of every sample's name, bytes, label, text, start and end.

        Raises:
            DatasetError, VideoError: a file is no longer there.
        """
        hashed = hashlib.sha256(json.dumps(self.classes).encode())
        for sample in self.samples:
            facts = [self.name_of(sample), sample.size(), sample.label, sample.text, sample.start, sample.end]
            hashed.update(b"\n" + json.dumps(facts).encode())
        return hashed.hexdigest()


def num_videos(samples: Iterable[Sample]) -> int:
    """How many different videos, or stretches of videos, there are."""
    return len({(sample.source, sample.start, sample.end) for sample in samples})


def sample_names(dataset: Dataset) -> list[str]:
    """What samples are called in results: the same wherever the data set lies, and no two alike.

    The name of the file, with the stretch if it isn't all of it: `a/b.mp4 [2-7.5]`; of several such, `#2` and so on.
    """
    names, seen = [], Counter[str]()
    for sample in dataset.samples:
        name = dataset.name_of(sample)
        if sample.start is not None or sample.end is not None:
            name += " [" + "-".join("" if at is None else f"{at:g}" for at in (sample.start, sample.end)) + "]"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return names


def describe_problems(dataset: Dataset, *, most: int = 10) -> str:
    """What is wanting in a dataset, in lines for a user: how much, and the first `most` by name; "" if nothing is."""
    count, missing = len(dataset.problems), dataset.num_missing()
    if count == 0:
        return ""
    share = f", {missing} of {dataset.named} videos missing ({missing / dataset.named:.1%})" if missing else ""
    lines = [f"{dataset.name}: {count} {'problem' if count == 1 else 'problems'}{share}:"]
    lines += [f"  {problem}" for problem in dataset.problems[:most]]
    if count > most:
        lines.append(f"  and {count - most} more")
    return "\n".join(lines)


def place_in_archive(source: str) -> tuple[Path, str] | None:
    """The archive and the member that "ARCHIVE.tar::MEMBER" names; None for a path."""
    parts = _IN_ARCHIVE.split(source, maxsplit=1)
    return (Path(parts[0]), parts[1]) if len(parts) == 2 else None
