"""Take parts of a dataset: a few videos of each class, some of the classes, or a held-out part.

Random choices depend only on the seed and on names (by their SHA-256), not on the order of files, the machine or the
version of a random generator.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from openxclip.common.counting import counted
from openxclip.common.files import user_path
from openxclip.datasets.files import to_nfc
from openxclip.datasets.labels import name_key
from openxclip.datasets.samples import Dataset, Sample, class_without_videos, num_videos
from openxclip.datasets.text import DatasetError, numbered_lines


def few_shot(dataset: Dataset, k: int, *, seed: int) -> Dataset:
    """Draw `k` videos of each class.

    Args:
        dataset: a dataset with classes.
        k: videos of each class, at least 1.
        seed: seeds the draw. With the same seed, a smaller `k` draws a subset of a larger one.

    Returns:
        The samples by class, in the order in which they were drawn.

    Raises:
        ValueError: `k` is below 1.
        DatasetError: a class has fewer videos, or there are no classes.
    """
    if k < 1:
        raise ValueError(f"k={k} must be 1 or more")
    chosen: list[Sample] = []
    for name, samples in zip(dataset.classes, _shuffle_classes(dataset, seed), strict=True):
        if len(samples) < k:
            raise DatasetError(
                f"{dataset.name}: the class {name!r} has {counted(len(samples), 'video')}, but {k} are needed."
            )
        chosen += samples[:k]
    return replace(dataset, name=f"{dataset.name}, {k} a class, seed {seed}", samples=tuple(chosen))


def few_shot_from_list(dataset: Dataset, path: str | Path) -> Dataset:
    """Take the videos that a file names, such as a published few-shot split, in the file's order.

    Args:
        dataset: a dataset with all these videos.
        path: text file with a name in each line: a sample's path from the dataset's root, its file name, or either
            without the suffix. A label after the name is ignored, because it may count other classes.

    Raises:
        DatasetError: a name isn't in the dataset or fits several videos.
    """
    path = user_path(path)
    by_name: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        name = dataset.name_of(sample)
        last = PurePosixPath(name.rsplit("::", 1)[-1])
        for key in {name, str(PurePosixPath(name).with_suffix("")), last.name, last.stem}:
            by_name.setdefault(key, []).append(sample)
    chosen: dict[Sample, None] = {}  # an ordered set
    for place, line in numbered_lines(path):
        line = to_nfc(line)
        matches = by_name.get(line) or by_name.get(line.rsplit(maxsplit=1)[0], [])
        sources = sorted({sample.source for sample in matches})
        if len(sources) != 1:
            why = "could be " + " or ".join(sources[:3]) if sources else "is not among its videos"
            raise DatasetError(f"{place}: {line!r} of {dataset.name} {why}.")
        chosen.update(dict.fromkeys(matches))
    return replace(dataset, name=f"{dataset.name}, {path.stem}", samples=tuple(chosen))


def hold_out(dataset: Dataset, part: float, *, seed: int) -> tuple[Dataset, Dataset]:
    """Divide a dataset into a part to train on and a part to evaluate on.

    Args:
        dataset: a dataset with classes or captions.
        part: share of each class's videos (of all videos with captions) to hold out, above 0 and below 1; rounded, but
            at least one video.
        seed: seeds the draw.

    Returns:
        The remaining part and the held-out part. Segments of the same file are in the same part.

    Raises:
        ValueError: `part` is out of its range.
        DatasetError: a class, or a dataset with captions, has only one video.
    """
    if not 0 < part < 1:
        raise ValueError(f"part={part} must be above 0 and below 1")
    if dataset.classes:
        shuffled = zip(dataset.classes, _shuffle_classes(dataset, seed), strict=True)
        groups = {f"the class {name!r} has": samples for name, samples in shuffled}
    else:
        everything = sorted(dataset.samples, key=lambda s: _random_key(seed, dataset.name_of(s), s.start, s.end))
        groups = {"it has": everything}
    held: set[str] = set()
    for subject, samples in groups.items():
        sources = list(dict.fromkeys(sample.source for sample in samples))
        if len(sources) < 2:
            raise DatasetError(
                f"{dataset.name}: {subject} {counted(len(sources), 'video')}: holding out needs two or more."
            )
        held.update(sources[: min(len(sources) - 1, max(1, round(part * len(sources))))])
    remaining = tuple(sample for sample in dataset.samples if sample.source not in held)
    held_out = tuple(sample for sample in dataset.samples if sample.source in held)
    return (
        replace(dataset, name=f"{dataset.name}, {1 - part:.0%}", samples=remaining),
        replace(dataset, name=f"{dataset.name}, {part:.0%} held out", samples=held_out),
    )


def draw_classes(dataset: Dataset, number: int, *, seed: int) -> Dataset:
    """Draw some of the classes, such as 160 of the classes that Kinetics-600 has and Kinetics-400 lacks.

    The labels are renumbered.

    Raises:
        ValueError: `number` is below 1 or above the number of classes.
    """
    if not 1 <= number <= len(dataset.classes):
        raise ValueError(f"number={number} must be 1 to {len(dataset.classes)}, the classes of {dataset.name}")
    drawn = sorted(range(len(dataset.classes)), key=lambda i: _random_key(seed, dataset.classes[i]))[:number]
    return _keep_classes(dataset, sorted(drawn), f"{dataset.name}, {number} classes, seed {seed}")


def only_classes(dataset: Dataset, names: Iterable[str]) -> Dataset:
    """Keep only the classes with these names, in the order of the names; the labels are renumbered.

    Raises:
        DatasetError: there is no such class, or `names` is empty.
    """
    index_of = {name_key(name): i for i, name in enumerate(dataset.classes)}
    keep: dict[int, None] = {}  # an ordered set
    for name in names:
        if name_key(name) not in index_of:
            raise DatasetError(f"{dataset.name}: there is no class {name!r}.")
        keep[index_of[name_key(name)]] = None
    return _keep_classes(dataset, list(keep), f"{dataset.name}, {len(keep)} classes")


#: Classes of Kinetics-400 that have another name in Kinetics-600. Found by comparing both lists with the 220 classes on
#: which zero-shot models are tested (Chen and Huang, ICCV 2021), which don't include these eleven.
RENAMED_IN_KINETICS_600 = {
    "baby waking up": "waking up",
    "balloon blowing": "inflating balloons",
    "changing wheel": "changing wheel (not on bike)",
    "cooking sausages": "cooking sausages (not on barbeque)",
    "dying hair": "dyeing hair",
    "garbage collecting": "person collecting garbage",
    "hugging": "hugging (not baby)",
    "making bed": "making the bed",
    "opening bottle": "opening bottle (not wine)",
    "throwing ball": "throwing ball (not baseball or American football)",
    "tying tie": "tying necktie",
}


def without_classes(dataset: Dataset, names: Iterable[str]) -> Dataset:
    """Remove the classes with these names, such as those of Kinetics-400 from Kinetics-600; the labels are renumbered.

    Names that aren't classes of the dataset are ignored. If the names are those of Kinetics-400, the eleven classes
    that have another name in Kinetics-600 are also removed.

    Raises:
        DatasetError: no class is left.
    """
    removed = {name_key(name) for name in names}
    if removed.issuperset(map(name_key, RENAMED_IN_KINETICS_600)):
        removed.update(map(name_key, RENAMED_IN_KINETICS_600.values()))
    keep = [i for i, name in enumerate(dataset.classes) if name_key(name) not in removed]
    return _keep_classes(dataset, keep, f"{dataset.name}, {len(keep)} classes")


def with_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Renumber the labels by the classes of another dataset, such as the one that a model was trained on.

    Raises:
        DatasetError: the dataset has a class that is not among `classes`, or has no classes.
    """
    if not dataset.classes:
        raise DatasetError(f"{dataset.name}: has no classes.")
    index_of = {name_key(name): i for i, name in enumerate(classes)}
    others = [name for name in dataset.classes if name_key(name) not in index_of]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise DatasetError(
            f"{dataset.name}: has the class {others[0]!r}{more}, which is not one of the {len(classes)}."
        )
    new_label = dict(enumerate(index_of[name_key(name)] for name in dataset.classes))
    return _relabel(dataset, new_label, classes=tuple(classes))


