"""Read the contract of time that an argument names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openxclip.common.files import reason_of, user_path
from openxclip.config import TimeContract
from openxclip.config.contract import CONTRACT_KEY


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
        raise ValueError(f"{contract}: {error}") from error
