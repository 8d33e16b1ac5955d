"""Folders as transformers' releases and this package write them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from openxclip.processing import CLIPTokenizer, VideoProcessor, XCLIPProcessor

torch.set_num_threads(min(2, torch.get_num_threads()))

START, END = "<|startoftext|>", "<|endoftext|>"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="session")
def ours_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A processor folder saved by openxclip, with the config.json of a model with 16 frames."""
    folder = tmp_path_factory.mktemp("ours")
    XCLIPProcessor(VideoProcessor(image_mean=MEAN, image_std=STD), CLIPTokenizer()).save_pretrained(folder)
    write_json(folder / "config.json", {"model_type": "xclip", "vision_config": {"num_frames": 16}})
    return folder


@pytest.fixture(scope="session")
def theirs(ours_folder: Path) -> Any:
    """transformers' processor, its tokenizer built from the vocab.json and merges.txt of `ours_folder`."""
    from transformers import CLIPTokenizer as TheirTokenizer
    from transformers import XCLIPProcessor as TheirProcessor
    from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

    tokenizer = TheirTokenizer(str(ours_folder / "vocab.json"), str(ours_folder / "merges.txt"), model_max_length=77)
    return TheirProcessor(VideoMAEImageProcessorPil(image_mean=MEAN, image_std=STD), tokenizer)


@pytest.fixture(scope="session")
def theirs_folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A processor folder saved by transformers 5: processor_config.json, tokenizer.json."""
    folder = tmp_path_factory.mktemp("theirs")
    theirs.save_pretrained(folder)
    write_json(folder / "config.json", {"model_type": "xclip"})
    return folder


@pytest.fixture(scope="session")
def hub_folder(ours_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the released ones: preprocessor_config.json with an int size, tokens with flags."""
    folder = tmp_path_factory.mktemp("hub")
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "config.json"):
        shutil.copy(ours_folder / name, folder)
    serialised = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    serialised["added_tokens"][0]["normalized"] = True
    serialised["model"]["merges"] = [" ".join(pair) for pair in serialised["model"]["merges"]]
    write_json(folder / "tokenizer.json", serialised)

    def flagged(content: str) -> dict[str, Any]:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
        return {"content": content, **flags, "__type": "AddedToken"}

    write_json(
        folder / "tokenizer_config.json",
        {
            "unk_token": flagged(END),
            "bos_token": flagged(START),
            "eos_token": flagged(END),
            "pad_token": END,
            "add_prefix_space": False,
            "errors": "replace",
            "do_lower_case": True,
            "name_or_path": "openai/clip-vit-base-patch32",
            "model_max_length": 77,
            "tokenizer_class": "CLIPTokenizer",
            "processor_class": "XCLIPProcessor",
        },
    )
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "VideoMAEFeatureExtractor",
            "image_mean": MEAN,
            "image_std": STD,
            "resample": 2,
            "size": 224,
            "something_new": {"kept": True},
        },
    )
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer()


@pytest.fixture(scope="session")
def processor() -> XCLIPProcessor:
    return XCLIPProcessor()