def _relabel(dataset: Dataset, new_label: Mapping[int, int], **changes: Any) -> Dataset:
    """Map the labels of present and missing samples to new ones; drop samples whose label isn't in `new_label`."""
    samples = tuple(
        replace(sample, label=new_label[label])
        for sample in dataset.samples
        if (label := _label_of(dataset, sample)) in new_label
    )
    missing = tuple(
        (replace(sample, label=new_label[old]), problem)
        for sample, problem in dataset.missing
        if (old := sample.label) is not None and old in new_label
    )
    return replace(dataset, samples=samples, missing=missing, **changes)


def _keep_classes(dataset: Dataset, keep: Sequence[int], name: str) -> Dataset:
    """Keep the classes with these indices, in this order, and drop the problems of the others."""
    kept = _relabel(dataset, {old: new for new, old in enumerate(keep)})
    if not kept.samples:
        raise DatasetError(f"{dataset.name}: no class with a video is left.")
    dropped = {problem for _, problem in dataset.missing} - {problem for _, problem in kept.missing}
    dropped.update(class_without_videos(label) for i, label in enumerate(dataset.classes) if i not in keep)
    return replace(
        kept,
        name=name,
        classes=tuple(dataset.classes[old] for old in keep),
        problems=tuple(problem for problem in dataset.problems if problem not in dropped),
        num_expected=num_videos((*kept.samples, *(sample for sample, _ in kept.missing))),
    )


def _shuffle_classes(dataset: Dataset, seed: int) -> list[list[Sample]]:
    """Return the distinct samples of each class in random order."""
    if not dataset.classes:
        raise DatasetError(f"{dataset.name}: has no classes.")
    by_class: list[dict[str, Sample]] = [{} for _ in dataset.classes]
    for sample in dataset.samples:
        label = _label_of(dataset, sample)
        key = _random_key(seed, dataset.classes[label], dataset.name_of(sample), sample.start, sample.end)
        by_class[label].setdefault(key, sample)
    return [[samples[key] for key in sorted(samples)] for samples in by_class]


def _label_of(dataset: Dataset, sample: Sample) -> int:
    if sample.label is None:
        raise DatasetError(f"{dataset.name}: {sample.source} has no class.")
    return sample.label


def _random_key(seed: int, *facts: str | float | None) -> str:
    """Return a sort key that puts items in random order."""
    return hashlib.sha256(json.dumps([seed, *facts]).encode()).hexdigest()
