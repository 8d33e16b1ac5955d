"""Arguments of processors in code written for transformers: by position, by keyword, misspelt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from openxclip import AutoImageProcessor, AutoProcessor, AutoTokenizer
from openxclip.processing import BatchEncoding, CLIPTokenizer, VideoProcessor, XCLIPProcessor

TEXTS = ["a dog", "a cat sits on the mat"]


@pytest.fixture(scope="module")
def processor() -> XCLIPProcessor:
    return XCLIPProcessor(VideoProcessor(size=32, crop_size=32))


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    drawn = np.random.default_rng(0)
    return [drawn.integers(0, 256, (32, 40, 3), dtype=np.uint8) for _ in range(2)]


def same(batch: BatchEncoding, other: BatchEncoding) -> bool:
    return list(batch) == list(other) and all(torch.equal(batch[name], other[name]) for name in batch)


def test_texts_and_frames_by_position_in_any_order(processor: XCLIPProcessor, frames: list[np.ndarray]) -> None:
    options: dict[str, Any] = {"return_tensors": "pt", "padding": True}
    pictures = [Image.fromarray(frame) for frame in frames]
    both = processor(text=TEXTS, videos=frames, **options)
    for first in (frames, pictures, np.stack(frames), torch.from_numpy(np.stack(frames)), [frames]):
        assert same(processor(first, TEXTS, **options), both)
        assert same(processor(TEXTS, first, **options), both)
        assert same(processor(None, TEXTS, first, **options), both)
        assert same(processor(first, return_tensors="pt"), processor(videos=frames, return_tensors="pt"))
    assert same(processor(pictures[0], "a dog", **options), processor(text="a dog", images=frames[0], **options))


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("do_reisze", ": did you mean 'do_resize'?"), ("pading", ": did you mean 'padding'?"), ("sampling_rate", ".")],
)
def test_an_unknown_argument_of_a_call_is_a_warning(
    wrong: str, hint: str, processor: XCLIPProcessor, frames: list[np.ndarray]
) -> None:
    with pytest.warns(UserWarning, match="has no effect") as found:
        batch = processor(images=frames, return_tensors="pt", **{wrong: False})
    assert [str(one.message) for one in found] == [f"the argument {wrong!r} is unknown and has no effect{hint}"]
    assert found[0].filename == __file__
    assert same(batch, processor(images=frames, return_tensors="pt"))


def test_an_unknown_argument_of_the_image_processor_is_a_warning(
    processor: XCLIPProcessor, frames: list[np.ndarray]
) -> None:
    with pytest.warns(
        UserWarning, match="'do_normalise' is unknown and has no effect: did you mean 'do_normalize'"
    ) as w:
        batch = processor.image_processor(images=frames, do_normalise=False, return_tensors="pt")
    assert w[0].filename == __file__
    assert same(batch, processor(images=frames, return_tensors="pt"))


@pytest.mark.parametrize("cls", [AutoProcessor, AutoTokenizer, AutoImageProcessor, XCLIPProcessor])
def test_an_unknown_option_of_loading_is_an_error(cls: Any, ours_folder: Path) -> None:
    with pytest.raises(TypeError, match=r"from_pretrained has no argument 'colour'\.$"):
        cls.from_pretrained(ours_folder, colour=1)
    known = "model_max_length" if cls is AutoTokenizer else "do_normalize"
    with pytest.raises(TypeError, match=f"has no argument '{known[:-1]}': did you mean '{known}'"):
        cls.from_pretrained(ours_folder, **{known[:-1]: 1})
    cls.from_pretrained(ours_folder, torch_dtype="auto", use_fast=False, trust_remote_code=True, resume_download=True)


def test_settings_of_loading_replace_the_folders(ours_folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"size": 64, "do_normalize": False, "model_max_length": 20, "pad_token": "!"}
    made = XCLIPProcessor.from_pretrained(ours_folder, padding_side="left", num_frames=3, **settings)
    assert (made.image_processor.size, made.image_processor.do_normalize) == ({"shortest_edge": 64}, False)
    assert (made.tokenizer.model_max_length, made.tokenizer.pad_token, made.num_frames) == (20, "!", 3)
    assert made.tokenizer("a", padding="max_length", max_length=4)["attention_mask"] == [0, 1, 1, 1]
    made.save_pretrained(tmp_path)
    again = XCLIPProcessor.from_pretrained(tmp_path)
    assert again.image_processor == made.image_processor
    assert (again.tokenizer.model_max_length, again.tokenizer.padding_side, again.tokenizer.pad_token) == (
        20,
        "left",
        "!",
    )
    with pytest.raises(ValueError, match="size="):
        XCLIPProcessor.from_pretrained(ours_folder, size=-1)


def test_dicts_of_arguments(processor: XCLIPProcessor, frames: list[np.ndarray]) -> None:
    nested = processor(
        text=TEXTS,
        images=frames,
        truncation=False,
        text_kwargs={"padding": "max_length", "max_length": 10},
        images_kwargs={"do_normalize": False},
        common_kwargs={"return_tensors": "pt"},
    )
    options: dict[str, Any] = {"padding": "max_length", "max_length": 10, "truncation": False, "do_normalize": False}
    assert same(nested, processor(text=TEXTS, images=frames, return_tensors="pt", **options))


def test_none_is_the_processors_own_setting(processor: XCLIPProcessor, frames: list[np.ndarray]) -> None:
    plain = processor(images=frames, return_tensors="pt")
    none = dict.fromkeys(("do_resize", "size", "do_rescale", "do_normalize", "image_mean", "image_std"))
    assert same(processor(images=frames, return_tensors="pt", **none), plain)


@pytest.mark.parametrize("kind", ["pt", "np", None])
def test_channels_last(kind: str | None, processor: XCLIPProcessor, frames: list[np.ndarray]) -> None:
    first = processor(images=frames, return_tensors=kind)["pixel_values"]
    last = processor(images=frames, return_tensors=kind, data_format="channels_last")["pixel_values"]
    assert np.array_equal(np.moveaxis(np.asarray(first), 2, -1), np.asarray(last))


def test_settings_of_transformers_processors_are_taken_over(ours_folder: Path, frames: list[np.ndarray]) -> None:
    theirs = transformers.VideoMAEImageProcessor(
        size={"shortest_edge": 24}, crop_size={"height": 20, "width": 18}, image_mean=[0.1, 0.2, 0.3], do_rescale=False
    )
    tokenizer = transformers.CLIPTokenizer.from_pretrained(ours_folder, model_max_length=9)
    tokenizer.add_tokens(["newtoken"])
    made = XCLIPProcessor(theirs, tokenizer)
    assert made.image_processor.size == {"shortest_edge": 24}
    assert made.image_processor.crop_size == {"height": 20, "width": 18}
    assert (made.image_processor.image_mean, made.image_processor.do_rescale) == ((0.1, 0.2, 0.3), False)
    assert made.tokenizer.model_max_length == 9
    assert made.tokenizer("a newtoken")["input_ids"] == tokenizer("a newtoken")["input_ids"]
    assert made(images=frames, return_tensors="pt").pixel_values.shape == (1, 2, 3, 20, 18)
    assert XCLIPProcessor(feature_extractor=theirs).image_processor == made.image_processor


def test_other_objects_are_refused() -> None:
    with pytest.raises(
        TypeError, match="image_processor must be one of X-CLIP or VideoMAE, not an object of type dict"
    ):
        XCLIPProcessor({})
    with pytest.raises(TypeError, match="tokenizer must be a CLIP tokenizer, not an object of type str"):
        XCLIPProcessor(None, "clip")


def test_a_folder_of_a_slow_tokenizer_keeps_its_added_tokens_and_sides(ours_folder: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((ours_folder / name).read_bytes())
    added = {"49409": {"content": "<x>", "special": True}, "49408": {"content": "newtoken", "special": False}}
    config = {"added_tokens_decoder": added, "padding_side": "left", "truncation_side": "left"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    made = CLIPTokenizer.from_pretrained(tmp_path)
    assert made("newtoken <x>")["input_ids"] == [49406, 49408, 49409, 49407]
    assert made(["a b c", "a"], padding=True, truncation=True, max_length=4)["input_ids"] == [
        [49406, 321, 322, 49407],
        [49407, 49406, 320, 49407],
    ]
    with pytest.raises(ValueError, match="padding_side='top': choose"):
        CLIPTokenizer(config={"padding_side": "top"})


def test_tokens_of_a_batch_are_cut_and_padded() -> None:
    tokenizer = CLIPTokenizer()
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=5, return_offsets_mapping=True)
    assert [tokenizer.convert_tokens_to_ids(batch.tokens(i)) for i in (0, 1)] == batch["input_ids"]
    assert batch.word_ids(0) == [None, 0, 1, None, None]
    assert batch["offset_mapping"][1] == [(0, 0), (0, 1), (2, 5), (6, 10), (0, 0)]
    assert batch.copy().tokens() == batch.tokens()
    with pytest.raises(ValueError, match="was not made by a tokenizer"):
        BatchEncoding(a=1).tokens()
    with pytest.raises(KeyError, match="pixel_values"):
        batch["pixel_values"]


def test_tokens_of_the_processors_batch(processor: XCLIPProcessor, frames: list[np.ndarray]) -> None:
    batch = processor(text=TEXTS, images=frames, return_tensors="pt", padding=True, return_length=True)
    assert batch.tokens(1)[1:3] == ["a</w>", "cat</w>"]
    assert batch["length"].tolist() == [8, 8]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t(["a"], ["b", "c"]), ValueError, "1 texts have 2 pairs"),
        (lambda t: t("a", 5), TypeError, "text_pair 0 is a int"),
        (lambda t: t("a", "b c d e f g", truncation="only_first", max_length=8), ValueError, "truncation='only_first'"),
        (lambda t: t(["a"], return_overflowing_tokens=True), TypeError, "return_overflowing_tokens"),
        (lambda t: t.pad({"pixel_values": [1]}), ValueError, "there are no 'input_ids' to pad"),
        (lambda t: t.pad([]), ValueError, "there are no 'input_ids' to pad"),
        (lambda t: t.add_special_tokens({"start": "<s>"}), ValueError, "'start' is no special token"),
    ],
)
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(CLIPTokenizer())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["pt", "np", None])
def test_padding_later_gives_the_same_batch(side: str, kind: str | None) -> None:
    tokenizer = CLIPTokenizer(config={"padding_side": side})
    at_once = tokenizer(TEXTS, padding="max_length", max_length=11, return_tensors=kind)
    batches: list[Any] = [tokenizer(TEXTS), [dict(tokenizer(text)) for text in TEXTS]]
    batches += [[{"input_ids": np.asarray(tokenizer(text)["input_ids"])} for text in TEXTS]]
    for given in batches:
        padded = tokenizer.pad(given, padding="max_length", max_length=11, return_tensors=kind)
        for name in ("input_ids", "attention_mask"):
            assert np.array_equal(np.asarray(padded[name]), np.asarray(at_once[name]))
    one = tokenizer.pad(tokenizer("a dog"), padding="max_length", max_length=11)
    assert one["input_ids"] == tokenizer("a dog", padding="max_length", max_length=11)["input_ids"]


def test_settings_of_the_constructor(ours_folder: Path) -> None:
    files = (ours_folder / "vocab.json", ours_folder / "merges.txt")
    made = CLIPTokenizer(*files, model_max_length=5, pad_token="!", padding_side="left")
    assert made(["a b c d e", "a"], padding=True, truncation=True)["input_ids"][1] == [0, 0, 49406, 320, 49407]
    with pytest.raises(TypeError, match="CLIPTokenizer has no argument 'pad_tokn': did you mean 'pad_token'"):
        CLIPTokenizer(*files, pad_tokn="!")


def test_kinds_of_tensors_by_transformers_names(processor: XCLIPProcessor, frames: list[np.ndarray]) -> None:
    kinds = transformers.utils.TensorType
    assert isinstance(processor(images=frames, return_tensors=kinds.PYTORCH).pixel_values, torch.Tensor)
    assert isinstance(processor.tokenizer("a", return_tensors=kinds.NUMPY).input_ids, np.ndarray)
    assert len(processor.tokenizer("a", padding=transformers.utils.PaddingStrategy.MAX_LENGTH).input_ids) == 77
