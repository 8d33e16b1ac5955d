"""Augmentation: crops, colour changes, mixing, and determinism."""

from __future__ import annotations

import builtins
import math
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from openxclip.errors import OpenXCLIPError
from openxclip.processing import VideoProcessor
from openxclip.training import augmentation
from openxclip.training.augmentation import (
    Augmentation,
    crop,
    cutmix,
    draw_cutmix_box,
    draw_multi_scale_crop,
    mixup,
    smooth_labels,
)
from openxclip.video.views import Box

OFF = Augmentation(flip=0, jitter=0, grey=0, mixup=0, cutmix=0, label_smoothing=0)
PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}  # pixel values from 0 to 1
NEUTRAL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(seed))


def still(batch: int, frames: int = 3, side: int = 6, seed: int = 0) -> Tensor:
    """Make clips of identical frames, which stay identical if all frames are changed alike."""
    return noise(batch, 1, 3, side, side, seed=seed).expand(-1, frames, -1, -1, -1).contiguous()


# ------------------------------------------------------------------------------------------------------------- crops


def test_boxes_match_the_paper_at_its_resolution() -> None:
    """Frames of 340 × 256 are not resized, so boxes are those of the released code: pairs of scales, five places."""
    generator, seen = seeded(), Counter()
    for _ in range(3000):
        seen[draw_multi_scale_crop(256, 340, generator=generator)] += 1
    sides = (256, 224, 192, 168)
    sizes = Counter((sides.index(box.height), sides.index(box.width)) for box in seen.elements())
    assert set(sizes) == {(a, b) for a in range(4) for b in range(4) if abs(a - b) <= 1}
    assert all(230 < count < 370 for count in sizes.values())  # 300 each, ± 4 standard deviations
    places = Counter()
    for box in seen.elements():
        down, across = (256 - box.height) // 4, (340 - box.width) // 4
        corners = {(0, 0), (0, 4 * across), (4 * down, 0), (4 * down, 4 * across)}
        assert (box.top, box.left) in corners | {(2 * down, 2 * across)}
        if down:
            places[box.top / down / 4, box.left / across / 4] += 1
    assert set(places) == {(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)}
    assert max(places.values()) < 1.3 * min(places.values())


@pytest.mark.parametrize("size", [1, 31, 224, 336])
@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 1000), (2, 3), (7, 5), (33, 1999), (1999, 33), (239, 241), (1080, 1920)]
)
def test_boxes_stay_in_the_frame(height: int, width: int, size: int) -> None:
    generator, short = seeded(), min(height, width)
    for _ in range(200):
        box = draw_multi_scale_crop(height, width, size=size, generator=generator)
        assert 0 <= box.top <= box.top + box.height <= height
        assert 0 <= box.left <= box.left + box.width <= width
        assert box.height >= 1
        assert box.width >= 1
        if size >= 224:
            assert 0.65 * short - 1 <= min(box.height, box.width) <= max(box.height, box.width) <= short


def test_boxes_scale_with_the_frame() -> None:
    for seed in range(50):
        small = draw_multi_scale_crop(256, 340, generator=seeded(seed))
        large = draw_multi_scale_crop(1280, 1700, generator=seeded(seed))
        assert all(abs(5 * a - b) <= 3 for a, b in zip(small, large, strict=True))


def test_boxes_of_small_clips_are_rounded_like_their_frames() -> None:
    """Frames for clips of 32 pixels are resized to 36, and 0.875 of 36 is rounded down to 31."""
    boxes = [draw_multi_scale_crop(36, 50, size=32, generator=seeded(seed)) for seed in range(200)]
    assert {box.height for box in boxes} == {box.width for box in boxes} == {36, 31, 27, 23}


def test_custom_scales() -> None:
    boxes = {draw_multi_scale_crop(100, 100, scales=(1.0,), generator=seeded(seed)) for seed in range(20)}
    assert boxes == {Box(0, 0, 100, 100)}
    sizes = {
        draw_multi_scale_crop(256, 300, scales=(1.0, 0.5, 0.25), generator=seeded(seed))[2:] for seed in range(200)
    }
    assert sizes == {(256, 256), (256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 0, "width": 5}, "frames of 5×0"),
        ({"height": 5, "width": 5, "size": 0}, "clips of 0 pixels"),
        ({"height": 5, "width": 5, "scales": ()}, r"scales=\(\)"),
        ({"height": 5, "width": 5, "scales": (1.0, 0.0)}, r"scales=\(1\.0, 0\.0\)"),
        ({"height": 5, "width": 5, "scales": (1.5,)}, "at most 1"),
    ],
)
def test_invalid_crop_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_multi_scale_crop(**arguments, generator=seeded())


