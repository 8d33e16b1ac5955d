"""`XCLIPProcessor`, which turns texts and videos into inputs of the model: tokenizer and frame transforms together."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch

from openxclip.checkpoints import Checkpoint, read_checkpoint
from openxclip.errors import CheckpointError
from openxclip.hub import existing_file, read_json, resolve_folder, save_and_push, split_options
from openxclip.processing.batch import BatchEncoding, check_tensors, convert_rows
from openxclip.processing.encoding import TEXT_OPTIONS
from openxclip.processing.frames import is_array, is_frame
from openxclip.processing.settings import settings_only, warn_of_unknown
from openxclip.processing.tokenizer import TOKENIZER_FILES, TOKENIZER_SETTINGS, CLIPTokenizer
from openxclip.processing.transforms import FRAME_SETTINGS, TRANSFORM_FILES, VideoProcessor

DEFAULT_NUM_FRAMES = 8  # of released models whose name states no other number
_NESTED = ("text_kwargs", "images_kwargs", "videos_kwargs", "common_kwargs")
_OWN = (
    "return_tensors", "padding", "truncation", "max_length", "add_special_tokens", "pad_to_multiple_of",
    "return_attention_mask", "num_frames", "input_data_format", "data_format", "device",
)  # fmt: skip


class XCLIPProcessor:
    """Turns texts into token ids, and frames into pixel values.

    Args:
        image_processor: the frame transforms; default are those of the released 224-pixel models. The settings of an
            image processor of transformers are taken over.
        tokenizer: the tokenizer; default is CLIP's. Vocabulary and settings of a CLIP tokenizer of transformers are
            taken over.
        num_frames: default number of frames to read from a video file.
        feature_extractor: name of `image_processor` in early transformers 4.

    Raises:
        TypeError: the frame transforms or the tokenizer are of another type.

    Examples:
        >>> import torch
        >>> from openxclip import XCLIPProcessor
        >>> frames = torch.zeros(8, 240, 320, 3, dtype=torch.uint8)
        >>> inputs = XCLIPProcessor()(text=["a cat runs"], videos=frames, return_tensors="pt")
        >>> inputs["input_ids"].shape, inputs["pixel_values"].shape
        (torch.Size([1, 5]), torch.Size([1, 8, 3, 224, 224]))
    """

    attributes: ClassVar[list[str]] = ["image_processor", "tokenizer"]

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        *,
        num_frames: int = DEFAULT_NUM_FRAMES,
        feature_extractor: Any = None,
    ) -> None:
        transforms = feature_extractor if image_processor is None else image_processor
        self.image_processor = VideoProcessor() if transforms is None else VideoProcessor.of(transforms)
        self.tokenizer = CLIPTokenizer() if tokenizer is None else CLIPTokenizer.of(tokenizer)
        self.num_frames = num_frames

    @property
    def video_processor(self) -> VideoProcessor:
        """The frame transforms; transformers 5 has this name."""
        return self.image_processor

    @property
    def feature_extractor(self) -> VideoProcessor:
        """The frame transforms; early transformers 4 had this name."""
        return self.image_processor

    @property
    def model_input_names(self) -> list[str]:
        """Names of the entries that a call can return."""
        return [*self.tokenizer.model_input_names, *self.image_processor.model_input_names]

    # ------------------------------------------------------------------------------------------------ folders

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> XCLIPProcessor:
        """Read the processor of a model folder, written by this package or by any version of transformers.

        Args:
            pretrained_model_name_or_path: a local folder, a shipped model or a hub id; or a file of weights, such as
                the authors' `.pth`, which gets the transforms of the released models at its own resolution.
            options: options of the hub (see `openxclip.hub.HubOptions`), and settings that replace the folder's: those
                of `VideoProcessor` (size, do_normalize, …), those of `CLIPTokenizer.from_pretrained`
                (model_max_length, …) and num_frames.

        Raises:
            CheckpointError: there is no such folder, or a file that is needed is missing or can't be read.
            TypeError: there is no such option.
            ValueError: a setting is out of its range.
        """
        hub_options, others = split_options(options)
        settings = settings_only(
            others, (*FRAME_SETTINGS, *TOKENIZER_SETTINGS, "num_frames"), f"{cls.__name__}.from_pretrained"
        )
        frame_settings = {name: value for name, value in settings.items() if name in FRAME_SETTINGS}
        text_settings = {name: value for name, value in settings.items() if name in TOKENIZER_SETTINGS}
        if existing_file(pretrained_model_name_or_path) is not None:
            checkpoint = read_checkpoint(pretrained_model_name_or_path, hidden_act="quick_gelu")  # it isn't used
            config, tokenizer = checkpoint.config, CLIPTokenizer(config=text_settings)
            transforms = _transforms_of(checkpoint, pretrained_model_name_or_path).replace(**frame_settings)
        else:
            patterns = [*TOKENIZER_FILES, *TRANSFORM_FILES, "config.json"]
            folder = resolve_folder(pretrained_model_name_or_path, allow_patterns=patterns, **hub_options)
            config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
            tokenizer = CLIPTokenizer.from_pretrained(folder, **text_settings)
            tokenizer.name_or_path = str(pretrained_model_name_or_path)
            transforms = VideoProcessor.from_pretrained(folder, **frame_settings)
        trained_frames = (config.get("vision_config") or {}).get("num_frames") or DEFAULT_NUM_FRAMES
        return cls(transforms, tokenizer, num_frames=settings.get("num_frames", trained_frames))

    def save_pretrained(self, save_directory: str | Path) -> tuple[str, ...]:
        """Write the tokenizer's files and preprocessor_config.json, for this package and transformers 4 and 5.

        Returns:
            The paths of the files.
        """
        name = type(self).__name__
        return (
            *self.tokenizer.save_pretrained(save_directory, processor_class=name),
            *self.image_processor.save_pretrained(save_directory, processor_class=name),
        )

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the processor's files to a hub repository; options as for `openxclip.hub.push_folder`."""
        return save_and_push(self.save_pretrained, repo_id, **options)

    # ------------------------------------------------------------------------------------------------ inputs

    def __call__(
        self,
        text: Any = None,
        videos: Any = None,
        images: Any = None,
        return_tensors: str | None = None,
        *,
        padding: bool | str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = True,
        num_frames: int | None = None,
        input_data_format: str | None = None,
        data_format: str | None = None,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> BatchEncoding:
        """Return inputs of the model from texts, videos or both; K texts and B videos may differ in number.

        Long texts: the model has 77 positions. Without `truncation`, longer texts are cut to that limit with their end
        of text kept, and a warning (in transformers they are not cut, and the model fails).

        Frames: a list of PIL images, arrays or tensors, (H, W, 3) or (3, H, W); a 4-D array or tensor (T, H, W, 3) or
        (T, 3, H, W); a path, the bytes of a file or an open file, from which frames are read uniformly; or a list of
        any of these, or a 5-D array or tensor, for several videos. Levels are 0..255, or floats from 0 to 1 with
        `do_rescale=False`. Grey, palette, RGBA, 16-bit and floating-point (PIL) images become RGB. See
        `openxclip.processing.frames`.

        Positional arguments are recognised by their type, since their order differs between releases of transformers:
        frames may come before texts.

        Args:
            text: one text, or K texts.
            videos: the frames of one video, or of B videos.
            images: another name of `videos`.
            return_tensors: "pt" for tensors, "np" for arrays, None for lists (of arrays, for frames).
            padding: True pads texts to the longest, "max_length" to `max_length`, False not at all; the default pads
                to the longest if tensors or arrays are requested.
            truncation: True cuts texts to `max_length`, False never; see above for the default.
            max_length: number of tokens, with special ones, for `padding` and `truncation`; default is 77.
            add_special_tokens: add start and end of text.
            pad_to_multiple_of: round the padded length up to a multiple of this.
            return_attention_mask: return `attention_mask` with the ids.
            num_frames: frames to read from a file; default is the model's number.
            input_data_format: "channels_first" or "channels_last", if the shape of arrays is ambiguous.
            data_format: "channels_last" for pixel values (B, T, H, W, 3); default is "channels_first".
            device: device of the frame transforms and their result; default is the frames' own.
            options: settings of `VideoProcessor` for this call (do_resize, size, resample, do_center_crop, crop_size,
                do_rescale, rescale_factor, do_normalize, image_mean, image_std; None is the processor's own); and
                further arguments of `CLIPTokenizer` (return_length, return_offsets_mapping, …). `text_kwargs`,
                `images_kwargs`, `videos_kwargs` and `common_kwargs` are dicts of such options. Other arguments have no
                effect, with a warning that suggests the most similar one.

        Returns:
            `input_ids` and `attention_mask` (K, L) of texts; `pixel_values` (B, T, 3, H, W) of videos.

        Raises:
            TypeError: an argument is neither text nor frames.
            ValueError: neither text nor videos are given, videos have unequal numbers of frames, or a value is out of
                its range.
            VideoError: a file can't be read.
        """
        nested = [options.pop(name, None) or {} for name in _NESTED]
        if any(nested):
            merged = {name: value for group in nested for name, value in group.items()}
            own = {name: value for name, value in locals().items() if name in _OWN}
            return self(text, videos, images, **{**own, **options, **merged})
        check_tensors(return_tensors)
        text, videos, images = _by_kind(text, videos, images)
        if videos is not None and images is not None:
            raise ValueError("videos= and images= are two names of the same: give one of them")
        frames = images if videos is None else videos
        if text is None and frames is None:
            raise ValueError("there is nothing to process: give text=, videos=, or both")
        processor = self.image_processor.replace(**{k: v for k, v in options.items() if k in FRAME_SETTINGS})
        warn_of_unknown(options, (*_OWN, *FRAME_SETTINGS, *TEXT_OPTIONS))

        batch = BatchEncoding()
        if text is not None:
            if padding is None:
                padding = return_tensors is not None
            batch = self._texts(
                text,
                return_tensors,
                padding=padding,
                truncation=truncation,
                max_length=max_length,
                add_special_tokens=add_special_tokens,
                pad_to_multiple_of=pad_to_multiple_of,
                return_attention_mask=return_attention_mask,
                **{name: value for name, value in options.items() if name in TEXT_OPTIONS},
            )
        if frames is not None:
            batch.update(
                processor(
                    frames,
                    return_tensors=return_tensors,
                    num_frames=self.num_frames if num_frames is None else num_frames,
                    input_data_format=input_data_format,
                    data_format=data_format,
                    device=device,
                )
            )
        return batch

    def _texts(self, text: Any, return_tensors: str | None, **options: Any) -> BatchEncoding:
        limit = self.tokenizer.model_max_length
        batch = self.tokenizer(text, **options)
        encodings = batch.encodings or []
        if options["truncation"] is None and max(len(encoding.ids) for encoding in encodings) > limit:
            lengths = [sum(encoding.attention_mask) for encoding in encodings]  # without padding
            number = lengths.index(max(lengths))
            problem = f"texts are padded to {len(encodings[number].ids)} tokens"
            if lengths[number] > limit:
                shown = str(text if len(encodings) == 1 and isinstance(text, str) else text[number])[:60]
                problem = f"text {number} ({shown!r}…) has {lengths[number]} tokens"
            warnings.warn(
                f"{problem}, but the model has positions for {limit}: such texts are cut. Pass truncation=True to "
                "cut them without this warning.",
                stacklevel=3,
            )
            batch = self.tokenizer(text, **{**options, "truncation": True, "max_length": limit})
        if return_tensors is None:
            return batch
        is_one = isinstance(batch["input_ids"][0], int)
        for name, value in batch.items():
            batch[name] = convert_rows([value] if is_one and name != "length" else value, name, return_tensors)
        return batch

    def decode(self, token_ids: Any, *args: Any, **options: Any) -> Any:
        """Return the text of one sequence of ids; options as for `CLIPTokenizer.decode`."""
        return self.tokenizer.decode(token_ids, *args, **options)

    def batch_decode(self, sequences: Any, *args: Any, **options: Any) -> list[str]:
        """Return the text of each of several sequences of ids; options as for `CLIPTokenizer.batch_decode`."""
        return self.tokenizer.batch_decode(sequences, *args, **options)


def _transforms_of(checkpoint: Checkpoint, path: str | Path) -> VideoProcessor:
    """Return the transforms in a file of weights, or those of the released models at the file's resolution."""
    text = checkpoint.texts.get("preprocessor_config.json")
    if not text:
        side = (checkpoint.config.get("vision_config") or {}).get("image_size", 224)
        return VideoProcessor(size=side, crop_size=side)
    try:
        return VideoProcessor.from_dict(json.loads(text))
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: the preprocessor_config.json in it can't be read ({error}).") from error


def _by_kind(text: Any, videos: Any, images: Any) -> tuple[Any, Any, Any]:
    """Return (text, videos, images), with texts and frames recognised by their type."""
    # transformers 4.57 and 5 have the order (images, text, videos)
    if _are_frames(text) and (videos is None or (images is None and _are_texts(videos))):
        return videos, text, images
    if text is None and images is not None and _are_texts(videos):
        return videos, images, None
    return text, videos, images


def _are_frames(value: Any) -> bool:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return is_frame(value) or is_array(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(item, str) for item in value)
    )
