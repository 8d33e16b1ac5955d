"""Pixel values are within one level of transformers' for any size, and equal if the arithmetic is exact."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from openxclip.errors import CheckpointError
from openxclip.processing import VideoProcessor
from openxclip.processing.resampling import (
    BICUBIC,
    BILINEAR,
    NEAREST,
    _resize_exactly,
    _taps,
    _weighted_array,
    _weighted_tensor,
    resize,
)

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

SIZES = [(256, 340), (224, 224), (256, 256), (128, 128), (225, 223), (720, 1280), (333, 77), (77, 333), (100, 131)]
SIZES += [(17, 19), (1, 40), (40, 1), (1, 1), (3, 9)]


def images(height: int, width: int, *, kind: str = "noise", count: int = 2, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    if kind == "noise":
        levels = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    else:
        levels = (255 * rng.integers(0, 2, (count, height, width, 3))).astype(np.uint8)
    return [Image.fromarray(frame) for frame in levels]


def levels_apart(ours: torch.Tensor, reference: Any, *, std: Any = STD) -> float:
    """Largest difference in levels of 1/255 before normalisation."""
    assert ours.shape == reference.shape
    return float(((ours - torch.as_tensor(reference)) * torch.tensor(std).view(3, 1, 1) * 255).abs().max())


@pytest.fixture(scope="module")
def ours() -> VideoProcessor:
    return VideoProcessor(image_mean=MEAN, image_std=STD)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["noise", "black and white"])
def test_sizes(ours: VideoProcessor, theirs: Any, size: tuple[int, int], kind: str) -> None:
    frames = images(*size, kind=kind)
    values = ours(frames, return_tensors="pt")["pixel_values"]
    reference = theirs.image_processor(frames, return_tensors="pt")["pixel_values"]
    assert values.dtype == torch.float32
    assert levels_apart(values, reference) <= 1.001


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.one_of(st.integers(1, 150), st.tuples(st.integers(1, 150), st.integers(1, 150))),
    crop=st.one_of(st.integers(1, 150), st.tuples(st.integers(1, 150), st.integers(1, 150))),
    resample=st.sampled_from([BILINEAR, BICUBIC, NEAREST]),
    do_resize=st.booleans(),
    do_center_crop=st.booleans(),
    seed=st.integers(0, 9),
)
def test_any_settings(
    ours: VideoProcessor, theirs: Any, height: int, width: int, size: Any, crop: Any, seed: int, **flags: Any
) -> None:
    if isinstance(size, int) and max(height, width) / min(height, width) > 8:
        width = height  # else the longer side grows to thousands of pixels
    frames = images(height, width, count=1, seed=seed)
    values = ours(frames, return_tensors="pt", size=size, crop_size=crop, **flags)["pixel_values"]
    to_dict = {
        "size": {"shortest_edge": size} if isinstance(size, int) else dict(zip(("height", "width"), size, strict=True))
    }
    reference = theirs.image_processor(frames, return_tensors="pt", crop_size=crop, **to_dict, **flags)["pixel_values"]
    exact = flags["resample"] != BILINEAR or not flags["do_resize"]
    assert levels_apart(values, reference) <= (0.001 if exact else 1.001)


@pytest.mark.parametrize("resample", [BILINEAR, BICUBIC])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_whole_number_resize_is_pillows(resample: int, size: tuple[int, int]) -> None:
    (image,) = images(*size, count=1)
    frame_1CHW = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    target, rows, columns = (61, 93), slice(5, 60), slice(0, 93)
    resized = _resize_exactly(frame_1CHW, target, rows, columns, resample)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(resized, np.array(image.resize((93, 61), resample))[rows, columns])


def test_fast_and_exact_resize_agree() -> None:
    (image,) = images(211, 307, count=1)
    frame_1CHW = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    window = {"rows": slice(10, 90), "columns": slice(3, 100)}
    fast = resize(frame_1CHW, (100, 145), **window, resample=BILINEAR)
    exact = _resize_exactly(frame_1CHW, (100, 145), *window.values(), BILINEAR)
    assert (fast.int() - exact.int()).abs().max() <= 1


@pytest.mark.parametrize("axis", [0, 1])
def test_arrays_and_tensors_are_weighted_alike(axis: int) -> None:
    """The sums use numpy on CPUs and torch on other devices."""
    images_NHWC = torch.randint(0, 256, (2, 31, 47, 3), dtype=torch.uint8)
    at, weights = _taps(images_NHWC.shape[axis + 1], 23, 2, 20, BICUBIC)
    made = _weighted_tensor(images_NHWC, axis + 1, at, weights)
    for image_HWC, made_HWC in zip(images_NHWC.numpy(), made.numpy(), strict=True):
        np.testing.assert_array_equal(made_HWC, _weighted_array(image_HWC, axis, at, weights))


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_arithmetic_and_types(ours: VideoProcessor, theirs: Any, rescale: bool, normalize: bool) -> None:
    flags = {"do_rescale": rescale, "do_normalize": normalize, "return_tensors": "pt"}
    frames = images(224, 260)
    values = ours(frames, **flags)["pixel_values"]
    reference = theirs.image_processor(frames, **flags)["pixel_values"]
    assert values.dtype == reference.dtype
    torch.testing.assert_close(values, reference, rtol=1e-5, atol=1e-5)


def test_returned_forms(ours: VideoProcessor, theirs: Any) -> None:
    frames = images(30, 40)
    plain, reference = ours(frames)["pixel_values"], theirs.image_processor(frames)["pixel_values"]
    assert isinstance(plain, list)
    assert isinstance(plain[0], list)
    assert [len(video) for video in plain] == [len(video) for video in reference] == [2]
    assert isinstance(plain[0][0], np.ndarray)
    assert plain[0][0].shape == reference[0][0].shape
    assert isinstance(ours(frames, return_tensors="np")["pixel_values"], np.ndarray)
    assert ours.preprocess(frames, return_tensors="pt").pixel_values.shape == (1, 2, 3, 224, 224)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_floats_of_0_to_1(ours: VideoProcessor, theirs: Any, dtype: type) -> None:
    frames = [(np.array(image) / 255).astype(dtype) for image in images(80, 90)]
    flags = {"do_rescale": False, "return_tensors": "pt"}
    reference = theirs.image_processor(frames, **flags)["pixel_values"]
    assert levels_apart(ours(frames, **flags)["pixel_values"], reference) <= 1.001
    flags["do_resize"] = False
    reference = theirs.image_processor(frames, **flags)["pixel_values"]
    tolerance = 1e-5 if dtype != np.float16 else 1e-2  # transformers computes in the type that came
    torch.testing.assert_close(ours(frames, **flags)["pixel_values"], reference.float(), rtol=tolerance, atol=tolerance)


def test_floats_rescaled_twice_warn_and_give_transformers_values(ours: VideoProcessor, theirs: Any) -> None:
    frames = [np.array(image).astype(np.float32) / 255 for image in images(80, 90)]
    with pytest.warns(UserWarning, match="do_rescale=False"):
        values = ours(frames, return_tensors="pt")["pixel_values"]
    assert levels_apart(values, theirs.image_processor(frames, return_tensors="pt")["pixel_values"]) <= 1.001


def test_floats_of_0_to_255(ours: VideoProcessor, theirs: Any) -> None:
    frames = [np.array(image).astype(np.float32) for image in images(80, 90)]
    values = ours(frames, return_tensors="pt")["pixel_values"]
    assert levels_apart(values, theirs.image_processor(frames, return_tensors="pt")["pixel_values"]) <= 1.001
    torch.testing.assert_close(
        ours([frame - 0.25 * (frame > 0) for frame in frames], return_tensors="pt")["pixel_values"], values
    )
    black = [np.zeros((80, 90, 3), np.float32)]
    assert (ours(black, return_tensors="pt", do_normalize=False)["pixel_values"] == 0).all()


@pytest.mark.parametrize("bad", [-1.0, 300.5, float("nan")])
def test_floats_out_of_range(ours: VideoProcessor, bad: float) -> None:
    frame = np.full((8, 8, 3), 0.5, np.float32)
    frame[0, 0, 0] = bad
    with pytest.raises(ValueError, match="0 to 255"):
        ours([frame])


def test_many_videos_of_many_sizes(ours: VideoProcessor) -> None:
    videos = [
        images(50, 60),
        [images(90, 40, count=1)[0], images(30, 31, count=1)[0]],
        np.zeros((2, 20, 20, 3), np.uint8),
    ]
    values = ours(videos, return_tensors="pt")["pixel_values"]
    assert values.shape == (3, 2, 3, 224, 224)
    for number, video in enumerate(videos):
        torch.testing.assert_close(ours(video, return_tensors="pt")["pixel_values"][0], values[number], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: VideoProcessor(size={"longest_edge": 5}), ValueError, "size="),
        (lambda: VideoProcessor(size=0), ValueError, "above 0"),
        (lambda: VideoProcessor(crop_size={"shortest_edge": 5}), ValueError, "crop_size="),
        (lambda: VideoProcessor(resample=5), ValueError, "resample=5"),
        (lambda: VideoProcessor(image_mean=(1, 2)), ValueError, "image_mean="),
        (lambda: VideoProcessor(image_std=0), ValueError, "image_std="),
        (lambda: VideoProcessor().replace(colour=3), TypeError, "colour"),
        (lambda: VideoProcessor().replace(extra={}), TypeError, "extra"),
        (lambda: VideoProcessor()(images(9, 9), images=images(9, 9)), ValueError, "one of them"),
        (lambda: VideoProcessor()(images(9, 9), return_tensors="jax"), ValueError, "jax"),
        (lambda: VideoProcessor()(images(9, 9), input_data_format="last"), ValueError, "channels_last"),
        (lambda: VideoProcessor()([images(9, 9), images(9, 9, count=3)]), ValueError, "2, 3"),
        (lambda: VideoProcessor(do_center_crop=False)([images(9, 9), images(9, 10)]), ValueError, "224×248"),
    ],
)
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------------------------------------------- folders


def test_configurations_are_read_as_in_transformers(hub_folder: Path, theirs_folder: Path, tmp_path: Path) -> None:
    from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil as Theirs

    (tmp_path / "preprocessor_config.json").write_text('{"size": 64, "do_pad": null}', encoding="utf-8")
    frames = images(90, 100)
    for folder in (hub_folder, theirs_folder, tmp_path):
        ours, theirs = VideoProcessor.from_pretrained(folder), Theirs.from_pretrained(folder)
        assert list(ours.image_mean) == list(theirs.image_mean)
        assert list(ours.image_std) == list(theirs.image_std)
        values = ours(frames, return_tensors="pt")["pixel_values"]
        reference = theirs(frames, return_tensors="pt")["pixel_values"]
        assert levels_apart(values, reference, std=ours.image_std) <= 1.001


def test_unknown_keys_are_kept_and_both_files_written(hub_folder: Path, theirs_folder: Path, tmp_path: Path) -> None:
    transforms = VideoProcessor.from_pretrained(hub_folder)
    assert [Path(file).name for file in transforms.save_pretrained(tmp_path)] == ["preprocessor_config.json"]
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert saved["something_new"] == {"kept": True}
    assert saved["feature_extractor_type"] == "VideoMAEFeatureExtractor"
    assert saved["size"] == {"shortest_edge": 224}
    frames = images(30, 40)
    again = VideoProcessor.from_pretrained(tmp_path)
    torch.testing.assert_close(*(one(frames, return_tensors="pt")["pixel_values"] for one in (transforms, again)))

    shutil.copy(theirs_folder / "processor_config.json", tmp_path)  # read before the other: it must not be stale
    changed = VideoProcessor(size=96, crop_size=(80, 64), resample=3)
    changed.save_pretrained(tmp_path)
    again = VideoProcessor.from_pretrained(tmp_path)
    assert (again.size, again.crop_size, again.resample) == (changed.size, changed.crop_size, 3)


def test_nested_video_processor_is_read(tmp_path: Path) -> None:
    nested = {"processor_class": "XCLIPProcessor", "video_processor": {"size": {"height": 5, "width": 6}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested), encoding="utf-8")
    assert VideoProcessor.from_pretrained(tmp_path).size == {"height": 5, "width": 6}


@pytest.mark.parametrize(
    ("content", "message"), [(None, "preprocessor_config"), ('{"size": "big"}', "'big'"), ("[", "JSON")]
)
def test_broken_folders(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "preprocessor_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        VideoProcessor.from_pretrained(tmp_path)
