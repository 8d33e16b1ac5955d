"""What training does to clips: the augmentation of the paper (arXiv 2208.02816, §4.1) as its released code has it.

In two halves. Where a clip is decoded it is cut to a square (`multi_scale_crop`, `cropped`), so that little travels to
the model's device. There `Augmentation` works on whole batches: it flips, changes colours, normalises, and mixes clips
in pairs.

All frames of a clip share every draw. (The released code draws colours anew for each frame, so that a thing at rest
flickers.) Draws come from the generator that is given, on the CPU, and from nowhere else: with its state saved and set
again, a training goes on as if it had not stopped.

Legend: B clips, T frames, C channels, H and W pixels, K classes, R some of the clips, L rows of all frames of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openxclip.errors import needs_package
from openxclip.processing.resampling import BILINEAR, resize
from openxclip.processing.transforms import IMAGENET_MEAN, IMAGENET_STD
from openxclip.video.views import Box, rescaled

CROP_SCALES = (1.0, 0.875, 0.75, 0.66)
_PLACES = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))  # down and across, in quarters of the room: the corners, the middle


def multi_scale_crop(
    height: int, width: int, *, size: int = 224, scales: Sequence[float] = CROP_SCALES, generator: torch.Generator
) -> Box:
    """Which part of its frames a clip is cut to: corner cropping and scale jittering (Wang et al., ECCV 2016, §3.2).

    The paper resizes frames to a short side of 256 (for clips of 224), cuts a box whose sides are those of the resized
    frame's short side times two scales, neighbours in the list or the same, at a corner or in the middle, and resizes
    that to 224 × 224. Here the box is found in the resized frame by the same whole numbers (mmcv's and mmaction's), and
    cut out of the frame as it was decoded. So pixels are resampled once, not twice, and only those that are kept;
    beside that, and the rounding to whole pixels of the decoded frame, nothing differs.

    Args:
        height, width: of the decoded frames, in pixels.
        size: of the clip's frames: sides of boxes are whole pixels of the frame as the paper resizes it for them.
        scales: in order of size; above 0 and at most 1.
        generator: source of the draws.

    Returns:
        The box, within the frame and at least a pixel high and wide.

    Raises:
        ValueError: an argument is out of its range.
    """
    if min(height, width, size) < 1:
        raise ValueError(f"frames of {width}×{height} for clips of {size} pixels: all must be 1 or more")
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"scales={scales!r}: must be one or more, above 0 and at most 1")
    resized = size * 256 // 224
    sides = [int(resized * scale) for scale in scales]
    pairs = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1]
    sizes = pairs[_below(len(pairs), generator)]
    place = _PLACES[_below(len(_PLACES), generator)]
    around = rescaled(height=height, width=width, short_side=resized)
    tops, lengths = [], []
    for whole, of, side, quarters in zip((height, width), around, sizes, place, strict=True):
        length = max(1, round(side * whole / of))
        tops.append(min(round((of - side) // 4 * quarters * whole / of), whole - length))
        lengths.append(length)
    return Box(*tops, *lengths)


def cropped(frames_TCHW: Tensor, box: Box, size: int) -> Tensor:
    """A box of a clip's frames, resized to a square as the frames of tests are (Pillow's bilinear, antialiased).

    Args:
        frames_TCHW: uint8.
        box: within the frames.
        size: of the square, in pixels.

    Returns:
        (T, C, size, size), uint8.

    Raises:
        ValueError: the frames aren't uint8, or the box goes beyond them.
    """
    top, left, height, width = box
    if frames_TCHW.dtype != torch.uint8:
        raise ValueError(f"frames of {frames_TCHW.dtype}: must be uint8, levels from 0 to 255")
    if min(top, left) < 0 or top + height > frames_TCHW.shape[-2] or left + width > frames_TCHW.shape[-1]:
        raise ValueError(f"{box} goes beyond frames of {frames_TCHW.shape[-1]}×{frames_TCHW.shape[-2]}")
    part_TCHW = frames_TCHW[..., top : top + height, left : left + width]
    whole = slice(0, size)
    return resize(part_TCHW, (size, size), rows=whole, columns=whole, resample=BILINEAR).contiguous()


@dataclass(frozen=True)
class Augmentation:
    """What is done to batches of clips, with the paper's settings; 0 switches a part off.

    Colours change as in torchvision's ColorJitter, which the paper uses: brightness, contrast, saturation and hue, each
    by a factor of its own and in an order of its own; a clip's contrast changes about the mean of all its frames.

    Args:
        flip: probability that a clip is mirrored. Switch it off where left and right tell classes apart.
        jitter: probability that a clip's colours change.
        brightness, contrast, saturation: by factors from 1 - this (at least 0) to 1 + this.
        hue: by turns of the colour circle from -this to this, at most 0.5.
        grey: probability that a clip loses its colours.
        mixup: α of MixUp (arXiv 1710.09412): clips are averaged, with a weight drawn from Beta(α, α).
        cutmix: α of CutMix (arXiv 1905.04899): a box of all frames comes from another clip.
        mix_switch: probability that a batch gets CutMix rather than MixUp, where both are on.
        label_smoothing: share of each target that is spread over all classes.
        mean, std: of red, green and blue, to normalise by; the released models have ImageNet's.

    Raises:
        ValueError: a setting is out of its range.
    """

    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grey: float = 0.2
    mixup: float = 0.8
    cutmix: float = 1.0
    mix_switch: float = 0.5
    label_smoothing: float = 0.1
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name, high in {"flip": 1, "jitter": 1, "grey": 1, "mix_switch": 1, "hue": 0.5}.items():
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(f"{name}={getattr(self, name)}: must be from 0 to {high}")
        for name in ("brightness", "contrast", "saturation", "mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: must be 0 or more")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing}: must be from 0 to less than 1")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean={self.mean}, std={self.std}: must be three numbers each, those of std above 0")

    @torch.no_grad()
    def __call__(
        self, clips_BTCHW: Tensor, labels_B: Tensor | None, num_classes: int, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Augment a batch.

        Args:
            clips_BTCHW: uint8, on any device; left as they are.
            labels_B: the class of each clip; None where clips have captions: then nothing is mixed, for there is no
                caption of two clips at once.
            num_classes: K.
            generator: source of the draws, on the CPU.

        Returns:
            Pixel values (B, T, 3, H, W), float32, normalised; soft targets (B, K) or None. Both where the clips are.

        Raises:
            ValueError: clips or labels have another form, or a label is no class.
        """
        if clips_BTCHW.dtype != torch.uint8 or clips_BTCHW.ndim != 5 or clips_BTCHW.shape[2] != 3:
            form = f"{tuple(clips_BTCHW.shape)} {clips_BTCHW.dtype}"
            raise ValueError(f"clips of {form}: must be (clips, frames, 3, height, width), uint8")
        batch, device = len(clips_BTCHW), clips_BTCHW.device
        is_flipped_B = torch.rand(batch, generator=generator, device="cpu") < self.flip
        flipped_BTCHW = torch.where(is_flipped_B.to(device).view(-1, 1, 1, 1, 1), clips_BTCHW.flip(-1), clips_BTCHW)
        pixels_BTCHW = self._coloured(flipped_BTCHW.float() / 255, generator)
        mean, std = (torch.tensor(of, device=device).view(3, 1, 1) for of in (self.mean, self.std))
        pixels_BTCHW = (pixels_BTCHW - mean) / std
        if labels_B is None:
            return pixels_BTCHW, None
        if len(labels_B) != batch:
            raise ValueError(f"{len(labels_B)} labels of {batch} clips: must be as many")
        targets_BK = smoothed(labels_B.to(device), num_classes, self.label_smoothing)
        return self._mixed(pixels_BTCHW, targets_BK, generator)

    def _coloured(self, clips_BTCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Jitter and grey. Everything is drawn whatever is on, so that a setting leaves the draws of others alone."""
        batch, num_frames = clips_BTCHW.shape[:2]
        is_jittered_B = torch.rand(batch, generator=generator, device="cpu") < self.jitter
        order_B4 = torch.rand(batch, 4, generator=generator, device="cpu").argsort(dim=1)
        luck_B4 = 2 * torch.rand(batch, 4, generator=generator, device="cpu") - 1
        is_grey_B = torch.rand(batch, generator=generator, device="cpu") < self.grey
        if not (is_jittered_B | is_grey_B).any():
            return clips_BTCHW
        *adjustments, as_grey = colour_operations()
        reach = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue * 2 * math.pi], device="cpu")
        factors_B4 = torch.tensor([1.0, 1.0, 1.0, 0.0], device="cpu") + luck_B4 * reach
        factors_B4[:, :3].clamp_(min=0)
        # A clip as one tall image: its frames have one mean, about which contrast changes.
        images_BCLW = clips_BTCHW.transpose(1, 2).flatten(2, 3)
        for step in range(len(adjustments)):
            for kind, adjust in enumerate(adjustments):
                rows_R = (is_jittered_B & (order_B4[:, step] == kind)).nonzero()[:, 0]
                if len(rows_R):
                    at_R = rows_R.to(images_BCLW.device)
                    images_BCLW[at_R] = adjust(images_BCLW[at_R], factors_B4[rows_R, kind])
        rows_R = is_grey_B.nonzero()[:, 0].to(images_BCLW.device)
        if len(rows_R):
            images_BCLW[rows_R] = as_grey(images_BCLW[rows_R])  # one channel for all three
        coloured_BTCHW: Tensor = images_BCLW.unflatten(2, (num_frames, -1)).transpose(1, 2).contiguous()
        return coloured_BTCHW

    def _mixed(self, clips_BTCHW: Tensor, targets_BK: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """MixUp or CutMix, one of them and one weight for the whole batch, as in the paper."""
        is_cut = bool(torch.rand((), generator=generator, device="cpu") < self.mix_switch)
        if not (self.mixup and self.cutmix):
            is_cut = self.cutmix > 0
        alpha = self.cutmix if is_cut else self.mixup
        if alpha == 0:
            return clips_BTCHW, targets_BK
        weight = _beta(alpha, generator)
        if not is_cut:
            return mixed_up(clips_BTCHW, targets_BK, weight)
        height, width = clips_BTCHW.shape[-2:]
        return cut_and_mixed(clips_BTCHW, targets_BK, cutmix_box(height, width, weight, generator=generator))


def smoothed(labels_B: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Soft targets: `smoothing / K` for each class, and `1 - smoothing` more for the clip's own.

    Returns:
        (B, K), float32; each row sums to 1.

    Raises:
        ValueError: labels aren't whole numbers (B,), or one is no class. (On a GPU the latter isn't looked at.)
    """
    if labels_B.ndim != 1 or labels_B.is_floating_point() or labels_B.dtype == torch.bool:
        raise ValueError(f"labels of {tuple(labels_B.shape)} {labels_B.dtype}: must be one whole number for each clip")
    if labels_B.device.type == "cpu":  # elsewhere, looking would wait for all that is under way
        for label in labels_B.tolist():
            if not 0 <= label < num_classes:
                raise ValueError(f"label {label}: must be from 0 to less than num_classes={num_classes}")
    off = smoothing / num_classes
    targets_BK = torch.full((len(labels_B), num_classes), off, device=labels_B.device)
    return targets_BK.scatter_(1, labels_B.long()[:, None], 1 - smoothing + off)


def mixed_up(clips_BTCHW: Tensor, targets_BK: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Each clip `weight` times, and the clip that is in its place from the end the rest; their targets likewise.

    A clip that is its own partner, alone or in the middle of an odd number, stays as it is to the bit. (Partners in the
    released code are a random permutation; a batch is shuffled already.)
    """
    return torch.lerp(clips_BTCHW.flip(0), clips_BTCHW, weight), torch.lerp(targets_BK.flip(0), targets_BK, weight)


def cut_and_mixed(clips_BTCHW: Tensor, targets_BK: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Each clip with a box of all its frames from its partner (see `mixed_up`); targets by the share of the pixels."""
    height, width = clips_BTCHW.shape[-2:]
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    mixed_BTCHW = clips_BTCHW.clone()
    mixed_BTCHW[..., rows, columns] = clips_BTCHW[..., rows, columns].flip(0)
    weight = 1 - box.height * box.width / (height * width)
    return mixed_BTCHW, torch.lerp(targets_BK.flip(0), targets_BK, weight)


def cutmix_box(height: int, width: int, weight: float, *, generator: torch.Generator) -> Box:
    """Which box comes from the partner: `1 - weight` of the frame, less what lies beyond it.

    Its middle is any pixel. Half sides are whole pixels, as in the released code; the box may be empty.
    """
    share = math.sqrt(1 - weight)
    spans = []
    for length in (height, width):
        half, middle = int(length * share) // 2, _below(length, generator)
        spans.append((max(0, middle - half), min(length, middle + half)))
    (top, bottom), (left, right) = spans
    return Box(top, left, bottom - top, right - left)


def colour_operations() -> tuple[Callable[..., Tensor], ...]:
    """Brightness, contrast, saturation, hue, by Pillow's and torchvision's formulas; and grey.

    Raises:
        MissingPackageError: kornia isn't installed.
    """
    with needs_package("a change of colours", "kornia", "train"):
        from kornia.color import rgb_to_grayscale
        from kornia.enhance import (
            adjust_brightness_accumulative,
            adjust_contrast_with_mean_subtraction,
            adjust_hue,
            adjust_saturation_with_gray_subtraction,
        )
    return (
        adjust_brightness_accumulative,
        adjust_contrast_with_mean_subtraction,
        adjust_saturation_with_gray_subtraction,
        adjust_hue,
        rgb_to_grayscale,
    )


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator, device="cpu"))


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw from Beta(alpha, alpha), by numpy: torch's takes no generator."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device="cpu"))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
