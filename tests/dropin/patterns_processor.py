"""Patterns of the processor and the image processor."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from registry import DIFFERS, EQUAL, ONLY_HERE, ONLY_THERE, pattern

import openxclip
from openxclip.processing.vocab import clip_merges, clip_vocabulary


@functools.cache
def _read_once(read: Any, folder: Path) -> Any:
    return read(folder)


def tokenizer(lib: Any, given: Any) -> Any:
    """A shared tokenizer for patterns that don't change it, because transformers takes a second to load one."""
    return _read_once(lib.AutoTokenizer.from_pretrained, given.folder)


def small_tokenizer(lib: Any, given: Any, **options: Any) -> Any:
    """A newly loaded tokenizer with few tokens, for patterns that change it or load it with options."""
    folder = given.scratch / "small"
    merges = clip_merges()[:2000]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary(merges)), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]), encoding="utf-8")
    openxclip.CLIPTokenizer(folder / "vocab.json", folder / "merges.txt").save_pretrained(folder)
    return lib.AutoTokenizer.from_pretrained(folder, **options)


def processor(lib: Any, given: Any) -> Any:
    """A shared processor for patterns that don't change it."""
    return _read_once(lib.XCLIPProcessor.from_pretrained, given.folder)


@pattern("client")
def images_of_the_image_processor(lib: Any, given: Any) -> Any:
    return processor(lib, given).image_processor(images=given.images, return_tensors="pt")["pixel_values"]


@pattern("client")
def nested_lists_into_the_image_processor(lib: Any, given: Any) -> Any:
    return processor(lib, given).image_processor([given.arrays, given.arrays], return_tensors="pt").pixel_values


@pattern("client")
def images_first_by_position(lib: Any, given: Any) -> Any:
    return processor(lib, given)(given.images, return_tensors="pt")["pixel_values"]


@pattern("processor")
def images_then_texts_by_position(lib: Any, given: Any) -> Any:
    return dict(processor(lib, given)(given.images, given.texts, return_tensors="pt", padding=True))


@pattern("processor", outcome=ONLY_HERE)
def texts_by_position(lib: Any, given: Any) -> Any:
    return processor(lib, given)(given.texts, return_tensors="pt", padding=True)["input_ids"]


@pattern("client")
def misspelt_keyword(lib: Any, given: Any) -> Any:
    return processor(lib, given)(images=given.images, do_reisze=False, return_tensors="pt")["pixel_values"]


@pattern("client", outcome_4=ONLY_HERE)
def arrays_in_videos(lib: Any, given: Any) -> Any:
    return processor(lib, given)(text=given.texts, videos=given.arrays, return_tensors="pt", padding=True).pixel_values


@pattern("client")
def images_as_a_4d_array(lib: Any, given: Any) -> Any:
    return processor(lib, given)(images=list(np.stack(given.arrays)), return_tensors="pt").pixel_values


@pattern("client")
def dummy_text(lib: Any, given: Any) -> Any:
    return dict(processor(lib, given)(text="", images=given.arrays, return_tensors="pt", padding=True))


@pattern("client")
def lists_of_torch_frames(lib: Any, given: Any) -> Any:
    frames = [torch.from_numpy(frame).permute(2, 0, 1) for frame in given.arrays]
    return processor(lib, given)(images=[frames, frames], return_tensors="pt").pixel_values


@pattern("client")
def tokenizer_batch_with_the_image_processors(lib: Any, given: Any) -> Any:
    own = processor(lib, given)
    batch = own.tokenizer(given.texts, padding=True, return_tensors="pt")
    batch.update(own.image_processor(given.arrays, return_tensors="pt"))
    return dict(batch)


@pattern("client")
def use_fast_false(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given, use_fast=True)
    return made(given.texts, padding=True, return_tensors="pt").to("cpu")["input_ids"]


@pattern("client")
def keys_assigned_to_a_batch(lib: Any, given: Any) -> Any:
    batch = processor(lib, given)(text=given.texts, images=given.arrays, return_tensors="pt", padding=True)
    batch["pixel_values"] = batch["pixel_values"] * 2
    return dict(batch.to("cpu"))


@pattern("client", outcome=ONLY_HERE)
def processor_as_tokenizer(lib: Any, given: Any) -> Any:
    return processor(lib, given)(["a", "b"], padding="max_length", max_length=9, return_tensors="pt")["input_ids"]


@pattern("processor")
def sampling_rate(lib: Any, given: Any) -> Any:
    return processor(lib, given)(
        text=given.texts, images=given.arrays, sampling_rate=4, return_tensors="pt", padding=True
    ).pixel_values


@pattern("processor", outcome=DIFFERS, outcome_4=EQUAL, reason="channels_last is obeyed, as in 4.x; 5.x ignores it")
def data_format_channels_last(lib: Any, given: Any) -> Any:
    made = processor(lib, given).image_processor(given.arrays, data_format="channels_last", return_tensors="np")
    return np.asarray(made["pixel_values"]).shape


@pattern("processor")
def data_format_channels_first(lib: Any, given: Any) -> Any:
    return processor(lib, given)(images=given.arrays, data_format="channels_first", return_tensors="pt").pixel_values