def test_crop_matches_pillow() -> None:
    frames_TCHW = noise(3, 3, 61, 90)
    box = Box(5, 11, 40, 53)
    cropped = crop(frames_TCHW, box, 24)
    assert cropped.shape == (3, 3, 24, 24)
    assert cropped.dtype == torch.uint8
    assert cropped.is_contiguous()
    for frame_CHW, made_CHW in zip(frames_TCHW, cropped, strict=True):
        image = Image.fromarray(frame_CHW.permute(1, 2, 0).numpy()).crop((11, 5, 64, 45))
        expected = np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(made_CHW.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize("box", [Box(0, 0, 1, 1), Box(3, 4, 2, 7), Box(0, 0, 9, 12), Box(1, 2, 8, 8)])
def test_any_box_becomes_a_square(box: Box) -> None:
    frames_THWC = noise(2, 9, 12, 3)  # the memory layout of decoders
    cropped = crop(frames_THWC.permute(0, 3, 1, 2), box, 8)
    assert cropped.shape == (2, 3, 8, 8)
    if box == Box(1, 2, 8, 8):  # no resampling
        assert torch.equal(cropped, frames_THWC.permute(0, 3, 1, 2)[..., 1:9, 2:10])


def test_invalid_crops_are_refused() -> None:
    with pytest.raises(ValueError, match="exceeds frames of 12×9"):
        crop(noise(2, 3, 9, 12), Box(2, 0, 8, 8), 8)
    with pytest.raises(ValueError, match=r"torch\.float32"):
        crop(torch.zeros(2, 3, 9, 12), Box(0, 0, 8, 8), 8)


# ------------------------------------------------------------------------------------------------------- off, and form


def test_with_everything_off_clips_are_only_normalised() -> None:
    clips, labels = noise(3, 2, 3, 8, 6), torch.tensor([2, 0, 1])
    kept = clips.clone()
    pixels, targets = OFF(clips, labels, 4, generator=seeded())
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    assert torch.equal(pixels, (clips.float() / 255 - mean) / std)
    assert pixels.is_contiguous()
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, 4).float())
    assert torch.equal(clips, kept)
    evaluated = VideoProcessor(do_resize=False, do_center_crop=False).values(list(clips))
    assert (pixels - evaluated).abs().max() < 1e-6


