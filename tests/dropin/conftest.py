"""The model folder that the patterns use."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # huggingface_hub reads it once, when it is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import transformers


@pytest.fixture(scope="session")
def hub_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model, written by transformers."""
    folder = tmp_path_factory.mktemp("hub") / "tiny-xclip"
    transformers.XCLIPModel.from_pretrained(tiny_folder).save_pretrained(folder)
    transformers.XCLIPProcessor.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder
