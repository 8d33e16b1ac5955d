"""Patterns of the processor, the tokenizer, the image processor, and the batches that they return."""

from __future__ import annotations

import copy
import functools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from registry import DIFFERS, EQUAL, ONLY_HERE, ONLY_THERE, pattern

import openxclip
from openxclip.processing.vocab import clip_merges, clip_vocabulary

LEFT_OUT = "overflowing pieces of texts are not returned"


@functools.cache
def _read_once(read: Any, folder: Path) -> Any:
    return read(folder)


def tokenizer(lib: Any, given: Any) -> Any:
    """One for all patterns that don't change it: transformers takes a second to read it."""
    return _read_once(lib.AutoTokenizer.from_pretrained, given.folder)


def small_tokenizer(lib: Any, given: Any, **options: Any) -> Any:
    """One of few tokens, read anew: for patterns that change it, or read it in some way."""
    folder = given.scratch / "small"
    merges = clip_merges()[:2000]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary(merges)), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]), encoding="utf-8")
    openxclip.CLIPTokenizer(folder / "vocab.json", folder / "merges.txt").save_pretrained(folder)
    return lib.AutoTokenizer.from_pretrained(folder, **options)


def processor(lib: Any, given: Any) -> Any:
    """As `tokenizer`."""
    return _read_once(lib.XCLIPProcessor.from_pretrained, given.folder)


# ---------------------------------------------------------------------------------------------------- the processor


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
def images_of_four_dimensions(lib: Any, given: Any) -> Any:
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
def slow_tokenizer_asked_for(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given, use_fast=True)
    return made(given.texts, padding=True, return_tensors="pt").to("cpu")["input_ids"]


@pattern("client")
def keys_assigned_to_the_batch(lib: Any, given: Any) -> Any:
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
def data_format_last(lib: Any, given: Any) -> Any:
    made = processor(lib, given).image_processor(given.arrays, data_format="channels_last", return_tensors="np")
    return np.asarray(made["pixel_values"]).shape


@pattern("processor")
def data_format_first(lib: Any, given: Any) -> Any:
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
def settings_of_a_call(lib: Any, given: Any) -> Any:
    options = {"do_resize": False, "do_center_crop": False, "do_rescale": True, "do_normalize": False}
    return processor(lib, given)(images=given.arrays, return_tensors="pt", **options).pixel_values


@pattern("processor", outcome=ONLY_HERE, outcome_4=EQUAL)
def none_is_the_processors_own(lib: Any, given: Any) -> Any:
    made = processor(lib, given).image_processor(given.arrays, do_resize=None, image_mean=None, return_tensors="pt")
    return made.pixel_values


@pattern("processor")
def images_by_preprocess(lib: Any, given: Any) -> Any:
    return processor(lib, given).image_processor.preprocess(given.arrays, return_tensors="pt").pixel_values


@pattern("processor")
def rgb_is_asked_for(lib: Any, given: Any) -> Any:
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
def tokenizer_of_another_kind(lib: Any, given: Any) -> Any:
    lib.XCLIPProcessor(transformers.VideoMAEImageProcessor(), object())


@pattern("processor")
def settings_of_from_pretrained(lib: Any, given: Any) -> Any:
    own = given.processor(lib, do_normalize=False, size={"shortest_edge": 32}, model_max_length=50)
    made = own(images=given.arrays, return_tensors="pt").pixel_values
    return [own.tokenizer.model_max_length, made]


@pattern("processor")
def options_of_from_pretrained_that_need_nothing(lib: Any, given: Any) -> Any:
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
def mean_of_the_image_processor(lib: Any, given: Any) -> Any:
    made = processor(lib, given).image_processor
    return [list(made.image_mean), list(made.image_std), made.crop_size["height"], made.do_resize, int(made.resample)]


@pattern("processor")
def decoded(lib: Any, given: Any) -> Any:
    own = processor(lib, given)
    ids = own(text=given.texts, images=given.arrays, return_tensors="pt", padding=True)["input_ids"]
    return [own.batch_decode(ids, skip_special_tokens=True), own.decode(ids[0])]


@pattern("errors")
def nothing_given(lib: Any, given: Any) -> Any:
    return processor(lib, given)()


@pattern("errors")
def unknown_kind_of_tensors(lib: Any, given: Any) -> Any:
    return processor(lib, given)(text=given.texts, images=given.arrays, return_tensors="zz", padding=True)


# ---------------------------------------------------------------------------------------------------- the tokenizer


@pattern("processor")
def padded_to_a_length(lib: Any, given: Any) -> Any:
    return dict(
        tokenizer(lib, given)(given.texts, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    )


@pattern("processor")
def truncated(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)(given.texts, truncation=True, max_length=4))


@pattern("processor")
def truncated_on_the_left(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given, truncation_side="left", padding_side="left")
    return dict(made(given.texts, truncation=True, padding=True, max_length=5))


@pattern("processor")
def one_text(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)("a dog", return_length=True, return_special_tokens_mask=True))


@pattern("processor")
def pair_of_texts(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)("a dog", "runs over the lawn", return_token_type_ids=True))


@pattern("processor")
def pairs_truncated(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    first, second = ["a b c d e", "a", "a b c d"], ["c d e f", "a b c d e f g", "c d e f"]
    ways = (True, "longest_first", "only_second", "only_first")
    return [dict(made(first[0], second[0], truncation=way, max_length=9)) for way in ways] + [
        dict(made(first, second, truncation=True, max_length=9, padding=True))
    ]


@pattern("processor")
def words(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)([["hello", "world"], ["dogs"]], is_split_into_words=True, padding=True))


@pattern("processor")
def words_of_one_text(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(["playing", "guitars"], is_split_into_words=True)
    return [batch["input_ids"], batch.word_ids()]


@pattern("processor")
def offsets(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(given.texts, return_offsets_mapping=True, padding=True, return_tensors="pt")
    return dict(batch)


@pattern("processor")
def tokens_of_a_batch(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(given.texts, padding=True)
    return [batch.tokens(1), batch.word_ids(1), batch.sequence_ids(0), batch.char_to_token(0, 3), batch.is_fast]


@pattern("processor")
def encodings_of_a_batch(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(given.texts)
    return [batch[0].ids, batch.encodings[1].tokens]


@pattern("processor")
def tensors_afterwards(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(given.texts, padding=True)
    return dict(batch.convert_to_tensors("pt"))


@pattern("processor")
def tensors_afterwards_of_one_text(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)("a dog").convert_to_tensors("pt", prepend_batch_axis=True))


@pattern("processor")
def padded_afterwards(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return dict(made.pad(made(given.texts), padding=True, return_tensors="pt", pad_to_multiple_of=8))


@pattern("processor", outcome=ONLY_HERE)
def padded_by_a_collator(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    examples = [
        {"input_ids": made(text)["input_ids"], "labels": number, "pixel_values": torch.ones(2, 3)}
        for number, text in enumerate(given.texts)
    ]
    return dict(made.pad(examples, padding="max_length", max_length=12, return_tensors="pt"))


@pattern("training")
def data_collator_with_padding(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    collate = transformers.DataCollatorWithPadding(made, pad_to_multiple_of=4)
    return dict(collate([{**made(text), "labels": number} for number, text in enumerate(given.texts)]))


@pattern("training")
def default_data_collator(lib: Any, given: Any) -> Any:
    own = processor(lib, given)
    examples = [dict(own(text=[text], images=given.arrays, return_tensors="pt")) for text in ("a dog", "a cat")]
    return dict(transformers.default_data_collator([{k: v[0] for k, v in one.items()} for one in examples]))


@pattern("processor", outcome=ONLY_HERE, outcome_4=EQUAL)
def encode_plus(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given).encode_plus("a dog", max_length=6, padding="max_length", truncation=True))


@pattern("processor", outcome=ONLY_HERE, outcome_4=EQUAL)
def batch_encode_plus(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return [dict(made.batch_encode_plus(given.texts)), dict(made.batch_encode_plus([("a dog", "runs"), ("a", "b")]))]


@pattern("processor")
def encode(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return [made.encode("a dog"), made.encode("a dog", "runs"), made.encode("a dog", add_special_tokens=False)]


@pattern("processor")
def added_tokens(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    added = [made.add_tokens(["newtoken", "playing"]), made.add_tokens("<seen>", special_tokens=True)]
    ids = made("a newtoken <seen>")["input_ids"]
    return [added, len(made), made.vocab_size, ids, made.decode(ids, skip_special_tokens=True)]


@pattern("processor")
def added_tokens_saved_and_read(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    made.add_tokens(["newtoken"])
    made.save_pretrained(given.scratch)
    again = lib.AutoTokenizer.from_pretrained(given.scratch)
    return [len(again), again("a newtoken")["input_ids"]]


@pattern("processor")
def added_special_tokens(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    count = made.add_special_tokens({"additional_special_tokens": ["<video>"]})
    return [
        count,
        made("a <video>").tokens(),
        made.convert_tokens_to_ids("<video>"),
        "<video>" in made.all_special_tokens,
    ]


@pattern("processor")
def other_padding_token(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    made.add_special_tokens({"pad_token": "<pad>"})
    return [made.pad_token, made.pad_token_id, made(given.texts, padding=True)["input_ids"]]


@pattern("processor")
def padding_token_of_from_pretrained(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given, pad_token="!")
    return [made.pad_token, made.pad_token_id, made(given.texts, padding=True)["input_ids"]]


@pattern("processor")
def length_of_from_pretrained(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given, model_max_length=5)
    return [made.model_max_length, made(given.texts, truncation=True)["input_ids"], made.max_len_single_sentence]


@pattern("processor")
def padding_side_set(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    made.padding_side = "left"
    return dict(made(given.texts, padding=True))


@pattern("processor")
def padding_side_of_a_call(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)(given.texts, padding=True, padding_side="left"))


@pattern("processor")
def special_tokens(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    return [
        [getattr(made, name) for name in names],
        [getattr(made, f"{name}_id") for name in names],
        made.special_tokens_map,
        sorted(made.all_special_ids),
        made.num_special_tokens_to_add(),
    ]


@pattern("processor")
def name_or_path(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return [made.name_or_path == str(given.folder), made.is_fast, list(made.model_input_names)]


@pattern("processor")
def vocabulary(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return [len(made.vocab), made.get_vocab()["dog</w>"], len(made), made.vocab_size, made.get_added_vocab()]


@pattern("processor", outcome=ONLY_HERE, outcome_4=EQUAL)
def special_tokens_by_hand(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return [made.build_inputs_with_special_tokens([5, 6]), made.build_inputs_with_special_tokens([5], [6])]


@pattern("processor")
def mask_of_special_tokens(lib: Any, given: Any) -> Any:
    return tokenizer(lib, given).get_special_tokens_mask([49406, 320, 49407], already_has_special_tokens=True)


@pattern("processor")
def ids_and_tokens(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    tokens = made.tokenize("a dog runs")
    ids = made.convert_tokens_to_ids(tokens)
    return [
        tokens,
        ids,
        made.convert_ids_to_tokens(ids),
        made.convert_ids_to_tokens(made("a")["input_ids"], skip_special_tokens=True),
    ]


@pattern("processor")
def decoded_without_cleaning(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    ids = made("A dog's life, isn't it?")["input_ids"]
    return made.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pattern(
    "processor", outcome=DIFFERS, outcome_4=EQUAL, reason="spaces are cleaned up where asked, as in 4.x; 5.x ignores it"
)
def decoded_with_cleaning(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    ids = made("A dog's life, isn't it?")["input_ids"]
    return made.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)


@pattern("processor", outcome_4=ONLY_HERE)
def several_decoded(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return made.decode(made(["a dog", "a cat"])["input_ids"], True)


@pattern(
    "processor", outcome=DIFFERS, reason="spaces between words are given back; transformers leaves its marks of them"
)
def tokens_as_text(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return made.convert_tokens_to_string(made.tokenize("hello there"))


@pattern("processor", outcome=ONLY_THERE, reason=LEFT_OUT)
def overflowing_pieces(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return dict(made(given.texts, truncation=True, max_length=4, stride=1, return_overflowing_tokens=True))


@pattern("processor")
def copies_of_a_tokenizer(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    return [pickle.loads(pickle.dumps(made))("a dog")["input_ids"], copy.deepcopy(made)("a dog")["input_ids"]]


@pattern("processor")
def copies_of_a_batch(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(given.texts, padding=True, return_tensors="pt")
    return [dict(pickle.loads(pickle.dumps(batch))), dict(copy.deepcopy(batch)), batch.copy()["input_ids"]]


@pattern("errors")
def unequal_rows_into_tensors(lib: Any, given: Any) -> Any:
    return tokenizer(lib, given)(given.texts, return_tensors="pt")


@pattern("errors")
def pad_without_ids(lib: Any, given: Any) -> Any:
    return tokenizer(lib, given).pad({"pixel_values": [1]})


@pattern("errors")
def absent_tokenizer(lib: Any, given: Any) -> Any:
    return lib.AutoTokenizer.from_pretrained("nowhere/nothing", local_files_only=True)