def test_with_everything_off_kornia_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("kornia"):
            raise ModuleNotFoundError("No module named 'kornia'", name="kornia")
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "kornia", raising=False)  # an earlier test has loaded it
    OFF(noise(2, 2, 3, 4, 4), None, 0, generator=seeded())
    with pytest.raises(OpenXCLIPError, match=r"needs kornia, which is not installed: pip install 'openxclip\[train\]'"):
        replace(OFF, grey=1.0)(noise(2, 2, 3, 4, 4), None, 0, generator=seeded())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 1.5}, r"flip=1\.5: must be from 0 to 1"),
        ({"jitter": -0.1}, "jitter"),
        ({"grey": math.nan}, "grey=nan"),
        ({"mix_switch": 2}, "mix_switch"),
        ({"hue": 0.6}, r"hue=0\.6: must be from 0 to 0\.5"),
        ({"brightness": -1}, "brightness=-1: must be 0 or more"),
        ({"mixup": math.inf}, "mixup=inf"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1\.0"),
        ({"mean": (0.5,)}, r"mean=\(0\.5,\)"),
        ({"std": (0.5, 0.0, 0.5)}, "above 0"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)


@pytest.mark.parametrize(
    ("clips", "labels", "message"),
    [
        (torch.zeros(2, 2, 3, 4, 4), torch.tensor([0, 1]), r"torch\.float32"),
        (noise(2, 3, 4, 4), torch.tensor([0, 1]), r"\(2, 3, 4, 4\)"),
        (noise(2, 2, 4, 4, 3), torch.tensor([0, 1]), "frames, 3, height"),
        (noise(2, 2, 3, 4, 4), torch.tensor([0]), "1 labels of 2 clips"),
        (noise(2, 2, 3, 4, 4), torch.tensor([0, 5]), "label 5: must be from 0 to less than num_classes=5"),
        (noise(2, 2, 3, 4, 4), torch.tensor([0, -1]), "label -1"),
        (noise(2, 2, 3, 4, 4), torch.tensor([0.0, 1.0]), "one integer"),
        (noise(2, 2, 3, 4, 4), torch.tensor([[0], [1]]), r"\(2, 1\)"),
    ],
)
def test_invalid_batches_are_refused(clips: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation()(clips, labels, 5, generator=seeded())


# --------------------------------------------------------------------------------------------------- flips and colours


def test_frames_of_a_clip_change_alike() -> None:
    pixels, _ = Augmentation()(still(40), torch.zeros(40, dtype=torch.long), 2, generator=seeded())
    assert torch.equal(pixels, pixels[:, :1].expand_as(pixels))


def test_contrast_changes_about_the_mean_of_the_clip() -> None:
    """A static part of the picture stays static, even if the rest of the picture becomes darker."""
    clips = still(16, frames=4)
    clips[:, 2:, :, 3:] //= 2
    contrast = replace(OFF, jitter=1.0, **{**NEUTRAL, "contrast": 0.9}, **PLAIN)
    pixels, _ = contrast(clips, None, 0, generator=seeded())
    assert torch.equal(pixels[..., :3, :], pixels[:, :1, :, :3].expand(-1, 4, -1, -1, -1))
    grey = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    mean = ((clips.float() / 255) * grey).sum(2).mean((1, 2, 3)).view(-1, 1, 1, 1, 1)
    inside = (pixels > 0.001) & (pixels < 0.999)
    factor = ((pixels - mean) / (clips.float() / 255 - mean)).where(inside, torch.nan)
    assert (factor.flatten(1).nanmedian(1).values - 1).abs().max() < 0.9
    assert factor.flatten(1).nanmedian(1).values.std() > 0.2
    spread = factor.flatten(1) - factor.flatten(1).nanmedian(1, keepdim=True).values
    assert spread[(clips.float() / 255 - mean).abs().flatten(1) > 0.1].nan_to_num().abs().max() < 1e-4


def test_probability_of_each_change() -> None:
    clips, number = still(2000, frames=2, side=4), 2000
    left = clips[..., 0] != clips.flip(-1)[..., 0]
    shares = {
        "flip": (replace(OFF, flip=0.3), 0.3),
        "jitter": (replace(OFF, jitter=0.8), 0.8),
        "grey": (replace(OFF, grey=0.2), 0.2),
    }
    plain, _ = OFF(clips, None, 0, generator=seeded())
    assert left.any()
    for name, (settings, share) in shares.items():
        pixels, _ = settings(clips, None, 0, generator=seeded())
        changed = (pixels != plain).flatten(1).any(1).float().mean().item()
        assert abs(changed - share) < 4 * math.sqrt(share * (1 - share) / number), name
    mirrored, _ = replace(OFF, flip=1.0)(clips, None, 0, generator=seeded())
    assert torch.equal(mirrored, plain.flip(-1))


def test_a_setting_does_not_change_other_draws() -> None:
    """A comparison with and without one change sees the same clips otherwise."""
    clips = still(30)
    flipped, _ = replace(OFF, flip=0.5, **PLAIN)(clips, None, 0, generator=seeded())
    both, _ = replace(OFF, flip=0.5, grey=0.5, **PLAIN)(clips, None, 0, generator=seeded())
    coloured = (both[:, :, 0] != both[:, :, 1]).flatten(1).any(1)
    assert 5 < coloured.sum() < 25
    assert torch.equal(both[coloured], flipped[coloured])


def test_grey_matches_pillow() -> None:
    clips = noise(3, 2, 3, 5, 5)
    pixels, _ = replace(OFF, grey=1.0, **PLAIN)(clips, None, 0, generator=seeded())
    assert torch.equal(pixels[:, :, 0], pixels[:, :, 1])
    assert torch.equal(pixels[:, :, 0], pixels[:, :, 2])
    for clip, made in zip(clips.flatten(0, 1), pixels.flatten(0, 1), strict=True):
        expected = np.asarray(Image.fromarray(clip.permute(1, 2, 0).numpy()).convert("L")) / 255
        assert np.abs(made[0].numpy() - expected).max() < 1 / 255


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colour_changes_match_pillow(name: str) -> None:
    """The factor isn't known, so the test searches for one that explains all pixels."""
    kinds = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}
    clips = noise(6, 1, 3, 16, 16) // 2 + 60
    pixels, _ = replace(OFF, jitter=1.0, **{**NEUTRAL, name: 0.4}, **PLAIN)(clips, None, 0, generator=seeded())
    factors = []
    for clip, made in zip(clips[:, 0], pixels[:, 0], strict=True):
        image = Image.fromarray(clip.permute(1, 2, 0).numpy())
        off = [
            (np.abs(np.asarray(kinds[name](image).enhance(f)) - made.permute(1, 2, 0).numpy() * 255).mean(), f)
            for f in np.arange(0.6, 1.401, 0.01)
        ]
        assert min(off)[0] < 1
        factors.append(min(off)[1])
    assert max(factors) - min(factors) > 0.2
    assert min(factors) < 1 < max(factors)


def test_contrast_is_never_inverted() -> None:
    """If contrast is above 1, the lowest factor is 0, so dark pixels never become brighter than bright ones."""
    clips = torch.tensor([60, 180], dtype=torch.uint8).view(1, 1, 1, 2, 1).expand(200, 1, 3, 2, 2)
    pixels, _ = replace(OFF, jitter=1.0, **{**NEUTRAL, "contrast": 2.0}, **PLAIN)(clips, None, 0, generator=seeded())
    assert (pixels[..., 1, :] >= pixels[..., 0, :]).all()
    flat = (pixels[..., 1, :] == pixels[..., 0, :]).flatten(1).all(1).float().mean()
    assert 0.15 < flat < 0.35  # a quarter of the factors would be below 0


def test_hue_shifts_colours() -> None:
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 1, 3, 1, 1).expand(200, 1, 3, 2, 2)
    pixels, _ = replace(OFF, jitter=1.0, **{**NEUTRAL, "hue": 0.1}, **PLAIN)(red, None, 0, generator=seeded())
    assert torch.allclose(pixels[:, :, 0], torch.ones(()))  # within a sixth of the circle red stays at its height
    other = pixels[:, 0, 1:, 0, 0]
    assert torch.allclose(other.amin(1), torch.zeros(()), atol=1e-6)
    turns = (other[:, 0] - other[:, 1]) / 6  # green rises one way, blue the other
    assert turns.abs().max() <= 0.1 + 1e-6
    assert turns.min() < -0.09
    assert turns.max() > 0.09


