"""Turn the labels of a dataset into the texts that the model compares videos with.

The paper uses the bare class names (Ni et al., ECCV 2022, section 4.1). Its code writes UCF-101's names without spaces
("ApplyEyeMakeup"), which no text tower has learnt; here such names are split into words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from openxclip.common.files import user_path
from openxclip.datasets.files import to_nfc
from openxclip.datasets.text import DatasetError, read_csv, read_json, read_text, split_lines
from openxclip.video import natural_key

#: Texts for classes: a mapping by class, or a file (see `read_names`).
Names = Mapping[str, str] | Path | str


def readable_name(name: str) -> str:
    """Split a class name into words: "ApplyEyeMakeup" and "apply_eye_makeup" become "apply eye makeup".

    A name with spaces ("playing guitar") is returned as it is. Hyphens stay ("t-shirt").
    """
    name = to_nfc(name).strip()
    if any(character.isspace() for character in name):
        return name
    words = " ".join(_split_camel_case(part) for part in name.split("_") if part)
    return words.lower() or name


def name_key(name: str) -> str:
    """Return a key that is equal for spellings of the same name: `readable_name` without regard to case and spaces."""
    return " ".join(readable_name(name).casefold().split())


def read_names(names: Names) -> dict[str, str]:
    """Read texts by class, or by class number, from a mapping or a file.

    The file has one of these formats:

    - `.json`: an object of texts by class, `{"ApplyEyeMakeup": "putting on make-up"}`; an object of numbers by name, as
      in Something-Something's labels, `{"Holding something": "0"}`; or a list of names in the order of their numbers;
    - `.csv` with the columns `id` and `name`, as in the authors' label files;
    - text with a class, a tab and its text in each line;
    - text with a class name in each line, numbered from 0, or with the number before the name, as in UCF-101's
      classInd.txt.

    Names of numbered classes are made readable (see `readable_name`); other texts are kept as they are.

    Raises:
        DatasetError: the file can't be read or has another format.
    """
    if isinstance(names, Mapping):
        return {str(key): str(text) for key, text in names.items()}
    path = user_path(names)
    readers = {".json": _read_json, ".csv": _read_csv}
    texts = readers.get(path.suffix.lower(), _read_lines)(path)
    if not texts:
        raise DatasetError(f"{path}: contains no names.")
    return texts


def read_class_list(path: Path | str) -> tuple[str, ...]:
    """Return the class names in a file that `read_names` reads, in the file's order."""
    return tuple(read_names(path).values())


def class_names(classes: Sequence[str], names: Names | None = None) -> tuple[str, ...]:
    """Return the text of each class.

    Args:
        classes: class names as the dataset spells them.
        names: other texts for some of the classes.

    Raises:
        DatasetError: two classes have the same text, or `names` has a class that doesn't exist.
    """
    given: dict[str, str] = {}
    texts = {} if names is None else read_names(names)
    if texts and all(map(_is_number, texts)) and not all(map(_is_number, classes)):
        texts = _match_numbered_names(texts, classes)
    for key, text in texts.items():
        matches = [name for name in classes if name == key] or [
            name for name in classes if name_key(name) == name_key(key)
        ]
        if not matches:
            known = ", ".join(map(repr, classes[:5])) + (", …" if len(classes) > 5 else "")
            hint = "; a file of texts has a class, a tab and its text in each line" if _is_number(key) else ""
            raise DatasetError(f"names: there is no class {key!r}: the classes are {known}{hint}.")
        given.update(dict.fromkeys(matches, text))
    result = tuple(given.get(name) or readable_name(name) for name in classes)
    first: dict[str, str] = {}
    for name, text in zip(classes, result, strict=True):
        other = first.setdefault(name_key(text), name)
        if other != name:
            raise DatasetError(
                f"the classes {other!r} and {name!r} have the same text, {text!r}: give one another text with names."
            )
    return result


def _match_numbered_names(numbered: Mapping[str, str], classes: Sequence[str]) -> dict[str, str]:
    """Return the texts of a numbered list (the authors' `id,name`) by class, matched by name.

    Raises:
        DatasetError: the list has other classes, so it is unknown which number means which class.
    """
    keys = {name_key(name) for name in classes}
    listed = {name_key(text): text for text in numbered.values()}
    if keys != listed.keys():
        different = sorted(listed.keys() - keys) or sorted(keys - listed.keys())
        raise DatasetError(
            f"names: this numbered list of {len(numbered)} names is not of these {len(classes)} classes: "
            f"{different[0]!r} is not in both. Give a class, a tab and its text in each line."
        )
    return {name: listed[name_key(name)] for name in classes}


def invert_numbers(numbers: Mapping[str, object]) -> dict[str, str] | None:
    """Turn numbers by name into names by number; return None if the values aren't distinct numbers."""
    values = list(map(str, numbers.values()))
    if not numbers or not all(map(_is_number, values)) or any(map(_is_number, numbers)):
        return None
    names = {str(int(value)): name for name, value in zip(numbers, values, strict=True)}
    return names if len(names) == len(numbers) else None  # a number may occur twice


def number_labels(labels: Sequence[tuple[str, str]], names: Names | None = None) -> tuple[tuple[str, ...], list[int]]:
    """Return the classes that labels stand for, and each label as an index into the classes.

    If all labels are numbers, they are the numbers of the classes in `names`. Otherwise they are class names; the
    classes are those in `names` if it is a numbered list, else the labels that occur, sorted.

    Args:
        labels: each after its place, such as "list.txt, line 1".
        names: the names of numbered classes, or other texts for classes (see `read_names`).

    Raises:
        DatasetError: the labels are numbers and there are no `names`, a label isn't in `names`, or see `class_names`.
    """
    texts = None if names is None else read_names(names)
    are_numbers = all(_is_number(label) for _, label in labels)
    if texts is not None and all(_is_number(key) for key in texts):
        order = sorted(texts, key=int)
        classes = class_names([texts[key] for key in order])
        keys = order if are_numbers else classes
        index_of = {_label_key(key): i for i, key in enumerate(keys)}
        known = f"from {order[0]} to {order[-1]}" if are_numbers else f"such as {classes[0]!r}"
        for place, label in labels:
            if _label_key(label) not in index_of:
                raise DatasetError(f"{place}: the label {label!r} is not in names, which has {len(order)}, {known}.")
        return classes, [index_of[_label_key(label)] for _, label in labels]
    if texts is None and are_numbers and labels:
        place, label = labels[0]
        raise DatasetError(
            f"{place}: the labels are numbers ({label!r}), which mean nothing to a text tower: give names, a file with "
            "a class name in each line."
        )
    raw = sorted({label for _, label in labels}, key=natural_key)
    index_of = {label: i for i, label in enumerate(raw)}
    return class_names(raw, texts), [index_of[label] for _, label in labels]


def _split_camel_case(word: str) -> str:
    """Put a space before each word of a CamelCase name; consecutive capitals are one word ("HTML Page")."""
    parts = []
    for i, character in enumerate(word):
        before, after = word[i - 1 : i], word[i + 1 : i + 2]
        starts_word = character.isupper() and before.isalnum() and (not before.isupper() or after.islower())
        parts.append(f" {character}" if starts_word else character)
    return "".join(parts)


def _is_number(label: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", label) is not None


def _label_key(label: str) -> str:
    """Return a key that is equal for labels that mean the same: "07" and "7", "brush_hair" and "brush hair"."""
    return str(int(label)) if _is_number(label) else name_key(label)


def _read_json(path: Path) -> dict[str, str]:
    content = read_json(path)
    if not isinstance(content, dict | list):
        raise DatasetError(f"{path}: must be an object of texts by class, or a list of class names.")
    if isinstance(content, dict) and (numbered := invert_numbers(content)) is not None:
        return _numbered_names(path, numbered.items())
    for value in content.values() if isinstance(content, dict) else content:
        if not isinstance(value, str) or not value.strip():
            raise DatasetError(f"{path}: {value!r} is no class name.")
    return dict(content) if isinstance(content, dict) else _numbered_names(path, enumerate(content))


def _read_csv(path: Path) -> dict[str, str]:
    pairs = []
    for place, row in read_csv(path, {"id", "name"}):
        if not _is_number(row["id"]) or not row["name"]:
            raise DatasetError(f"{place}: must be a number and a name, but is {row['id']!r}, {row['name']!r}.")
        pairs.append((row["id"], row["name"]))
    return _numbered_names(path, pairs)


def _read_lines(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in split_lines(read_text(path).rstrip())]
    if lines == [""]:
        return {}
    for number, line in enumerate(lines, 1):
        if not line:
            raise DatasetError(f"{path}, line {number}: is blank, so the number of the next name is unclear.")
        if ("\t" in line) != ("\t" in lines[0]):
            raise DatasetError(f"{path}, line {number}: {line!r}: either every line must have a tab or none.")
    if "\t" in lines[0]:
        pairs = [(key.strip(), text.strip()) for key, _, text in (line.partition("\t") for line in lines)]
        return _numbered_names(path, pairs) if all(_is_number(key) for key, _ in pairs) else dict(pairs)
    fields = [line.split(maxsplit=1) for line in lines]
    numbers = [int(field[0]) if len(field) == 2 and _is_number(field[0]) else -1 for field in fields]
    if numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return _numbered_names(path, [(number, field[1]) for number, field in zip(numbers, fields, strict=True)])
    return _numbered_names(path, enumerate(lines))


def _numbered_names(path: Path, pairs: Iterable[tuple[str | int, str]]) -> dict[str, str]:
    """Return readable names by number; refuse a number that occurs twice."""
    names: dict[str, str] = {}
    for number, name in pairs:
        key = str(int(number))  # "7" for "07"
        if key in names:
            raise DatasetError(f"{path}: the number {key} is given to {names[key]!r} and to {name!r}.")
        names[key] = readable_name(name)
    return names
