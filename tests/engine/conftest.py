"""Settings shared by the model's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when huggingface_hub is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gc

import pytest
import torch


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Seed random numbers, and free full-size models before the next test."""
    torch.manual_seed(0)
    yield
    if request.node.get_closest_marker("slow") is not None:
        gc.collect()  # half a second, which a tiny model isn't worth