def test_the_order_of_changes_is_random() -> None:
    """Brightness before contrast clips other levels than brightness after contrast."""
    clips = still(1, frames=1, side=8).expand(300, -1, -1, -1, -1)
    settings = replace(OFF, jitter=1.0, **{**NEUTRAL, "brightness": 1.0, "contrast": 1.0}, **PLAIN)
    pixels, _ = settings(clips, None, 0, generator=seeded())
    source, seen = clips[0, 0].float() / 255, Counter()
    grey = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)

    def brighter(image: Tensor, factor: float) -> Tensor:
        return (image * factor).clamp(0, 1)

    def sharper(image: Tensor, factor: float) -> Tensor:
        mean = (image * grey).sum(0).mean()
        return (image * factor + mean * (1 - factor)).clamp(0, 1)

    generator = seeded()
    for _ in range(2):
        torch.rand(300, generator=generator)  # flips, jitters
    torch.rand(300, 4, generator=generator)  # orders
    factors = 1 + (2 * torch.rand(300, 4, generator=generator) - 1)
    for made, (bright, sharp, *_) in zip(pixels[:, 0], factors.tolist(), strict=True):
        first = (made - sharper(brighter(source, bright), sharp)).abs().max() < 1e-4
        second = (made - brighter(sharper(source, sharp), bright)).abs().max() < 1e-4
        assert first or second
        seen[bool(first), bool(second)] += 1
    assert seen[True, False] > 50
    assert seen[False, True] > 50


def test_values_stay_in_range() -> None:
    settings = Augmentation(jitter=1.0, brightness=2.0, contrast=2.0, saturation=2.0, hue=0.5, **PLAIN)
    clips = torch.cat(
        [noise(30, 2, 3, 5, 7), torch.zeros(5, 2, 3, 5, 7).byte(), torch.full((5, 2, 3, 5, 7), 255).byte()]
    )
    for seed in range(4):
        pixels, targets = settings(clips, torch.arange(40), 40, generator=seeded(seed))
        assert pixels.isfinite().all()
        assert pixels.min() >= 0
        assert pixels.max() <= 1 + 1e-6
        assert targets is not None
        assert torch.allclose(targets.sum(1), torch.ones(40))