@pattern("processor")
def return_length(lib: Any, given: Any) -> Any:
    return dict(processor(lib, given)(text=given.texts, return_length=True, padding=True, return_tensors="pt"))


@pattern("processor")
def dicts_of_arguments(lib: Any, given: Any) -> Any:
    made = processor(lib, given)(
        text=given.texts,
        images=given.arrays,
        text_kwargs={"padding": "max_length", "max_length": 12},
        images_kwargs={"do_normalize": False},
        common_kwargs={"return_tensors": "pt"},
    )
    return dict(made)


@pattern("processor")
def settings_in_a_call(lib: Any, given: Any) -> Any:
    options = {"do_resize": False, "do_center_crop": False, "do_rescale": True, "do_normalize": False}
    return processor(lib, given)(images=given.arrays, return_tensors="pt", **options).pixel_values


@pattern("processor", outcome=ONLY_HERE, outcome_4=EQUAL)
def none_means_the_default(lib: Any, given: Any) -> Any:
    made = processor(lib, given).image_processor(given.arrays, do_resize=None, image_mean=None, return_tensors="pt")
    return made.pixel_values


@pattern("processor")
def preprocess(lib: Any, given: Any) -> Any:
    return processor(lib, given).image_processor.preprocess(given.arrays, return_tensors="pt").pixel_values


@pattern("processor")
def do_convert_rgb(lib: Any, given: Any) -> Any:
    return processor(lib, given).image_processor(given.images, return_tensors="pt").pixel_values


@pattern("processor")
def grey_images(lib: Any, given: Any) -> Any:
    grey = [Image.fromarray(frame).convert("L").convert("RGB") for frame in given.arrays]
    return processor(lib, given)(images=grey, return_tensors="pt").pixel_values


@pattern("processor")
def image_processor_of_transformers(lib: Any, given: Any) -> Any:
    settings = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "image_std": [0.3, 0.4, 0.5]}
    transforms = transformers.VideoMAEImageProcessor(**settings)
    made = lib.XCLIPProcessor(transforms, transformers.CLIPTokenizerFast.from_pretrained(given.folder))
    return dict(made(text=given.texts, images=given.arrays, return_tensors="pt", padding=True))


@pattern("processor")
def image_processor_of_transformers_by_keyword(lib: Any, given: Any) -> Any:
    made = lib.XCLIPProcessor(
        image_processor=transformers.VideoMAEImageProcessor.from_pretrained(given.folder),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(given.folder),
    )
    return dict(made(text=given.texts, images=given.arrays, return_tensors="pt", padding=True))


@pattern("errors")
def tokenizer_of_another_class(lib: Any, given: Any) -> Any:
    lib.XCLIPProcessor(transformers.VideoMAEImageProcessor(), object())


@pattern("processor")
def settings_in_from_pretrained(lib: Any, given: Any) -> Any:
    own = given.processor(lib, do_normalize=False, size={"shortest_edge": 32}, model_max_length=50)
    made = own(images=given.arrays, return_tensors="pt").pixel_values
    return [own.tokenizer.model_max_length, made]


@pattern("processor")
def ignored_options_of_from_pretrained(lib: Any, given: Any) -> Any:
    own = given.processor(lib, torch_dtype=torch.float16, trust_remote_code=True, use_fast=True)
    return own.tokenizer(given.texts)["input_ids"]


@pattern("processor", outcome=ONLY_THERE, reason="an unknown option is an error; transformers drops it")
def misspelt_option_of_from_pretrained(lib: Any, given: Any) -> Any:
    return given.processor(lib, model_max_lenght=50).tokenizer.model_max_length


@pattern("processor")
def saved_and_read(lib: Any, given: Any) -> Any:
    processor(lib, given).save_pretrained(given.scratch)
    made = lib.AutoProcessor.from_pretrained(given.scratch)
    return dict(made(text=given.texts, images=given.arrays, return_tensors="pt", padding=True))


@pattern("processor", outcome=ONLY_HERE, outcome_4=EQUAL)
def attributes(lib: Any, given: Any) -> Any:
    own = processor(lib, given)
    return [list(own.attributes), type(own).__name__, own.image_processor.size["shortest_edge"]]


@pattern("processor")
def auto_image_processor(lib: Any, given: Any) -> Any:
    return lib.AutoImageProcessor.from_pretrained(given.folder)(given.images, return_tensors="pt").pixel_values


@pattern("processor")
def image_mean(lib: Any, given: Any) -> Any:
    made = processor(lib, given).image_processor
    return [list(made.image_mean), list(made.image_std), made.crop_size["height"], made.do_resize, int(made.resample)]


@pattern("processor")
def batch_decode(lib: Any, given: Any) -> Any:
    own = processor(lib, given)
    ids = own(text=given.texts, images=given.arrays, return_tensors="pt", padding=True)["input_ids"]
    return [own.batch_decode(ids, skip_special_tokens=True), own.decode(ids[0])]


@pattern("errors")
def call_without_inputs(lib: Any, given: Any) -> Any:
    return processor(lib, given)()


@pattern("errors")
def unknown_return_tensors(lib: Any, given: Any) -> Any:
    return processor(lib, given)(text=given.texts, images=given.arrays, return_tensors="zz", padding=True)
