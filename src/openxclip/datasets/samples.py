"""Samples (videos with a class or a caption) and the datasets that they make up."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from openxclip.common.files import reason_of
from openxclip.datasets.files import to_nfc
from openxclip.datasets.tars import member_size, read_member, split_source
from openxclip.datasets.text import DatasetError

_MAX_SHOWN = 10  # problems


@dataclass(frozen=True)
class Sample:
    """A video or a segment of one.

    Attributes:
        source: path of the video; "ARCHIVE.tar::MEMBER" for a video in a tar file.
        label: its class, as an index into `Dataset.classes`.
        text: its caption.
        start: start of the segment in seconds; None for the start of the video.
        end: end of the segment in seconds; None for the end of the video.
    """

    source: str
    label: int | None = None
    text: str | None = None
    start: float | None = None
    end: float | None = None

    def open(self) -> str | bytes:
        """Return what `openxclip.video.read_clip` takes: the path, or the bytes of a video in an archive.

        Raises:
            VideoError: the archive or its member can't be read.
        """
        member = split_source(self.source)
        return self.source if member is None else read_member(*member)

    def size(self) -> int:
        """Return the size of the video in bytes.

        Raises:
            VideoError: the archive or its member can't be read.
            DatasetError: the file doesn't exist.
        """
        member = split_source(self.source)
        if member is not None:
            return member_size(*member)
        try:
            return Path(self.source).stat().st_size
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.source}: can't be found any more ({reason_of(error)}).") from error


@dataclass(frozen=True)
class Dataset:
    """Videos with their classes or captions.

    Attributes:
        name: name for messages and results.
        samples: the samples whose files are present, in an order that doesn't depend on the machine.
        classes: class names as the text tower gets them; () if the samples have captions.
        problems: messages about missing or empty files, left-out files and classes without videos.
        root: folder that sample names are relative to. `hash` doesn't include it, so a dataset can be moved.
        missing: the samples whose files are missing, empty or unreadable, limited to the dataset's own classes; each
            with its message in `problems`.
        num_expected: number of videos that are named, present or missing; a few-shot or held-out part keeps the number
            of the whole dataset.
    """

    name: str
    samples: tuple[Sample, ...]
    classes: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=(), compare=False)
    root: str = field(default="", compare=False)
    missing: tuple[tuple[Sample, str], ...] = field(default=(), compare=False)
    num_expected: int = field(default=0, compare=False)

    def num_missing(self) -> int:
        """Return the number of missing videos; a video with several captions counts once."""
        return num_videos(sample for sample, _ in self.missing)

    def name_of(self, sample: Sample) -> str:
        """Return a sample's name, which doesn't change when the dataset is moved.

        It is the path relative to `root` with slashes and composed accents (NFC), or the file name if the file isn't
        below `root`.
        """
        member = split_source(sample.source)
        path, suffix = (sample.source, "") if member is None else (str(member[0]), f"::{member[1]}")
        prefix = str(Path(self.root) / "x")[:-1]  # the root and a separator; "" for the current folder
        is_below = path.startswith(prefix) if prefix else self.root != "" and not Path(path).is_absolute()
        name = path[len(prefix) :] if is_below else Path(path).name
        return to_nfc(name.replace(os.sep, "/") + suffix)

    def hash(self) -> str:
        """Return the SHA-256, in hex, of the classes and of every sample's name, size, label, text, start and end.

        Raises:
            DatasetError, VideoError: a file no longer exists.
        """
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for sample in self.samples:
            facts = [self.name_of(sample), sample.size(), sample.label, sample.text, sample.start, sample.end]
            digest.update(b"\n" + json.dumps(facts).encode())
        return digest.hexdigest()


def build_dataset(
    name: str,
    root: Path,
    samples: Iterable[tuple[str, Sample]],
    *,
    classes: tuple[str, ...] = (),
    problems: Iterable[str] = (),
) -> Dataset:
    """Make a dataset of the samples whose files exist, and record missing files and classes without videos as problems.

    Args:
        name, root, classes: see `Dataset`.
        samples: the samples, each with the place that names it, such as "list.txt, line 1", or "" if its file was
            found in a folder.
        problems: further messages for `Dataset.problems`.

    Raises:
        DatasetError: no file exists.
    """
    present, missing, is_listed = list[Sample](), list[tuple[Sample, str]](), False
    for place, sample in samples:
        reason = None if split_source(sample.source) else _why_unusable(sample.source)
        if reason is None:
            present.append(sample)
        else:
            message = f"{sample.source}: {reason}"
            missing.append((sample, f"{place}: {message}" if place else message))
            is_listed |= bool(place)
    # a video with several captions has the same problem several times
    messages = list(dict.fromkeys((*(problem for _, problem in missing), *problems)))
    if not present:
        first = f": {messages[0]}" if messages else ""
        more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
        hint = " If they are somewhere else, give their folder with videos=." if is_listed else ""
        raise DatasetError(f"{name}: there are no videos{first}{more}.{hint}")
    labels = {sample.label for sample in present}
    messages += [class_without_videos(name) for i, name in enumerate(classes) if i not in labels]
    num_expected = num_videos((*present, *(sample for sample, _ in missing)))
    return Dataset(name, tuple(present), classes, tuple(messages), str(root), tuple(missing), num_expected)


def class_without_videos(name: str) -> str:
    """Return the message about a class without videos."""
    return f"the class {name!r} has no videos"


def num_videos(samples: Iterable[Sample]) -> int:
    """Return the number of different videos, counting each segment of a video."""
    return len({(sample.source, sample.start, sample.end) for sample in samples})


def sample_names(dataset: Dataset) -> list[str]:
    """Return a unique name for each sample, which stays the same when the dataset is moved.

    It is `Dataset.name_of`, with the segment if there is one: `a/b.mp4 [2-7.5]`. Repeated names get `#2` and so on.
    """
    names, counts = [], Counter[str]()
    for sample in dataset.samples:
        name = dataset.name_of(sample)
        if sample.start is not None or sample.end is not None:
            name += " [" + "-".join("" if time is None else f"{time:g}" for time in (sample.start, sample.end)) + "]"
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name} #{counts[name]}")
    return names


def describe_problems(dataset: Dataset) -> str:
    """Describe a dataset's problems: their number, then the first ten, one per line; "" if there are none."""
    count, missing, total = len(dataset.problems), dataset.num_missing(), dataset.num_expected
    if count == 0:
        return ""
    share = f", {missing} of {total} videos missing ({missing / total:.1%})" if missing else ""
    lines = [f"{dataset.name}: {count} {'problem' if count == 1 else 'problems'}{share}:"]
    lines += [f"  {problem}" for problem in dataset.problems[:_MAX_SHOWN]]
    if count > _MAX_SHOWN:
        lines.append(f"  and {count - _MAX_SHOWN} more")
    return "\n".join(lines)


def _why_unusable(source: str) -> str | None:
    """Return why a file can't be a video (it is missing, a folder or empty), or None."""
    try:
        status = Path(source).stat()
    except FileNotFoundError:
        return "is a broken link" if Path(source).is_symlink() else "there is no such file"
    except (OSError, ValueError) as error:
        return f"can't be read: {reason_of(error)}"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder"
    return "is empty" if status.st_size == 0 else None