# ------------------------------------------------------------------------------------------------------------- mixing


def test_mixup_by_hand() -> None:
    targets = smooth_labels(torch.tensor([0, 1, 2]), 4, 0.2)  # off 0.05, on 0.85
    assert torch.allclose(
        targets, torch.tensor([[0.85, 0.05, 0.05, 0.05], [0.05, 0.85, 0.05, 0.05], [0.05, 0.05, 0.85, 0.05]])
    )
    clips = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1, 1).expand(3, 2, 3, 4, 5)
    mixed, soft = mixup(clips, targets, 0.75)
    assert torch.allclose(mixed[:, 0, 0, 0, 0], torch.tensor([0.25, 0.5, 0.75]))
    assert torch.allclose(
        soft,
        torch.tensor([[0.65, 0.05, 0.25, 0.05], [0.05, 0.85, 0.05, 0.05], [0.25, 0.05, 0.65, 0.05]]),
    )
    assert torch.equal(mixed[1], clips[1])  # the middle one is its own partner


def test_cutmix_by_hand() -> None:
    clips = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1, 1).expand(2, 3, 3, 4, 5)
    cut, soft = cutmix(clips, torch.eye(2), Box(1, 2, 2, 3))  # 6 pixels of 20
    picture = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 2, 2, 2], [1, 1, 2, 2, 2], [1, 1, 1, 1, 1]]).float()
    assert torch.equal(cut[0], picture.expand(3, 3, 4, 5))
    assert torch.equal(cut[1], 3 - picture.expand(3, 3, 4, 5))
    assert torch.allclose(soft, torch.tensor([[0.7, 0.3], [0.3, 0.7]]))
    untouched, same = cutmix(clips, torch.eye(2), Box(3, 2, 0, 0))
    assert torch.equal(untouched, clips)
    assert torch.equal(same, torch.eye(2))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (224, 224)])
def test_cutmix_boxes(height: int, width: int) -> None:
    generator = seeded()
    for weight in (0.0, 0.01, 0.5, 0.99, 1.0):
        share = math.sqrt(1 - weight)
        for _ in range(50):
            box = draw_cutmix_box(height, width, weight, generator=generator)
            assert 0 <= box.top <= box.top + box.height <= height
            assert 0 <= box.left <= box.left + box.width <= width
            assert box.height <= height * share
            assert box.width <= width * share
    if height == 224:
        whole = [draw_cutmix_box(224, 224, 0.75, generator=generator) for _ in range(1000)]
        assert max(box.height for box in whole) == 112
        assert min(box.top for box in whole) == 0
        assert max(box.top + box.height for box in whole) == 224


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("batch", [2, 3, 4])
def test_clips_are_mixed_with_their_targets(kind: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "_draw_beta", lambda alpha, generator: 0.64)
    settings = replace(OFF, **{kind: 1.0}, label_smoothing=0.1, **PLAIN)
    levels = torch.arange(batch, dtype=torch.uint8) * 20
    clips = levels.view(-1, 1, 1, 1, 1).expand(batch, 2, 3, 20, 20)
    one_hot, shares = torch.eye(5)[:batch] * 0.9 + 0.02, []
    for seed in range(60):
        pixels, targets = settings(clips, torch.arange(batch), 5, generator=seeded(seed))
        if kind == "mixup":
            kept = 0.64
            assert torch.allclose(pixels[:, 0, 0, 0, 0] * 255, 0.64 * levels + 0.36 * levels.flip(0))
            assert torch.equal(pixels, pixels[..., :1, :1].expand_as(pixels))
        else:
            kept = (pixels[0, 0, 0] == 0).float().mean().item()  # the first clip is black, but its partner isn't
            assert torch.equal(pixels, pixels[:, :1, :1].expand_as(pixels))
            own, partners = (of.view(-1, 1, 1, 1, 1) for of in (levels / 255, levels.flip(0) / 255))
            assert ((pixels == own) | (pixels == partners)).all()
        assert torch.allclose(targets, kept * one_hot + (1 - kept) * one_hot.flip(0))  # type: ignore[arg-type]
        shares.append(kept)
    if kind == "cutmix":  # targets follow the visible part of a box that exceeds the frame
        assert min(shares) == pytest.approx(0.64)
        assert max(shares) > 0.7


