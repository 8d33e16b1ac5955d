"""The model folder that the patterns use."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from openxclip import XCLIPProcessor


@pytest.fixture(scope="session")
def hub_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model, written by transformers."""
    folder = tmp_path_factory.mktemp("hub") / "tiny-xclip"
    transformers.XCLIPModel.from_pretrained(tiny_folder).save_pretrained(folder)
    XCLIPProcessor.from_pretrained(tiny_folder).save_pretrained(folder)  # with the vocabulary
    transformers.XCLIPProcessor.from_pretrained(folder).save_pretrained(folder)
    return folder
