"""Read and write contracts of time: in a model's config.json, whose other keys stay as they are, or in a file alone."""

from __future__ import annotations

import json
import re
import textwrap
from json.decoder import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any

from openxclip.common.files import atomic_file, cannot_read, checked_target, reason_of, user_path
from openxclip.config import TimeContract
from openxclip.config.contract import CONTRACT_KEY
from openxclip.errors import OpenXCLIPError

_CONFIG = "config.json"
_BLANKS = " \t\r\n"


def as_contract(contract: TimeContract | str | Path) -> TimeContract:
    """Return a contract of time, read from a JSON file if a path is given.

    The file has the contract's keys (window, stride, threshold, …), or is a config.json with them under "openxclip".

    Raises:
        ValueError: the file can't be read, isn't JSON, or holds no valid contract; the message names the file.
    """
    if isinstance(contract, TimeContract):
        return contract
    path = user_path(contract)
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{contract}: can't be read: {reason_of(error)}") from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{contract}: is not JSON: {error}.") from error
    if isinstance(values, dict) and "model_type" in values and CONTRACT_KEY not in values:
        raise ValueError(f"{contract}: has no contract of time: its key {CONTRACT_KEY!r} is missing.")
    try:
        return TimeContract.from_dict(values.get(CONTRACT_KEY, values) if isinstance(values, dict) else values)
    except ValueError as error:
        text = re.sub(r"^([a-z_]+)=", r"\1 ", str(error))  # a key of the file, not an argument
        raise ValueError(f"{contract}: {text}") from error


def contract_file(place: str | Path) -> Path:
    """Return the file that `save_contract` would write, after checking that it can be written.

    Raises:
        ValueError: the place is neither a model's folder nor a file ending in .json, or can't be written.
    """
    path = user_path(place)
    if path.is_dir():
        if not (path / _CONFIG).is_file():
            raise ValueError(
                f"{place}: has no {_CONFIG}, so it is not a model's folder: give one, or a file FILE.json."
            )
        path = path / _CONFIG
    return checked_target(path, ".json")


def save_contract(contract: TimeContract, place: str | Path) -> Path:
    """Write a contract atomically, and return the path of the file.

    Args:
        contract: the contract.
        place: a model's folder or config.json, in which the key `openxclip` is written and everything else stays as it
            is, to the character; or another file ending in .json, which then holds the contract alone.

    Raises:
        ValueError: the place is neither a model's folder nor a file ending in .json, or can't be written.
        OpenXCLIPError: the config.json can't be read.
        OSError: the file can't be written.
    """
    path = contract_file(place)
    values = contract.to_dict()
    if path.name == _CONFIG and path.exists():
        text = _with_key(path, CONTRACT_KEY, values)
    else:
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
    return path


def _with_key(path: Path, key: str, value: Any) -> str:
    """Return the text of a JSON file with this value of a key of its object, and no other change."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        places, end = _places(text)
    except OSError as error:
        raise OpenXCLIPError(cannot_read(path, error)) from error
    except (ValueError, RecursionError) as error:
        raise OpenXCLIPError(f"{path}: is not a JSON object: {error}.") from error
    newline = "\r\n" if "\r\n" in text else "\n"
    first = min((start for start, _ in places.values()), default=end)
    line = text.rfind("\n", 0, first) + 1
    indent = text[line : len(text[:first]) - len(text[line:first].lstrip(_BLANKS))] if line else "  "
    block = json.dumps(value, indent=indent or None, ensure_ascii=False)
    block = textwrap.indent(block, indent).lstrip(_BLANKS).replace("\n", newline)
    if key in places:
        start, stop = places[key]
        return text[:start] + block + text[stop:]
    last = max((stop for _, stop in places.values()), default=text.index("{") + 1)
    comma = "," if places else ""
    tail = text[last:] if "\n" in text[last : end - 1] else newline + text[end - 1 :]
    return f"{text[:last]}{comma}{newline}{indent}{json.dumps(key)}: {block}{tail}"


def _places(text: str) -> tuple[dict[str, tuple[int, int]], int]:
    """Return where the value of each key of a JSON object begins and ends in a text, and where the object ends."""
    decode = JSONDecoder().raw_decode
    content, end = decode(text, _skip(text, 0))
    if not isinstance(content, dict) or _skip(text, end) != len(text):
        raise JSONDecodeError("it must be one object", text, 0)
    places: dict[str, tuple[int, int]] = {}
    i = _skip(text, text.index("{") + 1)
    while text[i] != "}":
        key, i = decode(text, i)
        start = _skip(text, _skip(text, i) + 1)  # after the colon
        _, stop = decode(text, start)
        places[key] = start, stop
        i = _skip(text, stop)
        if text[i] == ",":
            i = _skip(text, i + 1)
    return places, i + 1


def _skip(text: str, i: int) -> int:
    while i < len(text) and text[i] in _BLANKS:
        i += 1
    return i