def test_share_of_mixup_and_cutmix() -> None:
    """CutMix has the given probability; if one of them is off, the other is always used."""
    clips = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1, 1).expand(2, 1, 3, 16, 16)
    labels = torch.tensor([0, 1])

    def cut_share(**settings: float) -> float:
        generator, cuts = seeded(), 0
        for _ in range(400):
            pixels, _ = replace(OFF, **settings, **PLAIN)(clips, labels, 2, generator=generator)
            cuts += bool(((pixels == 0) | (pixels == 1)).all())
        return cuts / 400

    assert abs(cut_share(mixup=0.8, cutmix=1.0, mix_switch=0.25) - 0.25) < 0.1
    assert cut_share(mixup=0.8, cutmix=0, mix_switch=1.0) < 0.05  # weights close to 0 or 1 look like CutMix
    assert cut_share(mixup=0, cutmix=1.0, mix_switch=0.0) == 1


@pytest.mark.slow
def test_mixup_weights_follow_the_beta_distribution() -> None:
    """Beta(α, α) has mean 1/2 and variance 1 / (4 (2α + 1))."""
    clips = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1, 1).expand(2, 1, 3, 1, 1)
    for alpha in (0.2, 0.8, 5.0):
        settings, generator = replace(OFF, mixup=alpha, **PLAIN), seeded()
        weights = [
            settings(clips, torch.tensor([0, 1]), 2, generator=generator)[1][0, 0].item()  # type: ignore[index]
            for _ in range(3000)
        ]
        assert abs(np.mean(weights) - 0.5) < 0.03
        assert abs(np.var(weights) * 4 * (2 * alpha + 1) - 1) < 0.1


def test_one_clip_and_captions_are_not_mixed() -> None:
    settings = Augmentation(flip=0, jitter=0, grey=0)
    clip = noise(1, 2, 3, 8, 8)
    plain, _ = OFF(clip, None, 0, generator=seeded())
    pixels, targets = settings(clip, torch.tensor([1]), 2, generator=seeded())
    assert torch.equal(pixels, plain)
    assert targets is not None
    assert torch.allclose(targets, torch.tensor([[0.05, 0.95]]))
    clips = noise(5, 2, 3, 8, 8)
    pixels, targets = settings(clips, None, 0, generator=seeded())
    assert targets is None
    assert torch.equal(pixels, OFF(clips, None, 0, generator=seeded())[0])


def test_an_empty_batch() -> None:
    pixels, targets = Augmentation()(noise(0, 2, 3, 8, 8), torch.empty(0, dtype=torch.long), 3, generator=seeded())
    assert pixels.shape == (0, 2, 3, 8, 8)
    assert targets is not None
    assert targets.shape == (0, 3)


# -------------------------------------------------------------------------------------------------------- determinism


def test_the_generator_decides_everything() -> None:
    clips, labels, settings = noise(9, 2, 3, 8, 8), torch.arange(9), Augmentation()
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    generator, boxes = seeded(), seeded(1)
    first = [settings(clips, labels, 9, generator=generator) for _ in range(3)]
    [draw_multi_scale_crop(50, 60, generator=boxes) for _ in range(3)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]
    generator = seeded()
    torch.manual_seed(2)
    for pixels, targets in first:
        again = settings(clips, labels, 9, generator=generator)
        assert torch.equal(again[0], pixels)
        assert torch.equal(again[1], targets)  # type: ignore[arg-type]
    assert not torch.equal(first[0][0], first[1][0])


def test_a_restored_generator_continues() -> None:
    clips, labels, settings = noise(7, 2, 3, 8, 8), torch.arange(7), Augmentation()
    generator = seeded()
    for _ in range(3):
        settings(clips, labels, 7, generator=generator)
    state = generator.get_state()
    expected = [settings(clips, labels, 7, generator=generator) for _ in range(4)]
    other = torch.Generator()
    other.set_state(state)
    for pixels, targets in expected:
        again = settings(clips, labels, 7, generator=other)
        assert torch.equal(again[0], pixels)
        assert torch.equal(again[1], targets)  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_matches_cpu() -> None:
    clips, labels = noise(9, 2, 3, 16, 16), torch.arange(9)
    here = Augmentation()(clips, labels, 9, generator=seeded())
    there = Augmentation()(clips.cuda(), labels.cuda(), 9, generator=seeded())
    assert (here[0] - there[0].cpu()).abs().max() < 1e-4
    assert torch.allclose(here[1], there[1].cpu())  # type: ignore[arg-type,union-attr]
