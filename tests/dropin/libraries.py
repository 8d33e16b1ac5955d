"""The two libraries under the names that client code imports, and the inputs of the patterns."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer

import openxclip

NAMES = (
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoProcessor",
    "AutoTokenizer",
    "XCLIPConfig",
    "XCLIPModel",
    "XCLIPPreTrainedModel",
    "XCLIPProcessor",
    "XCLIPTextConfig",
    "XCLIPTextModel",
    "XCLIPVisionConfig",
    "XCLIPVisionModel",
)


def library(module: Any) -> SimpleNamespace:
    """X-CLIP's classes and the Trainer of one module; classes that only transformers has are the same for both."""
    names = {name: getattr(module, name) for name in (*NAMES, "Trainer")}
    shared = {
        name: getattr(transformers, name)
        for name in ("VideoMAEImageProcessor", "CLIPTokenizer", "CLIPTokenizerFast", "TrainingArguments")
        if hasattr(transformers, name)
    }
    return SimpleNamespace(**shared, **names, name=module.__name__)


OURS, THEIRS = library(openxclip), library(transformers)


@dataclass(frozen=True)
class Given:
    """The inputs of patterns. They are made again for each library, so that a pattern may change them.

    Attributes:
        folder: a tiny model in the hub's format, written by transformers, with tokenizer and processor: 4 frames of
            32 x 32 pixels, CLIP's vocabulary.
        scratch: an empty folder.
    """

    folder: Path
    scratch: Path

    @property
    def arrays(self) -> list[np.ndarray]:
        """4 frames (H, W, 3) of uint8, of the model's height, because the libraries resize slightly differently."""
        drawn = np.random.default_rng(0)
        return [drawn.integers(0, 256, (32, 40, 3), dtype=np.uint8) for _ in range(4)]

    @property
    def images(self) -> list[Image.Image]:
        return [Image.fromarray(frame) for frame in self.arrays]

    @property
    def texts(self) -> list[str]:
        return ["playing guitar", "a dog runs over the lawn", "cooking"]

    @property
    def pixel_values(self) -> torch.Tensor:
        """(B, T, 3, H, W) of 2 videos."""
        return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    @property
    def input_ids(self) -> torch.Tensor:
        """(K, L) of 3 texts, with CLIP's start and end tokens."""
        return torch.tensor([[49406, 320, 1929, 49407], [49406, 2368, 4161, 49407], [49406, 4370, 525, 49407]])

    def model(self, lib: Any, **options: Any) -> Any:
        """The model; without options a copy of one that was loaded before, which is faster."""
        if options:
            return lib.XCLIPModel.from_pretrained(self.folder, **options)
        return copy.deepcopy(_loaded(lib.XCLIPModel, self.folder))

    def processor(self, lib: Any, **options: Any) -> Any:
        """The processor; without options a copy, too, whose tokenizer shares the vocabulary."""
        if options:
            return lib.XCLIPProcessor.from_pretrained(self.folder, **options)
        loaded = _loaded(lib.XCLIPProcessor, self.folder)
        backend = loaded.tokenizer.backend_tokenizer
        return copy.deepcopy(loaded, {id(backend): _same_pipeline(backend)})


def _same_pipeline(backend: Tokenizer) -> Tokenizer:
    """A tokenizer with the same steps and added tokens, around the same model, which a copy would read again."""
    made = Tokenizer(backend.model)
    made.add_special_tokens(list(backend.get_added_tokens_decoder().values()))
    for step in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        setattr(made, step, getattr(backend, step))
    return made


@cache
def _loaded(cls: Any, folder: Path) -> Any:
    return cls.from_pretrained(folder)
