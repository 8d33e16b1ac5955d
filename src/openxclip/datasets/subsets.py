"""Parts of a dataset: a few videos of each class, some of the classes, a part that is held out.

What is drawn depends on the seed and on names alone (by their SHA-256), not on the order of files, the machine, or the
version of a random generator.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from openxclip.common.files import user_path
from openxclip.datasets.files import numbered_lines, without_videos
from openxclip.datasets.labels import same_name
from openxclip.datasets.samples import Dataset, DatasetError, Sample, num_videos


def few_shot(dataset: Dataset, k: int, *, seed: int) -> Dataset:
    """`k` videos of each class.

    Args:
        dataset: with classes.
        k: videos of a class, at least 1.
        seed: another draws others. Of one seed, the videos for a smaller `k` are among those for a larger.

    Returns:
        The samples by class, and in each in the order in which they were drawn.

    Raises:
        ValueError: `k` is below 1.
        DatasetError: a class has fewer videos, or there are no classes.
    """
    if k < 1:
        raise ValueError(f"k={k} must be 1 or more")
    chosen: list[Sample] = []
    for name, samples in zip(dataset.classes, _drawn(dataset, seed), strict=True):
        if len(samples) < k:
            raise DatasetError(
                f"{dataset.name}: the class {name!r} has {len(samples)} videos, and {k} are to be drawn."
            )
        chosen += samples[:k]
    return replace(dataset, name=f"{dataset.name}, {k} a class, seed {seed}", samples=tuple(chosen))


def few_shot_from_list(dataset: Dataset, path: str | Path) -> Dataset:
    """The videos that a file names, such as another's few-shot split, in its order.

    Args:
        dataset: which has them all.
        path: text with a name in each line: the sample's path from the dataset's root, its file name, or that without
            the suffix. A label after the name is not looked at: it counts the classes of another.

    Raises:
        DatasetError: a name isn't in the dataset, or could be one of several videos.
    """
    path = user_path(path)
    by_name: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        name = dataset.name_of(sample)
        last = PurePosixPath(name.rsplit("::", 1)[-1])
        for key in {name, str(PurePosixPath(name).with_suffix("")), last.name, last.stem}:
            by_name.setdefault(key, []).append(sample)
    chosen: dict[Sample, None] = {}  # each once, in order
    for number, line in numbered_lines(path):
        line = unicodedata.normalize("NFC", line)
        found = by_name.get(line) or by_name.get(line.rsplit(maxsplit=1)[0], [])
        sources = sorted({sample.source for sample in found})
        if len(sources) != 1:
            why = "could be " + " or ".join(sources[:3]) if sources else "is not among its videos"
            raise DatasetError(f"{path}, line {number}: {line!r} of {dataset.name} {why}.")
        chosen.update(dict.fromkeys(found))
    return replace(dataset, name=f"{dataset.name}, {path.stem}", samples=tuple(chosen))


def hold_out(dataset: Dataset, part: float, *, seed: int) -> tuple[Dataset, Dataset]:
    """Two parts of a dataset, one to train on and one to judge by.

    Args:
        dataset: with classes or captions.
        part: of each class's videos (of all, where there are captions) that are held out, above 0 and below 1; rounded,
            but at least one video.
        seed: another holds out others.

    Returns:
        What is left, and what is held out. Stretches of one file are on the same side.

    Raises:
        ValueError: `part` is out of its range.
        DatasetError: a class has one video alone, or there is only one.
    """
    if not 0 < part < 1:
        raise ValueError(f"part={part} must be above 0 and below 1")
    held: set[str] = set()
    if dataset.classes:
        drawn = zip(dataset.classes, _drawn(dataset, seed), strict=True)
        groups = {f"the class {name!r} has": samples for name, samples in drawn}
    else:
        groups = {"there are": _all_drawn(dataset, seed)}
    for who_has, samples in groups.items():
        sources = list(dict.fromkeys(sample.source for sample in samples))
        if len(sources) < 2:
            raise DatasetError(f"{dataset.name}: {who_has} {len(sources)} videos: two or more can be parted.")
        held.update(sources[: min(len(sources) - 1, max(1, round(part * len(sources))))])
    left = tuple(sample for sample in dataset.samples if sample.source not in held)
    taken = tuple(sample for sample in dataset.samples if sample.source in held)
    return (
        replace(dataset, name=f"{dataset.name}, {1 - part:.0%}", samples=left),
        replace(dataset, name=f"{dataset.name}, {part:.0%} held out", samples=taken),
    )


def draw_classes(dataset: Dataset, number: int, *, seed: int) -> Dataset:
    """Some of the classes, such as 160 of Kinetics-600's that Kinetics-400 doesn't have; the labels count these.

    Raises:
        ValueError: there aren't so many classes, or `number` is below 1.
    """
    if not 1 <= number <= len(dataset.classes):
        raise ValueError(f"number={number} must be 1 to {len(dataset.classes)}, the classes of {dataset.name}")
    drawn = sorted(range(len(dataset.classes)), key=lambda i: _draw(seed, dataset.classes[i]))[:number]
    return _of_classes(dataset, sorted(drawn), f"{dataset.name}, {number} classes, seed {seed}")


def only_classes(dataset: Dataset, names: Iterable[str]) -> Dataset:
    """The classes of these names, in their order; the labels count these.

    Raises:
        DatasetError: there is no such class, or none is named.
    """
    place_of = {same_name(name): i for i, name in enumerate(dataset.classes)}
    keep: list[int] = []
    for name in names:
        if same_name(name) not in place_of:
            raise DatasetError(f"{dataset.name}: there is no class {name!r}.")
        if place_of[same_name(name)] not in keep:
            keep.append(place_of[same_name(name)])
    return _of_classes(dataset, keep, f"{dataset.name}, {len(keep)} classes")


#: Kinetics-600's names for classes that Kinetics-400 has under another. Compared with the lists of both and with the
#: 220 classes on which zero-shot models are tested (Chen and Huang, ICCV 2021): these eleven are not among them.
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
    """The classes of other names, as in Kinetics-600 without the classes of Kinetics-400; the labels count these.

    A name that is no class of the dataset leaves nothing out. Where the names are Kinetics-400's, the eleven classes
    that Kinetics-600 has under a new name are left out, too.

    Raises:
        DatasetError: none is left.
    """
    left_out = {same_name(name) for name in names}
    if left_out.issuperset(map(same_name, RENAMED_IN_KINETICS_600)):
        left_out.update(map(same_name, RENAMED_IN_KINETICS_600.values()))
    keep = [i for i, name in enumerate(dataset.classes) if same_name(name) not in left_out]
    return _of_classes(dataset, keep, f"{dataset.name}, {len(keep)} classes")


def with_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """All samples, with labels that count the classes of another dataset, such as the one that was trained on.

    Raises:
        DatasetError: the dataset has a class that isn't one of these.
    """
    place_of = {same_name(name): i for i, name in enumerate(classes)}
    others = [name for name in dataset.classes if same_name(name) not in place_of]
    if others or not dataset.classes:
        many = f" and {len(others) - 1} more" if len(others) > 1 else ""
        what = (
            f"has the class {others[0]!r}{many}, which is not one of the {len(classes)}" if others else "has no classes"
        )
        raise DatasetError(f"{dataset.name}: {what}.")
    new = dict(enumerate(place_of[same_name(name)] for name in dataset.classes))
    return _with_labels(dataset, new, classes=tuple(classes))


def _with_labels(dataset: Dataset, new: Mapping[int, int], **changes: Any) -> Dataset:
    """The samples that `new` has a label for, with it; of what is missing, too."""
    samples = tuple(_relabelled(dataset, one, new) for one in dataset.samples if _label(dataset, one) in new)
    missing = tuple(
        replace(one, sample=_relabelled(dataset, one.sample, new)) for one in dataset.missing if one.sample.label in new
    )
    return replace(dataset, samples=samples, missing=missing, **changes)


def _relabelled(dataset: Dataset, sample: Sample, new: Mapping[int, int]) -> Sample:
    return replace(sample, label=new[_label(dataset, sample)])


def _of_classes(dataset: Dataset, keep: Sequence[int], name: str) -> Dataset:
    found = _with_labels(dataset, {old: i for i, old in enumerate(keep)})
    if not found.samples:
        raise DatasetError(f"{dataset.name}: no class is left with a video in it.")
    kept = {one.problem for one in found.missing}
    others = {one.problem for one in dataset.missing if one.problem not in kept}
    others.update(without_videos(one) for i, one in enumerate(dataset.classes) if i not in keep)
    return replace(
        found, name=name, classes=tuple(dataset.classes[old] for old in keep),
        problems=tuple(problem for problem in dataset.problems if problem not in others),
        named=num_videos((*found.samples, *(one.sample for one in found.missing))),
    )  # fmt: skip


def _drawn(dataset: Dataset, seed: int) -> list[list[Sample]]:
    """The samples of each class, each once, in an order that the seed draws."""
    if not dataset.classes:
        raise DatasetError(f"{dataset.name}: has no classes.")
    of_class: list[dict[str, Sample]] = [{} for _ in dataset.classes]
    for sample in dataset.samples:
        label = _label(dataset, sample)
        key = _draw(seed, dataset.classes[label], dataset.name_of(sample), sample.start, sample.end)
        of_class[label].setdefault(key, sample)
    return [[samples[key] for key in sorted(samples)] for samples in of_class]


def _all_drawn(dataset: Dataset, seed: int) -> list[Sample]:
    """All samples, in an order that the seed draws."""
    return sorted(dataset.samples, key=lambda one: _draw(seed, dataset.name_of(one), one.start, one.end))


def _label(dataset: Dataset, sample: Sample) -> int:
    if sample.label is None:
        raise DatasetError(f"{dataset.name}: {sample.source} has no class.")
    return sample.label


def _draw(seed: int, *facts: str | float | None) -> str:
    return hashlib.sha256(json.dumps([seed, *facts]).encode()).hexdigest()
