"""Transform frames to the model's pixel values: resize, centre crop, rescale, normalise."""

from __future__ import annotations

import dataclasses
import functools
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from openxclip.errors import CheckpointError
from openxclip.hub import read_json, resolve_folder, split_options
from openxclip.processing.batch import BatchEncoding, check_tensors
from openxclip.processing.frames import Video, as_videos
from openxclip.processing.pixels import in_place, write_levels, write_values
from openxclip.processing.resampling import BICUBIC, BILINEAR, NEAREST
from openxclip.processing.settings import checked_size, per_channel, settings_only, warn_of_unknown

TRANSFORM_FILES = ("processor_config.json", "preprocessor_config.json")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# transformers' defaults for VideoMAE, for configurations that leave these settings out.
_DEFAULTS = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}


@dataclasses.dataclass
class VideoProcessor:
    """The frame transforms of a model folder, by its preprocessor_config.json or processor_config.json.

    Args:
        do_resize: resize frames to `size`.
        size: `{"shortest_edge": S}` or S pixels for the shorter side (the longer one is rounded down);
            `{"height": H, "width": W}` or (H, W) for both.
        resample: 2 bilinear, 3 bicubic, 0 nearest (Pillow's numbers).
        do_center_crop: crop frames to the middle; smaller frames are padded with black.
        crop_size: `{"height": H, "width": W}`, (H, W), or one number for both.
        do_rescale: multiply levels by `rescale_factor`.
        rescale_factor: factor of levels; 1/255 maps 0..255 to 0..1.
        do_normalize: subtract `image_mean` and divide by `image_std` in each channel.
        image_mean: three numbers, or one; default is ImageNet's mean, as for the released X-CLIP models.
        image_std: three numbers, or one.
        extra: other entries of a configuration, which are kept for saving.

    Raises:
        ValueError: a value is out of its range.
    """

    do_resize: bool = True
    size: Any = 224
    resample: int = BILINEAR
    do_center_crop: bool = True
    crop_size: Any = 224
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: Any = IMAGENET_MEAN
    image_std: Any = IMAGENET_STD
    extra: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    model_input_names = ("pixel_values",)

    def __post_init__(self) -> None:
        self.size = checked_size(self.size, name="size", square=False)
        self.crop_size = checked_size(self.crop_size, name="crop_size", square=True)
        self.image_mean = per_channel(self.image_mean, name="image_mean")
        self.image_std = per_channel(self.image_std, name="image_std")
        if 0 in self.image_std:
            raise ValueError(f"image_std={self.image_std} has a zero: frames would be divided by it")
        if self.resample not in (NEAREST, BILINEAR, BICUBIC):
            raise ValueError(f"resample={self.resample!r} is unknown: choose 2 (bilinear), 3 (bicubic) or 0 (nearest)")

    # ------------------------------------------------------------------------------------------------ folders

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> VideoProcessor:
        """Read the transforms of a model folder, from its processor_config.json or else its preprocessor_config.json.

        Args:
            pretrained_model_name_or_path: a local folder, a shipped model or a hub id.
            options: options of the hub (see `openxclip.hub.HubOptions`), and settings that replace the folder's.

        Raises:
            CheckpointError: there is no such folder, no such file in it, or it can't be read.
            TypeError: there is no such option.
            ValueError: a setting is out of its range.
        """
        hub_options, others = split_options(options)
        settings = settings_only(others, FRAME_SETTINGS, f"{cls.__name__}.from_pretrained")
        folder = resolve_folder(pretrained_model_name_or_path, allow_patterns=TRANSFORM_FILES, **hub_options)
        files = [folder / name for name in TRANSFORM_FILES if (folder / name).is_file()]
        for file in files:
            config = read_json(file)
            if file.name == "processor_config.json":
                config = config.get("image_processor") or config.get("video_processor") or {}
            if config:
                try:
                    transforms = cls.from_dict(config)
                except (TypeError, ValueError) as error:
                    raise CheckpointError(f"{file}: {error}") from error
                return transforms.replace(**settings)
        raise CheckpointError(f"{folder}: has no preprocessor_config.json, which says how frames become pixel values.")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> VideoProcessor:
        """Return the transforms of a configuration; defaults are those of transformers' VideoMAE processor."""
        settings = {name: value for name, value in config.items() if name in FRAME_SETTINGS and value is not None}
        extra = {name: value for name, value in config.items() if name not in FRAME_SETTINGS}
        return cls(**{**_DEFAULTS, **settings}, extra=extra)

    @classmethod
    def of(cls, transforms: Any) -> VideoProcessor:
        """Return the transforms themselves, or those with the settings of an image processor of transformers.

        Raises:
            TypeError: the argument is neither.
            ValueError: a setting isn't supported.
        """
        if isinstance(transforms, cls):
            return transforms
        if not all(hasattr(transforms, name) for name in ("to_dict", "do_resize", "image_mean")):
            name = type(transforms).__name__
            raise TypeError(f"image_processor must be one of X-CLIP or VideoMAE, not an object of type {name}.")
        return cls.from_dict({name: value for name, value in transforms.to_dict().items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as it is saved."""
        config: dict[str, Any] = {"image_processor_type": "VideoMAEImageProcessor", **self.extra}
        for name in FRAME_SETTINGS:
            value = getattr(self, name)
            config[name] = list(value) if isinstance(value, tuple) else value
        return config

    def to_json_string(self) -> str:
        """Return `to_dict` as indented JSON with sorted keys and a final newline."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, save_directory: str | Path, *, processor_class: str | None = None) -> tuple[str, ...]:
        """Write preprocessor_config.json, which every version of transformers reads.

        An existing processor_config.json is replaced too, since later versions read it first.

        Args:
            save_directory: the folder, which is created if it doesn't exist.
            processor_class: name of the transforms' processor, for Auto classes.

        Returns:
            The paths of the files.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        owner = {} if processor_class is None else {"processor_class": processor_class}
        contents = {"preprocessor_config.json": {**self.to_dict(), **owner}}
        if (folder / "processor_config.json").is_file():
            contents["processor_config.json"] = {"image_processor": self.to_dict(), **owner}
        for name, content in contents.items():
            text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        return tuple(str(folder / name) for name in contents)

    # ------------------------------------------------------------------------------------------------ frames

    def replace(self, **changes: Any) -> VideoProcessor:
        """Return a processor with some settings changed; None leaves a setting unchanged.

        Raises:
            TypeError: there is no such setting.
        """
        for name in changes:
            if name not in FRAME_SETTINGS:
                raise TypeError(f"unexpected argument {name!r}: the settings of frames are {', '.join(FRAME_SETTINGS)}")
        changes = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(self, **changes) if changes else self

    def __call__(
        self,
        videos: Any = None,
        *,
        images: Any = None,
        return_tensors: str | None = None,
        num_frames: int = 8,
        input_data_format: str | None = None,
        data_format: str | None = None,
        device: torch.device | str | None = None,
        **changes: Any,
    ) -> BatchEncoding:
        """Return the pixel values of one video or several, in any form of `openxclip.processing.frames`.

        Args:
            videos: one video or several.
            images: another name of `videos`.
            return_tensors: "pt", "np", or None for lists of lists of arrays (3, H, W).
            num_frames: frames to read from each video file, uniformly over its length.
            input_data_format: "channels_first" or "channels_last", if the shape of arrays is ambiguous.
            data_format: "channels_first", or "channels_last" for (B, T, H, W, 3); None is the first.
            device: device of the transforms and the result; None is the frames' own.
            changes: settings for this call, by the names of the class's arguments. Other arguments have no effect, with
                a warning.

        Returns:
            `pixel_values` (B, T, 3, H, W).

        Raises:
            TypeError: an item is not a frame.
            ValueError: shapes, values or numbers of frames are invalid.
            VideoError: a file can't be read.
        """
        check_tensors(return_tensors)
        for name, value in (("input_data_format", input_data_format), ("data_format", data_format)):
            if value not in ("channels_first", "channels_last", None):
                raise ValueError(f'{name}={value!r}: choose "channels_first" or "channels_last"')
        if videos is not None and images is not None:
            raise ValueError("videos= and images= are two names of the same: give one of them")
        warn_of_unknown(changes, FRAME_SETTINGS)
        changed = self.replace(**{name: value for name, value in changes.items() if name in FRAME_SETTINGS})
        values = changed.transform(
            as_videos(
                images if videos is None else videos,
                read_file=functools.partial(_read_frames, num_frames=num_frames),
                channels_last=None if input_data_format is None else input_data_format == "channels_last",
            ),
            device=device,
        )
        if data_format == "channels_last":
            values = values.permute(0, 1, 3, 4, 2).contiguous()
        if return_tensors == "pt":
            return BatchEncoding(pixel_values=values)
        array = values.cpu().numpy()
        return BatchEncoding(pixel_values=array if return_tensors else [list(video) for video in array])

    preprocess = __call__

    def transform(self, videos: Sequence[Video], *, device: torch.device | str | None = None) -> torch.Tensor:
        """Return the pixel values of videos whose frames are tensors (see `openxclip.processing.frames`).

        Args:
            videos: the T frames of each of B videos in pieces (n, 3, H, W), uint8 or float.
            device: device of the transforms and the result; None is the first frames' own.

        Returns:
            (B, T, 3, H, W) on that device: float32; or uint8 if frames are uint8 and neither rescaled nor normalised.

        Raises:
            ValueError: videos have unequal numbers of frames, results have unequal sizes, or floating levels are
                neither within 0..1 nor within 0..255.
        """
        counts = [sum(len(piece) for piece in video) for video in videos]
        if len(set(counts)) > 1:
            raise ValueError(
                f"videos of unequal numbers of frames can't be one batch: {', '.join(map(str, counts))}. "
                "Give the same number of each."
            )
        device = torch.device(device) if device is not None else videos[0][0].device
        targets = {self._output_size(piece.shape[-2:]) for video in videos for piece in video}
        if len(targets) > 1:
            raise ValueError(
                "frames come out in unequal sizes (height × width): "
                f"{', '.join(f'{h}×{w}' for h, w in sorted(targets))}. Crop them (do_center_crop=True)."
            )
        ((height, width),) = targets
        on_device = ([piece.to(device, non_blocking=True) for piece in video] for video in videos)
        videos_and_units = [self._whole_levels(pieces) for pieces in on_device]
        are_uint8 = all(piece.dtype == torch.uint8 for pieces, _ in videos_and_units for piece in pieces)
        keeps_levels = self._keeps_levels and all(unit == 1 for _, unit in videos_and_units)
        dtype = torch.uint8 if keeps_levels and are_uint8 else torch.float32
        values_BTCHW = torch.empty(len(videos), counts[0], 3, height, width, dtype=dtype, device=device)
        for values_TCHW, (pieces, unit) in zip(values_BTCHW, videos_and_units, strict=True):
            arithmetic = None if keeps_levels else self._scale_and_offset(unit, device)
            if device.type == "cpu":
                pieces = [frame for piece in pieces for frame in piece.split(1)]  # one frame fits the cache
            for piece, out_TCHW in zip(pieces, values_TCHW.split([len(piece) for piece in pieces]), strict=True):
                levels = in_place(torch.empty(out_TCHW.shape, dtype=piece.dtype, device=piece.device))
                write_levels(piece, levels, size=self._resized_size(piece.shape[-2:]), resample=self.resample)
                write_values(levels, in_place(out_TCHW), arithmetic)
        return values_BTCHW

    def levels(self, frames_TCHW: torch.Tensor) -> torch.Tensor:
        """Resize and crop frames: the first half of `transform`; the second half is `values`.

        Args:
            frames_TCHW: uint8 frames of one video, on the CPU.

        Returns:
            uint8 (T, 3, H, W), resized and cropped.
        """
        size = self._resized_size(frames_TCHW.shape[-2:])
        out_size = self._output_size(frames_TCHW.shape[-2:])
        levels_TCHW = torch.empty(len(frames_TCHW), 3, *out_size, dtype=torch.uint8, device="cpu")
        for frame, out in zip(frames_TCHW.split(1), levels_TCHW.split(1), strict=True):
            write_levels(frame, in_place(out), size=size, resample=self.resample)
        return levels_TCHW

    def values(self, levels: Sequence[torch.Tensor], *, device: torch.device | str | None = None) -> torch.Tensor:
        """Convert the results of `levels` to pixel values: the second half of `transform`.

        Args:
            levels: levels of each of B videos, uint8 (T, 3, H, W), all of one shape.
            device: device of the result; None is the first levels' own.

        Returns:
            (B, T, 3, H, W) on that device, float32; or uint8 if levels are neither rescaled nor normalised.
        """
        device = levels[0].device if device is None else torch.device(device)
        dtype = torch.uint8 if self._keeps_levels else torch.float32
        values_BTCHW = torch.empty(len(levels), *levels[0].shape, dtype=dtype, device=device)
        arithmetic = None if self._keeps_levels else self._scale_and_offset(1.0, device)
        batch = 1 if device.type == "cpu" else len(levels[0])  # as in `transform`
        for levels_TCHW, out_TCHW in zip(levels, values_BTCHW, strict=True):
            pieces = levels_TCHW.to(device).split(batch)
            for piece, out in zip(pieces, out_TCHW.split(batch), strict=True):
                write_values(in_place(piece), in_place(out), arithmetic)
        return values_BTCHW

    @property
    def _keeps_levels(self) -> bool:
        return not self.do_rescale and not self.do_normalize

    def _resized_size(self, size: torch.Size) -> tuple[int, int]:
        """Return (height, width) after resizing; the longer side is rounded down, as in transformers."""
        height, width = size
        if not self.do_resize:
            return height, width
        if "height" in self.size:
            return self.size["height"], self.size["width"]
        edge = self.size["shortest_edge"]
        if width <= height:
            return int(edge * height / width), edge
        return edge, int(edge * width / height)

    def _output_size(self, size: torch.Size) -> tuple[int, int]:
        if self.do_center_crop:
            return self.crop_size["height"], self.crop_size["width"]
        return self._resized_size(size)

    def _whole_levels(self, pieces: Video) -> tuple[Video, float]:
        """Round floating frames to levels if they are resized, as in transformers. Also return the value of a level."""
        floating = [piece for piece in pieces if piece.is_floating_point()]
        if not floating:
            return pieces, 1.0
        if len(floating) < len(pieces):
            raise ValueError("the frames of one video are partly whole and partly floating numbers: use one kind")
        low, high = min(float(piece.min()) for piece in pieces), max(float(piece.max()) for piece in pieces)
        is_unit_range = low >= 0 and high <= 1
        if is_unit_range and self.do_rescale:
            # only whole numbers: levels 0 and 1 of an almost black video
            is_unit_range = any(bool((piece != piece.round()).any()) for piece in pieces)
            if is_unit_range:
                warnings.warn(
                    "floating frames with values from 0 to 1 are rescaled once more: pass do_rescale=False for them",
                    stacklevel=4,
                )
        if not self.do_resize:
            return [piece.float() for piece in pieces], 1.0
        if is_unit_range:
            return [(piece.double() * 255).float().to(torch.uint8) for piece in pieces], 1 / 255
        if not (low >= 0 and high <= 255):
            raise ValueError(f"floating frames must be within 0 to 1, or 0 to 255, but these are {low:g} to {high:g}")
        return [piece.round().to(torch.uint8) for piece in pieces], 1.0

    def _scale_and_offset(self, unit: float, device: torch.device) -> list[Any]:
        """Return rescaling and normalising as a factor and a summand per channel, (3, 1, 1) each (see `in_place`)."""
        options: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
        scale = torch.full((3, 1, 1), unit * (self.rescale_factor if self.do_rescale else 1), **options)
        offset = torch.zeros(3, 1, 1, **options)
        if self.do_normalize:
            std = torch.tensor(self.image_std, **options).view(3, 1, 1)
            scale /= std
            offset -= torch.tensor(self.image_mean, **options).view(3, 1, 1) / std
        return [in_place(tensor.float().to(device)) for tensor in (scale, offset)]


FRAME_SETTINGS = tuple(field.name for field in dataclasses.fields(VideoProcessor) if field.name != "extra")


def _read_frames(source: Any, *, num_frames: int) -> torch.Tensor:
    """Read frames (T, H, W, 3) of a file: one from the middle of each of `num_frames` equal parts."""
    from openxclip.video import read_clip  # only here: other frames need no decoder

    return read_clip(source, num_frames=num_frames).frames_THWC
