"""Resizing first and converting to pixel values later gives the same as one transform."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from openxclip.processing import VideoProcessor, XCLIPProcessor

SETTINGS: list[dict[str, Any]] = [
    {},
    {"size": 32, "crop_size": 32},
    {"size": (20, 30), "crop_size": 40},
    {"do_resize": False, "crop_size": 24},
    {"do_center_crop": False, "size": 24},
    {"resample": 3, "size": 32, "crop_size": 24},
    {"resample": 0, "size": 32, "crop_size": 24},
    {"do_normalize": False, "size": 32, "crop_size": 24},
    {"do_normalize": False, "do_rescale": False, "size": 32, "crop_size": 24},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("size", [(48, 64), (31, 7), (300, 340)])
def test_levels_then_values_equal_a_single_transform(settings: dict[str, Any], size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    videos = [torch.randint(0, 256, (3, *size, 3), dtype=torch.uint8, generator=generator) for _ in range(2)]
    transforms = VideoProcessor(**settings)
    expected = XCLIPProcessor(transforms)(videos=videos, return_tensors="pt").pixel_values
    levels = [transforms.levels(frames_THWC.permute(0, 3, 1, 2)) for frames_THWC in videos]
    assert all(one.dtype == torch.uint8 and one.is_contiguous() for one in levels)
    values = transforms.values(levels)
    assert values.dtype == expected.dtype
    assert torch.equal(values, expected)
    assert torch.equal(transforms.values(levels[1:], device="cpu"), expected[1:])
