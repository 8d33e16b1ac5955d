"""Texts and videos to the inputs of an X-CLIP model: the tokenizer and the frame transforms together."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from openxclip.checkpoints import read_checkpoint
from openxclip.errors import CheckpointError
from openxclip.hub import existing_file, push_folder, read_json, resolve_folder
from openxclip.processing.batch import BatchEncoding, check_tensors, convert_rows
from openxclip.processing.tokenizer import TOKENIZER_FILES, CLIPTokenizer
from openxclip.processing.transforms import TRANSFORM_FILES, VideoProcessor

DEFAULT_NUM_FRAMES = 8  # what the released models see, but for those named otherwise


class XCLIPProcessor:
    """What X-CLIP needs before the model: token ids of texts, pixel values of frames.

    Args:
        image_processor: the frame transforms; default are those of the released 224-pixel models.
        tokenizer: default is CLIP's.
        num_frames: frames taken from each video that is given as a file, if a call doesn't say.
    """

    def __init__(
        self,
        image_processor: VideoProcessor | None = None,
        tokenizer: CLIPTokenizer | None = None,
        *,
        num_frames: int = DEFAULT_NUM_FRAMES,
    ) -> None:
        self.image_processor = VideoProcessor() if image_processor is None else image_processor
        self.tokenizer = CLIPTokenizer() if tokenizer is None else tokenizer
        self.num_frames = num_frames

    @property
    def video_processor(self) -> VideoProcessor:
        """The frame transforms, by the name that transformers 5 has for them."""
        return self.image_processor

    @property
    def feature_extractor(self) -> VideoProcessor:
        """The frame transforms, by the name that early transformers 4 had for them."""
        return self.image_processor

    @property
    def model_input_names(self) -> list[str]:
        """What a call can return."""
        return [*self.tokenizer.model_input_names, *self.image_processor.model_input_names]

    # ------------------------------------------------------------------------------------------------ folders

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **hub: Any) -> XCLIPProcessor:
        """The processor of a model folder, written by this package or by any version of transformers.

        Args:
            pretrained_model_name_or_path: a local folder, a shipped model or a hub id; or a file of weights alone, such
                as the authors' `.pth`, which gets the transforms of the released models at its own resolution.
            hub: as `openxclip.hub.resolve_folder` takes them (revision, cache_dir, local_files_only, token, …).

        Raises:
            CheckpointError: there is no such folder, or a file that is needed is missing or can't be read.
        """
        hub.pop("trust_remote_code", None)  # none is ever run
        hub.pop("use_fast", None)  # as for the tokenizer
        if existing_file(pretrained_model_name_or_path) is not None:
            return cls._of_file(pretrained_model_name_or_path)
        patterns = [*TOKENIZER_FILES, *TRANSFORM_FILES, "config.json"]
        folder = resolve_folder(pretrained_model_name_or_path, **{"allow_patterns": patterns, **hub})
        num_frames = DEFAULT_NUM_FRAMES
        if (folder / "config.json").is_file():
            vision = read_json(folder / "config.json").get("vision_config") or {}
            num_frames = vision.get("num_frames") or num_frames
        return cls(VideoProcessor.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder), num_frames=num_frames)

    @classmethod
    def _of_file(cls, path: str | Path) -> XCLIPProcessor:
        found = read_checkpoint(path, hidden_act="quick_gelu")  # which is no matter here
        vision = found.config.get("vision_config") or {}
        said = found.texts.get("preprocessor_config.json")
        try:
            transforms = VideoProcessor.from_dict(json.loads(said)) if said else None
        except (TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path}: the preprocessor_config.json in it can't be read ({error}).") from error
        if transforms is None:
            transforms = VideoProcessor(size=vision.get("image_size", 224), crop_size=vision.get("image_size", 224))
        return cls(transforms, num_frames=vision.get("num_frames") or DEFAULT_NUM_FRAMES)

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
        """Upload the processor's files to a hub repository; options as `openxclip.hub.push_folder` takes them."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push_folder(folder, repo_id, **options)

    # ------------------------------------------------------------------------------------------------ inputs

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        images: Any = None,
        return_tensors: str | None = None,
        *,
        padding: bool | str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool = True,
        num_frames: int | None = None,
        input_data_format: str | None = None,
        device: torch.device | str | None = None,
        **transforms: Any,
    ) -> BatchEncoding:
        """Inputs of the model from texts, videos or both; K texts and B videos need not be equally many.

        Over-long texts: the model has 77 positions. Without `truncation`, a text is left as it is up to that limit and
        cut to it beyond, end of text kept, with a warning (transformers passes it on, and its model fails).

        Frames: a list of PIL images, arrays or tensors, (H, W, 3) or (3, H, W); a 4-D array or tensor (T, H, W, 3) or
        (T, 3, H, W); a path, the bytes of a file or an open file, of which frames are taken uniformly; or a list of
        any of these, or a 5-D array or tensor, for several videos. Levels are 0..255, or floats from 0 to 1 with
        `do_rescale=False`. Grey, palette, RGBA, 16-bit and floating-point (PIL) images become RGB. See
        `openxclip.processing.frames`.

        Args:
            text: one text, or K of them.
            videos: the frames of one video, or of B.
            images: the same by its other name.
            return_tensors: "pt" for tensors, "np" for arrays, None for lists (of arrays, for frames).
            padding: True pads texts to the longest, "max_length" to `max_length`, False not at all; the default pads
                to the longest if tensors or arrays are asked for.
            truncation: True cuts texts to `max_length`, False never; default above.
            max_length: tokens of a text, special ones included, for `padding` and `truncation`; 77 if not given.
            add_special_tokens: put start and end of text round each.
            pad_to_multiple_of: round the padded length up to a multiple of this.
            return_attention_mask: return `attention_mask` with the ids.
            num_frames: frames to take from a file; default is what the model was made for.
            input_data_format: "channels_first" or "channels_last" where the shape of arrays is ambiguous.
            device: where frames are transformed and left; default is where they are.
            transforms: settings of `VideoProcessor` for this call: do_resize, size, resample, do_center_crop,
                crop_size, do_rescale, rescale_factor, do_normalize, image_mean, image_std.

        Returns:
            `input_ids` and `attention_mask` (K, L) of texts; `pixel_values` (B, T, 3, H, W) of videos.

        Raises:
            TypeError: an argument is unknown, or something is neither text nor frames.
            ValueError: neither text nor videos are given, videos have unequal numbers of frames, or a value is out of
                its range.
            VideoError: a file can't be read.
        """
        check_tensors(return_tensors)
        if videos is not None and images is not None:
            raise ValueError("videos= and images= are two names of the same: give one of them")
        frames = images if videos is None else videos
        if text is None and frames is None:
            raise ValueError("there is nothing to process: give text=, videos=, or both")
        processor = self.image_processor.replace(**transforms)

        batch = BatchEncoding()
        if text is not None:
            if padding is None:
                padding = return_tensors is not None
            batch.update(
                self._texts(
                    text,
                    return_tensors,
                    padding=padding,
                    truncation=truncation,
                    max_length=max_length,
                    add_special_tokens=add_special_tokens,
                    pad_to_multiple_of=pad_to_multiple_of,
                    return_attention_mask=return_attention_mask,
                )
            )
        if frames is not None:
            batch.update(
                processor(
                    frames,
                    return_tensors=return_tensors,
                    num_frames=self.num_frames if num_frames is None else num_frames,
                    input_data_format=input_data_format,
                    device=device,
                )
            )
        return batch

    def _texts(self, text: str | Sequence[str], return_tensors: str | None, **options: Any) -> BatchEncoding:
        limit = self.tokenizer.model_max_length
        batch = self.tokenizer(text, **options)
        rows = [batch["input_ids"]] if isinstance(text, str) else batch["input_ids"]
        if options["truncation"] is None and max(map(len, rows)) > limit:
            texts = [text] if isinstance(text, str) else list(text)
            lengths = [len(row) for row in self.tokenizer(texts)["input_ids"]]  # without padding
            number = lengths.index(max(lengths))
            what = f"text {number} ({texts[number][:60]!r}…) has {lengths[number]} tokens"
            if lengths[number] <= limit:
                what = f"texts are padded to {max(map(len, rows))} tokens"
            warnings.warn(
                f"{what}, but the model has positions for {limit}: such texts are cut. Pass truncation=True to have it "
                "so without this warning.",
                stacklevel=3,
            )
            batch = self.tokenizer(text, **{**options, "truncation": True, "max_length": limit})
        if return_tensors is None:
            return batch
        single = isinstance(text, str)
        return BatchEncoding(
            {name: convert_rows([rows] if single else rows, name, return_tensors) for name, rows in batch.items()}
        )

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> str:
        """The text of one sequence of ids."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def batch_decode(self, sequences: Any, *, skip_special_tokens: bool = False) -> list[str]:
        """The text of each of several sequences of ids."""
        return self.tokenizer.batch_decode(sequences, skip_special_tokens=skip_special_tokens)
