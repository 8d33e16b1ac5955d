"""Augment clips as the paper (arXiv 2208.02816, §4.1) and its released code do.

There are two steps. The process that decodes a clip crops it to a square (`draw_multi_scale_crop`, `crop`), so that
little data travels to the model's device. There, `Augmentation` flips whole batches, changes their colours, normalises
them, and mixes clips in pairs.

All frames of a clip get the same random changes. (The released code draws colours for each frame, so that still objects
flicker.) All draws come from the given CPU generator, so that a training resumes exactly.

Shapes: B clips, T frames, C channels, H and W pixels, K classes, R some of the clips, L rows of all frames of a clip.
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
# Top and left of the box at the corners and in the middle, in quarters of the margin
_PLACES = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))


def draw_multi_scale_crop(
    height: int, width: int, *, size: int = 224, scales: Sequence[float] = CROP_SCALES, generator: torch.Generator
) -> Box:
    """Draw the box that a clip is cropped to: corner cropping and scale jittering (Wang et al., ECCV 2016, §3.2).

    The paper resizes frames to a short side of 256 (for clips of 224). It cuts a box at a corner or in the middle,
    whose sides are the short side times two scales, equal or adjacent in the list, and resizes it to 224 × 224. Here
    the box is computed in the resized frame with the same rounding (mmcv's and mmaction's), and cut out of the decoded
    frame. So pixels are resampled once instead of twice, and only those of the box. Apart from that, and from rounding
    to whole pixels of the decoded frame, the result is the same.

    Args:
        height, width: size of the decoded frames in pixels.
        size: side of the clip's frames in pixels.
        scales: scales in order of size, above 0 and at most 1.
        generator: CPU generator of the draws.

    Returns:
        The box, within the frame and at least one pixel high and wide.

    Raises:
        ValueError: an argument is out of range.
    """
    if min(height, width, size) < 1:
        raise ValueError(f"frames of {width}×{height} for clips of {size} pixels: all must be 1 or more")
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"scales={scales!r}: must be one or more, above 0 and at most 1")
    resized = size * 256 // 224
    sides = [int(resized * scale) for scale in scales]
    pairs = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1]
    box_sides = pairs[_draw_below(len(pairs), generator)]
    place = _PLACES[_draw_below(len(_PLACES), generator)]
    resized_sides = rescaled(height=height, width=width, short_side=resized)
    starts, lengths = [], []
    for full, full_resized, side, quarters in zip((height, width), resized_sides, box_sides, place, strict=True):
        length = max(1, round(side * full / full_resized))
        start = round((full_resized - side) // 4 * quarters * full / full_resized)
        starts.append(min(start, full - length))
        lengths.append(length)
    return Box(*starts, *lengths)


def crop(frames_TCHW: Tensor, box: Box, size: int) -> Tensor:
    """Crop a clip's frames to a box and resize it to a square, resampled as in evaluation (bilinear, antialiased).

    Args:
        frames_TCHW: frames, uint8.
        box: box within the frames.
        size: side of the square in pixels.

    Returns:
        (T, C, size, size), uint8.

    Raises:
        ValueError: the frames aren't uint8, or the box exceeds them.
    """
    top, left, height, width = box
    if frames_TCHW.dtype != torch.uint8:
        raise ValueError(f"frames of {frames_TCHW.dtype}: must be uint8, levels from 0 to 255")
    if min(top, left) < 0 or top + height > frames_TCHW.shape[-2] or left + width > frames_TCHW.shape[-1]:
        raise ValueError(f"{box} exceeds frames of {frames_TCHW.shape[-1]}×{frames_TCHW.shape[-2]}")
    part_TCHW = frames_TCHW[..., top : top + height, left : left + width]
    full = slice(0, size)
    return resize(part_TCHW, (size, size), rows=full, columns=full, resample=BILINEAR).contiguous()


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a batch of clips, by default with the paper's settings; 0 switches a change off.

    Colours change as in torchvision's ColorJitter, which the paper uses: brightness, contrast, saturation and hue, each
    by a random factor, in a random order. The contrast of a clip changes about the mean of all its frames.

    Args:
        flip: probability that a clip is mirrored. Use 0 if classes differ in left and right.
        jitter: probability that a clip's colours change.
        brightness, contrast, saturation: x for factors from 1 - x (at least 0) to 1 + x.
        hue: x for a shift of hue by -x to x turns of the colour circle, at most 0.5.
        grey: probability that a clip becomes grey.
        mixup: α of MixUp (arXiv 1710.09412): two clips are averaged with a weight drawn from Beta(α, α).
        cutmix: α of CutMix (arXiv 1905.04899): a box of all frames comes from another clip.
        mix_switch: probability that a batch gets CutMix rather than MixUp, if both are on.
        label_smoothing: share of each target that is spread over all classes.
        mean, std: mean and standard deviation of red, green and blue; default: ImageNet's, as in the released models.

    Raises:
        ValueError: a setting is out of range.
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
            raise ValueError(f"mean={self.mean}, std={self.std}: must be three numbers each, and std above 0")

    @torch.no_grad()
    def __call__(
        self, clips_BTCHW: Tensor, labels_B: Tensor | None, num_classes: int, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Augment a batch.

        Args:
            clips_BTCHW: clips, uint8, on any device; not modified.
            labels_B: class of each clip; None for clips with captions, which are not mixed.
            num_classes: K.
            generator: CPU generator of the draws.

        Returns:
            Normalised pixel values (B, T, 3, H, W), float32, and soft targets (B, K) or None, on the clips' device.

        Raises:
            ValueError: clips or labels have the wrong shape or dtype, or a label is out of range.
        """
        if clips_BTCHW.dtype != torch.uint8 or clips_BTCHW.ndim != 5 or clips_BTCHW.shape[2] != 3:
            shape = f"{tuple(clips_BTCHW.shape)} {clips_BTCHW.dtype}"
            raise ValueError(f"clips of {shape}: must be (clips, frames, 3, height, width), uint8")
        batch, device = len(clips_BTCHW), clips_BTCHW.device
        is_flipped_B = torch.rand(batch, generator=generator, device="cpu") < self.flip
        flipped_BTCHW = torch.where(is_flipped_B.to(device).view(-1, 1, 1, 1, 1), clips_BTCHW.flip(-1), clips_BTCHW)
        pixels_BTCHW = self._change_colours(flipped_BTCHW.float() / 255, generator)
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (self.mean, self.std))
        pixels_BTCHW = (pixels_BTCHW - mean) / std
        if labels_B is None:
            return pixels_BTCHW, None
        if len(labels_B) != batch:
            raise ValueError(f"{len(labels_B)} labels of {batch} clips: must be one per clip")
        targets_BK = smooth_labels(labels_B.to(device), num_classes, self.label_smoothing)
        return self._mix(pixels_BTCHW, targets_BK, generator)

    def _change_colours(self, clips_BTCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Jitter colours and make clips grey. All numbers are always drawn, so no setting affects another's draws."""
        batch, num_frames = clips_BTCHW.shape[:2]
        is_jittered_B = torch.rand(batch, generator=generator, device="cpu") < self.jitter
        order_B4 = torch.rand(batch, 4, generator=generator, device="cpu").argsort(dim=1)
        uniform_B4 = 2 * torch.rand(batch, 4, generator=generator, device="cpu") - 1
        is_grey_B = torch.rand(batch, generator=generator, device="cpu") < self.grey
        if not (is_jittered_B | is_grey_B).any():
            return clips_BTCHW
        *adjustments, to_grey = import_colour_operations()
        ranges = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue * 2 * math.pi], device="cpu")
        factors_B4 = torch.tensor([1.0, 1.0, 1.0, 0.0], device="cpu") + uniform_B4 * ranges
        factors_B4[:, :3].clamp_(min=0)
        # A clip is one tall image, so that contrast changes about the mean of all its frames.
        images_BCLW = clips_BTCHW.transpose(1, 2).flatten(2, 3)
        for step in range(len(adjustments)):
            for kind, adjust in enumerate(adjustments):
                clips_R = (is_jittered_B & (order_B4[:, step] == kind)).nonzero()[:, 0]
                if len(clips_R):
                    indices_R = clips_R.to(images_BCLW.device)
                    images_BCLW[indices_R] = adjust(images_BCLW[indices_R], factors_B4[clips_R, kind])
        clips_R = is_grey_B.nonzero()[:, 0].to(images_BCLW.device)
        if len(clips_R):
            images_BCLW[clips_R] = to_grey(images_BCLW[clips_R])  # one channel, broadcast to three
        changed_BTCHW: Tensor = images_BCLW.unflatten(2, (num_frames, -1)).transpose(1, 2).contiguous()
        return changed_BTCHW

    def _mix(self, clips_BTCHW: Tensor, targets_BK: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Apply MixUp or CutMix with one weight for the whole batch, as in the paper."""
        is_cut = bool(torch.rand((), generator=generator, device="cpu") < self.mix_switch)
        if not (self.mixup and self.cutmix):
            is_cut = self.cutmix > 0
        alpha = self.cutmix if is_cut else self.mixup
        if alpha == 0:
            return clips_BTCHW, targets_BK
        weight = _draw_beta(alpha, generator)
        if not is_cut:
            return mixup(clips_BTCHW, targets_BK, weight)
        height, width = clips_BTCHW.shape[-2:]
        return cutmix(clips_BTCHW, targets_BK, draw_cutmix_box(height, width, weight, generator=generator))


def smooth_labels(labels_B: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Return soft targets: `smoothing / K` for each class, plus `1 - smoothing` for the clip's own class.

    Returns:
        (B, K), float32; each row sums to 1.

    Raises:
        ValueError: labels aren't integers of shape (B,), or one is out of range (this isn't checked on a GPU).
    """
    if labels_B.ndim != 1 or labels_B.is_floating_point() or labels_B.dtype == torch.bool:
        raise ValueError(f"labels of {tuple(labels_B.shape)} {labels_B.dtype}: must be one integer per clip")
    if labels_B.device.type == "cpu":  # reading labels from a GPU would wait for its queue
        for label in labels_B.tolist():
            if not 0 <= label < num_classes:
                raise ValueError(f"label {label}: must be from 0 to less than num_classes={num_classes}")
    off = smoothing / num_classes
    targets_BK = torch.full((len(labels_B), num_classes), off, device=labels_B.device)
    return targets_BK.scatter_(1, labels_B.long()[:, None], 1 - smoothing + off)


def mixup(clips_BTCHW: Tensor, targets_BK: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Average each clip, and its target, with its partner, which is the clip at the same position from the end.

    A clip that is its own partner, alone or in the middle of an odd number, stays the same to the bit. (The released
    code chooses partners by a random permutation, but batches are shuffled already.)
    """
    return torch.lerp(clips_BTCHW.flip(0), clips_BTCHW, weight), torch.lerp(targets_BK.flip(0), targets_BK, weight)


def cutmix(clips_BTCHW: Tensor, targets_BK: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Replace a box of each clip's frames by its partner's (see `mixup`), and mix targets by the share of pixels."""
    height, width = clips_BTCHW.shape[-2:]
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    mixed_BTCHW = clips_BTCHW.clone()
    mixed_BTCHW[..., rows, columns] = clips_BTCHW[..., rows, columns].flip(0)
    weight = 1 - box.height * box.width / (height * width)
    return mixed_BTCHW, torch.lerp(targets_BK.flip(0), targets_BK, weight)


def draw_cutmix_box(height: int, width: int, weight: float, *, generator: torch.Generator) -> Box:
    """Draw the box that comes from the partner: `1 - weight` of the frame, clipped to the frame.

    Its centre may be any pixel. Half sides are whole pixels, as in the released code, so the box may be empty.
    """
    share = math.sqrt(1 - weight)
    spans = []
    for length in (height, width):
        half, middle = int(length * share) // 2, _draw_below(length, generator)
        spans.append((max(0, middle - half), min(length, middle + half)))
    (top, bottom), (left, right) = spans
    return Box(top, left, bottom - top, right - left)


def import_colour_operations() -> tuple[Callable[..., Tensor], ...]:
    """Import kornia's brightness, contrast, saturation and hue, with Pillow's and torchvision's formulas, and grey.

    Raises:
        MissingPackageError: kornia isn't installed.
    """
    with needs_package("a change of colours", "kornia", "train"):
        from kornia import color, enhance
    return (
        enhance.adjust_brightness_accumulative,
        enhance.adjust_contrast_with_mean_subtraction,
        enhance.adjust_saturation_with_gray_subtraction,
        enhance.adjust_hue,
        color.rgb_to_grayscale,
    )


def _draw_below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator, device="cpu"))


def _draw_beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha), with numpy because torch's Beta takes no generator."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device="cpu"))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
