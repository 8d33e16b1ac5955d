"""Texts and videos together: the results of transformers, and further features."""

from __future__ import annotations

import inspect
import pickle
import warnings
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from openxclip.errors import CheckpointError, VideoError
from openxclip.processing import BatchEncoding, CLIPTokenizer, VideoProcessor, XCLIPProcessor

TEXTS = ["playing sports", "eating spaghetti with a fork", "go shopping"]
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def clip(frames: int = 8, height: int = 48, width: int = 64, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8))


def assert_same(ours: BatchEncoding, reference: Any) -> None:
    assert set(ours) == set(reference)
    for name in set(ours) - {"pixel_values"}:
        assert torch.equal(ours[name], reference[name])
    if "pixel_values" in ours:
        difference = (ours["pixel_values"] - reference["pixel_values"]) * STD * 255
        assert difference.abs().max() <= 1.001


@pytest.fixture(scope="module")
def video_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 20 frames; frame i is grey of level 10·i."""
    path = tmp_path_factory.mktemp("video") / "steps.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# ---------------------------------------------------------------------------------------------------- as transformers


@pytest.mark.parametrize("kind", ["hub", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("ours", "theirs"))])
def test_folders_of_every_kind_give_transformers_inputs(
    kind: str, ours_folder: Path, theirs_folder: Path, hub_folder: Path
) -> None:
    from transformers import AutoProcessor
    from transformers import XCLIPProcessor as Theirs

    folder = {"ours": ours_folder, "theirs": theirs_folder, "hub": hub_folder}[kind]
    processor = XCLIPProcessor.from_pretrained(folder, local_files_only=True, use_fast=True)
    for loader in (AutoProcessor, Theirs):
        reference = loader.from_pretrained(folder)
        assert isinstance(reference, Theirs)
        for inputs in (
            {"text": TEXTS, "videos": clip()},
            {"text": TEXTS},
            {"images": clip(3)},
            {"videos": [clip(), clip(seed=1)], "text": "one text"},
            {"videos": list(torch.from_numpy(np.stack(clip())))},
        ):
            options = {"padding": True, "return_tensors": "pt"}
            assert_same(processor(**inputs, **options), reference(**inputs, **options))


def test_a_saved_processor_loads_in_transformers(theirs_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    processor = XCLIPProcessor.from_pretrained(theirs_folder)
    processor.image_processor.crop_size = {"height": 96, "width": 112}
    files = processor.save_pretrained(tmp_path)
    assert all(Path(file).is_file() for file in files)
    inputs = {"text": TEXTS, "videos": clip(), "padding": "max_length", "truncation": True, "return_tensors": "pt"}
    reference = AutoProcessor.from_pretrained(tmp_path)(**inputs)
    assert reference["pixel_values"].shape == (1, 8, 3, 96, 112)
    assert_same(processor(**inputs), reference)
    assert_same(XCLIPProcessor.from_pretrained(tmp_path)(**inputs), reference)


def test_lists_are_returned_as_in_transformers(processor: XCLIPProcessor, theirs: Any) -> None:
    for inputs in ({"text": TEXTS}, {"text": "one"}, {"text": TEXTS, "max_length": 4}):
        assert dict(processor(**inputs)) == dict(theirs(**inputs))
    plain = processor(videos=clip(2))["pixel_values"]
    reference = theirs(videos=clip(2))["pixel_values"]
    assert isinstance(plain, list)
    assert [frame.shape for frame in plain[0]] == [frame.shape for frame in reference[0]]
    arrays = processor(text=["a"], videos=clip(2), return_tensors="np")
    assert all(isinstance(value, np.ndarray) for value in arrays.values())


def test_settings_of_a_call(processor: XCLIPProcessor, theirs: Any) -> None:
    options = {"size": {"shortest_edge": 40}, "crop_size": 32, "image_mean": [0.4, 0.5, 0.6], "return_tensors": "pt"}
    assert_same(processor(videos=clip(2), **options), theirs(videos=clip(2), **options))
    options = {"do_resize": False, "do_center_crop": False, "return_tensors": "pt"}
    assert_same(processor(videos=clip(2), **options), theirs(videos=clip(2), **options))
    assert processor.image_processor.size == {"shortest_edge": 224}


def test_videos_under_both_names_and_by_position(processor: XCLIPProcessor) -> None:
    frames = clip(2)
    named = processor(text=TEXTS, videos=frames, return_tensors="pt")
    for batch in (
        processor(text=TEXTS, images=frames, return_tensors="pt"),
        processor(TEXTS, frames, return_tensors="pt"),
        processor(TEXTS, frames, None, "pt"),
    ):
        assert all(torch.equal(batch[name], named[name]) for name in named)
    assert list(inspect.signature(processor.__call__).parameters)[:4] == ["text", "videos", "images", "return_tensors"]


def test_parts_by_their_old_names(processor: XCLIPProcessor) -> None:
    assert processor.feature_extractor is processor.video_processor is processor.image_processor
    assert processor.model_input_names == ["input_ids", "attention_mask", "pixel_values"]
    ids = processor(text=TEXTS, padding=True)["input_ids"]
    assert processor.batch_decode(ids, skip_special_tokens=True) == TEXTS
    assert processor.decode(ids[0], skip_special_tokens=True) == TEXTS[0]


# ---------------------------------------------------------------------------------------------------- texts


def test_tensors_are_padded_unless_asked_otherwise(processor: XCLIPProcessor) -> None:
    assert processor(text=TEXTS, return_tensors="pt").input_ids.shape == (3, 7)
    assert processor(text=TEXTS, padding="max_length", return_tensors="pt").input_ids.shape == (3, 77)
    assert processor(text=TEXTS, padding="max_length", max_length=9, return_tensors="np").input_ids.shape == (3, 9)
    assert list(processor(text=TEXTS, return_attention_mask=False, return_tensors="pt")) == ["input_ids"]
    with pytest.raises(ValueError, match="padding=True"):
        processor(text=TEXTS, padding=False, return_tensors="pt")


def test_overlong_texts_are_cut_with_a_warning(processor: XCLIPProcessor) -> None:
    texts = ["cat " * 100, "dog"]
    with pytest.warns(UserWarning, match=r"text 0 \('cat cat .*has 102 tokens, but .* 77: .*truncation=True"):
        batch = processor(text=texts, return_tensors="pt")
    assert batch.input_ids.shape == (2, 77)
    assert batch.input_ids[0, -1] == processor.tokenizer.eos_token_id
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = processor(text=texts, return_tensors="pt", truncation=True)
        assert torch.equal(asked.input_ids, batch.input_ids)
        assert processor(text=texts, return_tensors="pt", truncation=False).input_ids.shape == (2, 102)
        assert processor(text=TEXTS, max_length=4, truncation=True, return_tensors="pt").input_ids.shape == (3, 4)


# ---------------------------------------------------------------------------------------------------- files


def test_file_is_sampled_uniformly(processor: XCLIPProcessor, video_file: Path) -> None:
    plain = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    values = processor(videos=video_file, **plain)["pixel_values"]
    assert values.shape == (1, 8, 3, 224, 224)
    expected = torch.tensor([10.0 * ((2 * t + 1) * 20 // 16) for t in range(8)])
    assert (values[0].float().mean((1, 2, 3)) - expected).abs().max() < 4
    for source in (str(video_file), video_file.read_bytes()):
        assert torch.equal(processor(videos=source, **plain)["pixel_values"], values)
    with video_file.open("rb") as stream:
        assert torch.equal(processor(videos=stream, **plain)["pixel_values"], values)
    batch = processor(videos=[video_file, str(video_file), clip(4)], num_frames=4, return_tensors="pt")
    assert batch.pixel_values.shape == (3, 4, 3, 224, 224)


def test_number_of_frames_is_the_models(ours_folder: Path, video_file: Path) -> None:
    processor = XCLIPProcessor.from_pretrained(ours_folder)
    assert processor.num_frames == 16
    assert processor(videos=video_file, return_tensors="np").pixel_values.shape[1] == 16


def test_missing_file(processor: XCLIPProcessor, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"missing\.mp4"):
        processor(videos=tmp_path / "missing.mp4")


# ---------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({}, ValueError, "text=, videos="),
        ({"videos": clip(1), "images": clip(1)}, ValueError, "one of them"),
        ({"text": 5}, TypeError, "int"),
        ({"text": clip(1), "videos": clip(1), "images": clip(1)}, ValueError, "one of them"),
        ({"videos": clip(1), "data_format": "last"}, ValueError, "data_format='last'"),
        ({"videos": [clip(8), clip(16), clip(8)]}, ValueError, "8, 16, 8"),
        ({"text": "a", "return_tensors": "tf"}, ValueError, "tf"),
        ({"text": []}, ValueError, "empty"),
    ],
)
def test_mistakes(processor: XCLIPProcessor, inputs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        processor(**inputs)


def test_folder_without_transforms(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="preprocessor_config"):
        XCLIPProcessor.from_pretrained(tmp_path)


def test_unknown_hub_argument(ours_folder: Path) -> None:
    with pytest.raises(TypeError, match="colour"):
        XCLIPProcessor.from_pretrained(ours_folder, colour=1)


# ---------------------------------------------------------------------------------------------------- what is returned


def test_batch_is_a_mapping_with_attributes(processor: XCLIPProcessor) -> None:
    batch = processor(text=TEXTS, videos=clip(2), return_tensors="pt")
    assert batch.input_ids is batch["input_ids"]
    assert {**batch}.keys() == batch.data.keys() == {"input_ids", "attention_mask", "pixel_values"}
    with pytest.raises(AttributeError, match="colour"):
        _ = batch.colour
    again = pickle.loads(pickle.dumps(batch))
    assert torch.equal(again.pixel_values, batch.pixel_values)


def test_batch_moves_and_casts(processor: XCLIPProcessor) -> None:
    batch = processor(text=TEXTS, videos=clip(2), return_tensors="pt")
    assert batch.to("cpu") is batch
    assert batch.to(torch.bfloat16).pixel_values.dtype == torch.bfloat16
    assert batch.input_ids.dtype == torch.int64
    assert batch.to("meta", torch.float16).pixel_values.dtype == torch.float16
    assert {value.device.type for value in batch.values()} == {"meta"}
    batch = processor(videos=clip(2), return_tensors="pt").to(device="meta", dtype=torch.float64)
    assert (batch.pixel_values.dtype, batch.pixel_values.device.type) == (torch.float64, "meta")
    for bad in (lambda: batch.to(3.5), lambda: batch.to(colour=1)):
        with pytest.raises(TypeError):
            bad()


def test_tokenizer_and_transforms_alone() -> None:
    processor = XCLIPProcessor(VideoProcessor(size=32, crop_size=32), CLIPTokenizer(), num_frames=4)
    assert processor(videos=clip(3), return_tensors="pt", device="cpu").pixel_values.shape == (1, 3, 3, 32, 32)


def test_a_batch_can_be_copied_and_written_to() -> None:
    batch = BatchEncoding(input_ids=torch.ones(1, 2, dtype=torch.int64))
    copied = batch.copy().to("cpu")
    copied.input_ids = torch.zeros(1, 2)
    assert torch.equal(copied["input_ids"], torch.zeros(1, 2))
    assert torch.equal(batch.input_ids, torch.ones(1, 2))
