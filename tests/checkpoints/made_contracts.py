"""Model folders with a contract of time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def with_contract(folder: Path, target: Path, contract: Any) -> Path:
    """Copy a model's folder, and set the contract in its config.json."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "openxclip": contract}))
    return target


def contract_in(folder: Path) -> Any:
    """Return the contract in the config.json of a model's folder."""
    return json.loads((folder / "config.json").read_text())["openxclip"]
