"""Evaluation views are cropped as in the paper's code; everything else rounds as transformers does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from openxclip import VideoPipeline
from openxclip.evaluation.scoring import view_maker
from openxclip.processing import VideoProcessor
from openxclip.processing.sources import in_memory
from openxclip.training.augmentation import draw_multi_scale_crop

HEIGHT, WIDTH = 256, 340  # of Kinetics; its longer side at 224 is 297.5


def frames(height: int = HEIGHT, width: int = WIDTH, count: int = 1) -> Tensor:
    """Smooth uint8 (T, 3, H, W), so that a shift of half a pixel is seen and rounding of levels is not."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frame_CHW = torch.stack([columns * 255 // width, rows * 255 // height, (rows + columns) % 256]).to(torch.uint8)
    return frame_CHW.expand(count, -1, -1, -1).contiguous()


def pillow_resize(frame_CHW: Tensor, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Resize to (height, width) with Pillow; return (H, W, 3)."""
    image = Image.fromarray(frame_CHW.permute(1, 2, 0).numpy())
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)


def max_difference(levels_CHW: Tensor, expected: np.ndarray[Any, Any]) -> int:
    return int(np.abs(levels_CHW.permute(1, 2, 0).numpy().astype(int) - expected).max())


def views(num_crops: int, size: int = 224, **settings: Any) -> Any:
    processor = SimpleNamespace(image_processor=VideoProcessor(**settings))
    config = SimpleNamespace(vision_config=SimpleNamespace(image_size=size))
    pipeline: Any = SimpleNamespace(processor=processor, model=SimpleNamespace(config=config))
    return view_maker(pipeline, num_crops)


@pytest.mark.parametrize("upright", [False, True])
def test_three_crops_round_the_longer_side(upright: bool) -> None:
    source_TCHW = frames(WIDTH, HEIGHT) if upright else frames()
    resized = pillow_resize(source_TCHW[0], (298, 224) if upright else (224, 298))
    cropped = views(3)(source_TCHW)
    for view_TCHW, place in zip(cropped, (0, 37, 74), strict=True):
        part = resized[place : place + 224] if upright else resized[:, place : place + 224]
        assert max_difference(view_TCHW[0], part) <= 1


@pytest.mark.parametrize(("height", "width"), [(240, 323), (323, 240)])
def test_one_crop_rounds_the_longer_side(height: int, width: int) -> None:
    """The short side becomes 256, the longer one 344.5."""
    source_TCHW = frames(height, width)
    sides = (256, 345) if width > height else (345, 256)
    top, left = (sides[0] - 224) // 2, (sides[1] - 224) // 2
    (view_TCHW,) = views(1)(source_TCHW)
    expected = pillow_resize(source_TCHW[0], sides)[top : top + 224, left : left + 224]
    assert max_difference(view_TCHW[0], expected) <= 1


def test_the_processor_rounds_down_as_transformers_does() -> None:
    source_TCHW = frames()
    kept = VideoProcessor(do_center_crop=False).levels(source_TCHW)
    assert kept.shape == (1, 3, 224, 297)
    assert max_difference(kept[0], pillow_resize(source_TCHW[0], (224, 297))) <= 1
    cut = VideoProcessor().levels(source_TCHW)
    assert max_difference(cut[0], pillow_resize(source_TCHW[0], (224, 297))[:, 36:260]) <= 1


def test_classify_embed_and_index_round_down(tiny_folder: Path) -> None:
    """85 × 64 becomes 42 × 32 in the pipeline that they use, and 43 × 32 in evaluation."""
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    transforms = pipeline.processor.image_processor
    frames_TCHW = frames(64, 85, count=4)
    with torch.no_grad():
        expected = pipeline.model.encode_video(transforms.values([transforms.levels(frames_TCHW)])).pooled
        middle = view_maker(pipeline, 3)(frames_TCHW)[1]
        elsewhere = pipeline.model.encode_video(transforms.values([middle])).pooled
    video = in_memory(frames_TCHW.permute(0, 2, 3, 1).numpy(), "x")
    encoded = next(iter(pipeline.encode_videos([video]))).features.pooled
    assert torch.allclose(encoded.float(), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(elsewhere, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (480, 639), (333, 250)])
def test_training_boxes_match_the_resized_frame(height: int, width: int) -> None:
    """mmaction's MultiScaleCrop in a frame of mmcv's rescale_size, as shares of the decoded frame."""
    scale = 256 / min(height, width)
    around = int(height * scale + 0.5), int(width * scale + 0.5)
    allowed = set()
    for tall in (256, 224, 192, 168):
        for wide in (256, 224, 192, 168):
            down, across = (around[0] - tall) // 4, (around[1] - wide) // 4
            for top, left in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)):
                allowed.add((top * down, left * across, tall, wide))
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        box = draw_multi_scale_crop(height, width, generator=generator)
        shares = (box.top / height, box.left / width, box.height / height, box.width / width)
        pixels = [share * around[i % 2] for i, share in enumerate(shares)]
        nearest = min(max(abs(a - b) for a, b in zip(pixels, box, strict=True)) for box in allowed)
        assert nearest <= 0.51 * scale + 0.01
