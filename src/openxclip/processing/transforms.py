"""Frames to the model's pixel values: resize, centre crop, rescale, normalise."""

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

# What a configuration that doesn't say otherwise means: transformers' defaults for VideoMAE.
_UNSAID = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}


@dataclasses.dataclass
class VideoProcessor:
    """The transforms of a model folder, as its preprocessor_config.json or processor_config.json says.

    Args:
        do_resize: resize frames to `size`.
        size: `{"shortest_edge": S}` or S pixels for the shorter side, the longer one cut to a whole number;
            `{"height": H, "width": W}` or (H, W) for both.
        resample: 2 bilinear, 3 bicubic, 0 nearest (Pillow's numbers).
        do_center_crop: cut the middle out of frames; a smaller frame is put in the middle of black.
        crop_size: `{"height": H, "width": W}`, (H, W), or one number for both.
        do_rescale: multiply levels by `rescale_factor`.
        rescale_factor: 1/255 takes levels 0..255 to 0..1.
        do_normalize: subtract `image_mean` and divide by `image_std`, for each of red, green and blue.
        image_mean: three numbers, or one; the released X-CLIP models have ImageNet's.
        image_std: three numbers, or one.
        extra: what else a configuration holds, kept for saving.

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
        """The transforms of a model folder: of its processor_config.json, else of its preprocessor_config.json.

        Args:
            pretrained_model_name_or_path: a local folder, a shipped model or a hub id.
            options: as `openxclip.hub.resolve_folder` takes them (revision, cache_dir, local_files_only, token, …);
                and settings that rule over the folder's.

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
                    found = cls.from_dict(config)
                except (TypeError, ValueError) as error:
                    raise CheckpointError(f"{file}: {error}") from error
                return found.replace(**settings)
        raise CheckpointError(f"{folder}: has no preprocessor_config.json, which says how frames become pixel values.")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> VideoProcessor:
        """The transforms that a configuration says; what it leaves out is as in transformers' VideoMAE processor."""
        said = {name: value for name, value in config.items() if name in FRAME_SETTINGS and value is not None}
        extra = {name: value for name, value in config.items() if name not in FRAME_SETTINGS}
        return cls(**{**_UNSAID, **said}, extra=extra)

    @classmethod
    def of(cls, transforms: Any) -> VideoProcessor:
        """Transforms of this class: themselves, or those that an image processor of transformers says.

        Raises:
            TypeError: it is neither.
            ValueError: it says something that isn't done here.
        """
        if isinstance(transforms, cls):
            return transforms
        if not all(hasattr(transforms, name) for name in ("to_dict", "do_resize", "image_mean")):
            name = type(transforms).__name__
            raise TypeError(f"image_processor must be one of X-CLIP or VideoMAE, not an object of type {name}.")
        return cls.from_dict({name: value for name, value in transforms.to_dict().items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """The configuration, as it is saved."""
        config: dict[str, Any] = {"image_processor_type": "VideoMAEImageProcessor", **self.extra}
        for name in FRAME_SETTINGS:
            value = getattr(self, name)
            config[name] = list(value) if isinstance(value, tuple) else value
        return config

    def to_json_string(self) -> str:
        """`to_dict` as indented JSON with sorted keys and a final newline."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, save_directory: str | Path, *, processor_class: str | None = None) -> tuple[str, ...]:
        """Write preprocessor_config.json, which every version of transformers reads.

        A processor_config.json that is in the folder already is written anew too, since later versions read it first.

        Args:
            save_directory: the folder, made if it doesn't exist.
            processor_class: name of the processor that the transforms belong to, for Auto classes.

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
        """A processor with some settings changed; None leaves one as it is.

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
        """Pixel values of one video or several, in any form that `openxclip.processing.frames` tells.

        Args:
            videos: the frames.
            images: the same by its other name.
            return_tensors: "pt", "np", or None for lists of lists of arrays (3, H, W).
            num_frames: frames to take from each video that is a file, uniformly over its length.
            input_data_format: "channels_first" or "channels_last" where the shape of arrays is ambiguous.
            data_format: "channels_first", or "channels_last" for (B, T, H, W, 3); None is the first.
            device: where frames are transformed and left; None is where they are.
            changes: other settings for this call, by the names of the class's arguments. Other arguments have no
                effect, with a warning.

        Returns:
            `pixel_values` (B, T, 3, H, W).

        Raises:
            TypeError: something is no frame.
            ValueError: shapes, values or numbers of frames don't fit.
            VideoError: a file can't be read.
        """
        check_tensors(return_tensors)
        for name, value in (("input_data_format", input_data_format), ("data_format", data_format)):
            if value not in ("channels_first", "channels_last", None):
                raise ValueError(f'{name}={value!r}: choose "channels_first" or "channels_last"')
        if videos is not None and images is not None:
            raise ValueError("videos= and images= are two names of the same: give one of them")
        warn_of_unknown([name for name in changes if name not in FRAME_SETTINGS], FRAME_SETTINGS, stacklevel=2)
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
        """Pixel values of videos whose frames are tensors already (see `openxclip.processing.frames`).

        Args:
            videos: for each of B videos its frames in pieces (n, 3, H, W), uint8 or float, T frames altogether.
            device: where frames are transformed; None is where the first ones are.

        Returns:
            (B, T, 3, H, W) on that device: float32; or uint8 if the frames are and no arithmetic is asked for.

        Raises:
            ValueError: videos have unequal numbers of frames, frames come out in unequal sizes, or floating levels
                are neither within 0..1 nor within 0..255.
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
                f"{', '.join(f'{h}×{w}' for h, w in sorted(targets))}. Let them be cropped (do_center_crop=True)."
            )
        ((height, width),) = targets
        kinds = [self._whole_levels([piece.to(device, non_blocking=True) for piece in video]) for video in videos]
        whole = all(piece.dtype == torch.uint8 for pieces, _ in kinds for piece in pieces)
        plain = self._is_plain and all(unit == 1 for _, unit in kinds)
        values_BTCHW = torch.empty(
            len(videos),
            counts[0],
            3,
            height,
            width,
            dtype=torch.uint8 if plain and whole else torch.float32,
            device=device,
        )
        for values_TCHW, (pieces, unit) in zip(values_BTCHW, kinds, strict=True):
            arithmetic = None if plain else [in_place(one.to(device)) for one in self._scale_and_offset(unit)]
            if device.type == "cpu":
                pieces = [frame for piece in pieces for frame in piece.split(1)]  # what is at hand fits the cache
            for piece, place_TCHW in zip(pieces, values_TCHW.split([len(piece) for piece in pieces]), strict=True):
                levels = in_place(torch.empty(place_TCHW.shape, dtype=piece.dtype, device=piece.device))
                write_levels(piece, levels, size=self._resized_size(piece.shape[-2:]), resample=self.resample)
                write_values(levels, in_place(place_TCHW), arithmetic)
        return values_BTCHW

    def levels(self, frames_TCHW: torch.Tensor) -> torch.Tensor:
        """Frames as small as they become: the first half of `transform`, whose other half is `values`.

        Args:
            frames_TCHW: uint8, T frames of one video, on the CPU.

        Returns:
            uint8 (T, 3, H, W), resized and cropped.
        """
        height, width = self._output_size(frames_TCHW.shape[-2:])
        size = self._resized_size(frames_TCHW.shape[-2:])
        levels_TCHW = torch.empty(len(frames_TCHW), 3, height, width, dtype=torch.uint8, device="cpu")
        for frame, place in zip(frames_TCHW.split(1), levels_TCHW.split(1), strict=True):
            write_levels(frame, in_place(place), size=size, resample=self.resample)
        return levels_TCHW

    def values(self, levels: Sequence[torch.Tensor], *, device: torch.device | str | None = None) -> torch.Tensor:
        """What `transform` makes of the frames that `levels` made these of.

        Args:
            levels: for each of B videos uint8 (T, 3, H, W), all of one shape.
            device: where the result is to be; None is where the first ones are.

        Returns:
            (B, T, 3, H, W) on that device, float32; or uint8 if no arithmetic is asked for.
        """
        device = levels[0].device if device is None else torch.device(device)
        dtype = torch.uint8 if self._is_plain else torch.float32
        values_BTCHW = torch.empty(len(levels), *levels[0].shape, dtype=dtype, device=device)
        arithmetic = None if self._is_plain else [in_place(one.to(device)) for one in self._scale_and_offset(1.0)]
        at_once = 1 if device.type == "cpu" else len(levels[0])  # as in `transform`
        for levels_TCHW, place_TCHW in zip(levels, values_BTCHW, strict=True):
            pieces = levels_TCHW.to(device).split(at_once)
            for piece, place in zip(pieces, place_TCHW.split(at_once), strict=True):
                write_values(in_place(piece), in_place(place), arithmetic)
        return values_BTCHW

    @property
    def _is_plain(self) -> bool:
        return not self.do_rescale and not self.do_normalize

    def _resized_size(self, size: torch.Size) -> tuple[int, int]:
        """(height, width) after the resize, rounded as transformers does: the longer side is cut to a whole number."""
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
        """Floating frames as whole levels if they are to be resized, as in transformers; and one level's worth."""
        floating = [piece for piece in pieces if piece.is_floating_point()]
        if not floating:
            return pieces, 1.0
        if len(floating) < len(pieces):
            raise ValueError("the frames of one video are partly whole and partly floating numbers: give one kind")
        low, high = min(float(piece.min()) for piece in pieces), max(float(piece.max()) for piece in pieces)
        of_one = low >= 0 and high <= 1
        if of_one and self.do_rescale:
            of_one = any(bool((piece != piece.round()).any()) for piece in pieces)  # else levels 0 and 1: all but black
            if of_one:
                warnings.warn(
                    "floating frames with values from 0 to 1 are rescaled once more: pass do_rescale=False for them",
                    stacklevel=4,
                )
        if not self.do_resize:
            return [piece.float() for piece in pieces], 1.0
        if of_one:
            return [(piece.double() * 255).float().to(torch.uint8) for piece in pieces], 1 / 255
        if not (low >= 0 and high <= 255):
            raise ValueError(f"floating frames must be within 0 to 1, or 0 to 255, but these are {low:g} to {high:g}")
        return [piece.round().to(torch.uint8) for piece in pieces], 1.0

    def _scale_and_offset(self, unit: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Rescaling and normalising as one product and one sum per channel."""
        kind: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
        scale = torch.full((3, 1, 1), unit * (self.rescale_factor if self.do_rescale else 1), **kind)
        offset = torch.zeros(3, 1, 1, **kind)
        if self.do_normalize:
            std = torch.tensor(self.image_std, **kind).view(3, 1, 1)
            scale /= std
            offset -= torch.tensor(self.image_mean, **kind).view(3, 1, 1) / std
        return scale.float(), offset.float()


FRAME_SETTINGS = tuple(one.name for one in dataclasses.fields(VideoProcessor) if one.name != "extra")


def _read_frames(source: Any, *, num_frames: int) -> torch.Tensor:
    """Frames (T, H, W, 3) of a file: one from the middle of each of `num_frames` equal parts."""
    from openxclip.video import read_clip  # only here, so that tensors are processed without a decoder

    return read_clip(source, num_frames=num_frames).frames_THWC
