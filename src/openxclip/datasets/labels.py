"""From the labels of a dataset to the texts that the model compares with.

The paper's texts are the bare class names (Ni et al., ECCV 2022, section 4.1). Its code gives UCF-101's as file names
spell them ("ApplyEyeMakeup"), which no text tower has learnt; here they are words.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from openxclip.common.files import user_path
from openxclip.datasets.files import read_text, split_lines
from openxclip.datasets.samples import DatasetError
from openxclip.video import natural_key

#: Other texts for classes: by class, or a file (see `read_names`).
Names = Mapping[str, str] | Path | str


def readable_name(name: str) -> str:
    """A class name as words: "ApplyEyeMakeup" and "apply_eye_makeup" become "apply eye makeup".

    A name with spaces in it ("playing guitar") is words already, and stays. Hyphens stay, too ("t-shirt").
    """
    name = unicodedata.normalize("NFC", name).strip()
    if any(character.isspace() for character in name):
        return name
    words = " ".join(_apart(part) for part in name.split("_") if part)
    return words.lower() or name


def same_name(name: str) -> str:
    """What two names have in common that say the same: as `readable_name`, without regard to case and spaces."""
    return " ".join(readable_name(name).casefold().split())


def read_names(names: Names) -> dict[str, str]:
    """Texts by class, from a mapping or a file.

    A file is one of these:

    - `.json`: an object, `{"ApplyEyeMakeup": "putting on make-up"}`; or one of numbers by name, as in
      Something-Something's labels (`{"Holding something": "0"}`); or a list of names in the order of their numbers;
    - `.csv` with the columns `id` and `name`, as the authors' label files have;
    - text with a tab in each line, between the class and its text;
    - text with a class name in each line, in the order of their numbers, from 0; or with the number before the name, as
      in UCF-101's classInd.txt.

    Where classes are numbered, the names are made readable (see `readable_name`); other texts are taken as they are.

    Raises:
        DatasetError: the file can't be read, or is none of these.
    """
    if isinstance(names, Mapping):
        return {str(key): str(text) for key, text in names.items()}
    path = user_path(names)
    text = read_text(path)
    if path.suffix.lower() == ".json":
        found = _from_json(path, text)
    elif path.suffix.lower() == ".csv":
        found = _from_csv(path, text)
    else:
        found = _from_lines(path, text)
    if not found:
        raise DatasetError(f"{path}: has no names in it.")
    return found


def read_class_list(path: Path | str) -> tuple[str, ...]:
    """Class names from any file that `read_names` reads, in its order."""
    return tuple(read_names(path).values())


def class_names(classes: Sequence[str], names: Names | None = None) -> tuple[str, ...]:
    """The texts of classes, in their order.

    Args:
        classes: as the dataset spells them.
        names: other texts for some of them.

    Raises:
        DatasetError: two classes would have the same text, or `names` has a class that isn't there.
    """
    given: dict[str, str] = {}
    texts = {} if names is None else read_names(names)
    if texts and all(map(_is_number, texts)) and not all(map(_is_number, classes)):
        texts = _by_name(texts, classes)
    for key, text in texts.items():
        matching = [name for name in classes if name == key] or [
            name for name in classes if same_name(name) == same_name(key)
        ]
        if not matching:
            known = ", ".join(map(repr, classes[:5])) + (", …" if len(classes) > 5 else "")
            hint = "; a file for them has lines of the class, a tab, and its text" if _is_number(key) else ""
            raise DatasetError(f"names: there is no class {key!r}: the classes are {known}{hint}.")
        given.update(dict.fromkeys(matching, text))
    found = tuple(given.get(name) or readable_name(name) for name in classes)
    first: dict[str, str] = {}
    for name, text in zip(classes, found, strict=True):
        other = first.setdefault(same_name(text), name)
        if other != name:
            raise DatasetError(
                f"the classes {other!r} and {name!r} would both be called {text!r}: give one another text with names."
            )
    return found


def _by_name(numbered: Mapping[str, str], classes: Sequence[str]) -> dict[str, str]:
    """The texts of a numbered list of classes (the authors' `id,name`) by class: they are found by their names.

    Raises:
        DatasetError: it is of other classes, so that it isn't known which number is which class.
    """
    there = {same_name(name) for name in classes}
    listed = {same_name(text): text for text in numbered.values()}
    if there != listed.keys():
        others = sorted(listed.keys() - there) or sorted(there - listed.keys())
        raise DatasetError(
            f"names: this numbered list of {len(numbered)} names is not of these {len(classes)} classes: {others[0]!r} "
            "is not in both. Give lines of the class, a tab, and its text."
        )
    return {name: listed[same_name(name)] for name in classes}


def numbers_as_names(found: Mapping[str, object]) -> dict[str, str] | None:
    """Names by number, of an object of numbers by name; None if it is another."""
    numbers = [str(value) for value in found.values() if not isinstance(value, bool)]
    if len(numbers) < len(found) or not found or not all(map(_is_number, numbers)) or any(map(_is_number, found)):
        return None
    if len(set(map(int, numbers))) < len(numbers):
        return None
    return {str(int(number)): name for name, number in zip(found, numbers, strict=True)}


def number_labels(labels: Sequence[tuple[str, str]], names: Names | None = None) -> tuple[tuple[str, ...], list[int]]:
    """The classes that labels stand for, and each label as an index into them.

    Labels that are all numbers count the classes of `names`. Other labels are class names; the classes are those that
    occur, sorted, or those of `names` where that is a list.

    Args:
        labels: each with where it was found, in words for an error.
        names: the classes of numbers, or other texts for classes (see `read_names`).

    Raises:
        DatasetError: numbers without `names`, a label that isn't in them, or as for `class_names`.
    """
    texts = None if names is None else read_names(names)
    are_numbers = all(_is_number(label) for _, label in labels)
    if texts is not None and all(_is_number(key) for key in texts):
        order = sorted(texts, key=int)
        classes = class_names([texts[key] for key in order])
        places = {
            _key(key if are_numbers else text): i for i, (key, text) in enumerate(zip(order, classes, strict=True))
        }
        known = f"from {order[0]} to {order[-1]}" if are_numbers else f"such as {classes[0]!r}"
        for where, label in labels:
            if _key(label) not in places:
                raise DatasetError(f"{where}: the label {label!r} is not in names, which has {len(order)}, {known}.")
        return classes, [places[_key(label)] for _, label in labels]
    if texts is None and are_numbers and labels:
        where, label = labels[0]
        raise DatasetError(
            f"{where}: the labels are numbers ({label!r}), which tell a text tower nothing: give names, a file with "
            "a class name in each line."
        )
    raw = sorted({label for _, label in labels}, key=natural_key)
    places = {label: i for i, label in enumerate(raw)}
    return class_names(raw, texts), [places[label] for _, label in labels]


def _apart(word: str) -> str:
    """A space before each word of a CamelCase name; capitals that follow each other are one word ("HTMLPage")."""
    parts = []
    for i, character in enumerate(word):
        before, after = word[i - 1 : i], word[i + 1 : i + 2]
        begins = not before.isupper() or after.islower()
        parts.append(f" {character}" if character.isupper() and before.isalnum() and begins else character)
    return "".join(parts)


def _is_number(label: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", label) is not None


def _key(label: str) -> str:
    """The same for labels that mean the same: "07" and "7", "brush_hair" and "brush hair"."""
    return str(int(label)) if _is_number(label) else same_name(label)


def _from_json(path: Path, text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: is not JSON ({error}).") from error
    if not isinstance(found, dict | list):
        raise DatasetError(f"{path}: must be an object of texts by class, or a list of class names.")
    if isinstance(found, dict) and (numbered := numbers_as_names(found)) is not None:
        return _numbered(path, [(int(number), name) for number, name in numbered.items()])
    for value in found.values() if isinstance(found, dict) else found:
        if not isinstance(value, str) or not value.strip():
            raise DatasetError(f"{path}: {value!r} is no name of a class.")
    return dict(found) if isinstance(found, dict) else _numbered(path, enumerate(found))


def _from_csv(path: Path, text: str) -> dict[str, str]:
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    header = [str(name).strip().lower() for name in rows.fieldnames or ()]
    rows.fieldnames = header
    if not {"id", "name"} <= set(header):
        raise DatasetError(f"{path}: the first line must name the columns id and name, and is {','.join(header)!r}.")
    found = []
    for row in rows:
        number, name = (row["id"] or "").strip(), (row["name"] or "").strip()
        if not _is_number(number) or not name:
            raise DatasetError(
                f"{path}, line {rows.line_num}: must be a number and a name, and is {number!r}, {name!r}."
            )
        found.append((int(number), name))
    return _numbered(path, found)


def _from_lines(path: Path, text: str) -> dict[str, str]:
    lines = [line.strip() for line in split_lines(text)]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line:
            raise DatasetError(
                f"{path}, line {number}: is empty, so that it isn't clear which number the next name has."
            )
        if ("\t" in line) != ("\t" in lines[0]):
            raise DatasetError(f"{path}, line {number}: {line!r}: either every line has a tab or none.")
    if lines and "\t" in lines[0]:
        pairs = [[part.strip() for part in line.split("\t", 1)] for line in lines]
        if all(_is_number(key) for key, _ in pairs):
            return _numbered(path, [(int(key), value) for key, value in pairs])
        return {key: value for key, value in pairs}  # noqa: C416 (mypy knows no lists of two)
    fields = [line.split(maxsplit=1) for line in lines]
    numbers = [int(field[0]) if len(field) == 2 and _is_number(field[0]) else -1 for field in fields]
    if numbers and numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return _numbered(path, [(number, field[1]) for number, field in zip(numbers, fields, strict=True)])
    return _numbered(path, enumerate(lines))


def _numbered(path: Path, pairs: Iterable[tuple[int, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, name in pairs:
        if str(number) in found:
            raise DatasetError(f"{path}: the number {number} is given to {found[str(number)]!r} and to {name!r}.")
        found[str(number)] = readable_name(name)
    return found
