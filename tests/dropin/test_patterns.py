"""Run every call pattern of the table with openxclip and with the installed transformers, and compare."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import patterns_config  # noqa: F401
import patterns_docs  # noqa: F401
import patterns_errors  # noqa: F401
import patterns_issues  # noqa: F401
import patterns_libraries  # noqa: F401
import patterns_models  # noqa: F401
import patterns_modules  # noqa: F401
import patterns_outputs  # noqa: F401
import patterns_pretrained  # noqa: F401
import patterns_processor  # noqa: F401
import patterns_saving  # noqa: F401
import patterns_submodules  # noqa: F401
import patterns_tokenizer  # noqa: F401
import patterns_towers  # noqa: F401
import patterns_training  # noqa: F401
import pytest
import transformers
from libraries import OURS, THEIRS, Given
from registry import PATTERNS, Pattern, problem, result_of

IS_4 = transformers.__version__.startswith("4.")


# These take a second or more each. One pattern each of training, evaluation and LoRA stays among the fast tests.
_SLOW = re.compile(r"trainer_(?!trains$|evaluates$)|lora_(?!merged$)|exported|loop_with|traced|saved_and_read")


def _param(row: Pattern) -> Any:
    return pytest.param(row, id=f"{row.group}-{row.name}", marks=pytest.mark.slow if _SLOW.search(row.name) else ())


@pytest.mark.parametrize("row", [_param(row) for row in PATTERNS])
def test_pattern(row: Pattern, hub_folder: Path, tmp_path: Path) -> None:
    results: dict[str, Any] = {}
    for lib in (OURS, THEIRS):
        scratch = tmp_path / lib.name
        scratch.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other tests check warnings
            results[lib.name] = result_of(row.run, lib, Given(hub_folder, scratch))
    found = problem(row, results["openxclip"], results["transformers"], row.outcome_4 if IS_4 else row.outcome)
    assert found is None, found


def test_names_of_patterns_are_unique() -> None:
    names = [(row.group, row.name) for row in PATTERNS]
    assert len(set(names)) == len(names)
