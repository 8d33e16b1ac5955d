"""The shape of an X-CLIP: three dataclasses, written as JSON the way the hub's folders have it.

Defaults are those of `microsoft/xclip-base-patch32` (8 frames). Table of the released sizes: arXiv 2208.02816, §4.1.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from openxclip import hub
from openxclip.errors import CheckpointError
from openxclip.files import cannot_write, written_whole

CONFIG_NAME = "config.json"

_MOST = 1 << 31  # no width, count or size of a model is more

_ConfigT = TypeVar("_ConfigT", bound="_Config")


@dataclass(init=False, eq=False)
class _Config:
    """Fields by keyword; keys it doesn't know are kept as attributes and written back, as the hub's folders need."""

    model_type: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        for f in fields(self):
            if f.name in values:
                value = values.pop(f.name)
            elif f.default_factory is not dataclasses.MISSING:
                value = f.default_factory()
            else:
                value = f.default
            setattr(self, f.name, value)
        for name, value in values.items():
            if name != "model_type":
                setattr(self, name, value)
        self._check_types()
        self._validate()

    def _check_types(self) -> None:
        """Raise ValueError where a field is of another type than it says, or no number of things."""
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type == "int":
                fits, due = type(value) is int and 0 < value < _MOST, f"a whole number from 1 to {_MOST - 1}"
            elif f.type == "float":
                fits, due = type(value) in (int, float) and math.isfinite(value), "a number"
            elif f.type == "str":
                fits, due = isinstance(value, str), "a text"
            else:
                continue
            if not fits:
                is_long = type(value) is int and abs(value) >= 1 << 63
                shown = "(a number of over 18 digits)" if is_long else f"{value!r:.80}"
                raise ValueError(f"{f.name}={shown}: must be {due}.")

    def _validate(self) -> None:
        """Raise ValueError where two fields cannot be true together."""

    def to_dict(self) -> dict[str, Any]:
        """Every field and every kept unknown key, as plain JSON values."""
        plain = {
            name: value.to_dict() if isinstance(value, _Config) else copy.deepcopy(value)
            for name, value in vars(self).items()
        }
        return {**plain, "model_type": self.model_type}

    @classmethod
    def from_dict(cls: type[_ConfigT], values: dict[str, Any], **overrides: Any) -> _ConfigT:
        """The config that `values` (as read from JSON) describes, with `overrides` on top."""
        return cls(**{**copy.deepcopy(values), **overrides})

    def to_json_string(self) -> str:
        """`to_dict` as indented JSON with sorted keys and a final newline."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `config.json` into the folder, which is made if it doesn't exist."""
        folder = Path(save_directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(cannot_write(folder, error)) from error
        with written_whole(folder / CONFIG_NAME) as partial:
            partial.write_text(self.to_json_string(), encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls: type[_ConfigT],
        pretrained_model_name_or_path: str | Path,
        *,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        **overrides: Any,
    ) -> _ConfigT:
        """Read `config.json` from a folder, a hub repository, or the shipped `"mini"`.

        Args:
            pretrained_model_name_or_path: a folder, a hub id such as `"microsoft/xclip-base-patch32"`, or `"mini"`.
            cache_dir, force_download, local_files_only, token, revision, subfolder: as in `huggingface_hub`.
            **overrides: fields to set on top of what the file says.

        Raises:
            CheckpointError: there is no such folder, repository or file, or it isn't the JSON of such a config.
        """
        folder = hub.resolve_folder(
            pretrained_model_name_or_path,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            revision=revision,
            subfolder=subfolder,
            allow_patterns=[CONFIG_NAME],
        )
        try:
            return cls.from_dict(cls._own_part(read_config_json(folder), folder), **overrides)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{folder / CONFIG_NAME}: {error}") from error

    @classmethod
    def _own_part(cls, values: dict[str, Any], folder: Path) -> dict[str, Any]:
        """What in a whole config.json describes this class; CheckpointError if nothing does."""
        if values.get("model_type") == cls.model_type:
            return values
        if values.get("model_type") == "clip":
            raise CheckpointError(
                f"{folder / CONFIG_NAME}: model_type is 'clip': this is a CLIP (no video parts): "
                "`openxclip init` (in Python XCLIPModel.from_clip) starts an X-CLIP from it."
            )
        raise CheckpointError(
            f"{folder / CONFIG_NAME}: model_type is {values.get('model_type')!r}, "
            f"but {cls.__name__} reads {cls.model_type!r}."
        )

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string().rstrip()}"


def read_config_json(folder: Path) -> dict[str, Any]:
    """The object in a folder's config.json.

    Raises:
        CheckpointError: the file is missing or is not a JSON object.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise CheckpointError(f"{folder}: no {CONFIG_NAME} in this folder (it holds {hub.content_of(folder)}).")
    return hub.read_json(path)


def _check_heads(owner: str, width: int, heads: int, width_name: str, heads_name: str) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"{owner}: {width_name}={width} can't be split over {heads_name}={heads} attention heads.")


@dataclass(init=False, eq=False, repr=False)
class XCLIPTextConfig(_Config):
    """The text tower: CLIP's causal transformer."""

    model_type: ClassVar[str] = "xclip_text_model"

    vocab_size: int = 49408  # CLIP's byte-pair vocabulary
    hidden_size: int = 512
    intermediate_size: int = 2048  # 4 x hidden_size
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77  # CLIP's context length
    hidden_act: str = "quick_gelu"  # OpenAI's CLIP weights were trained with it
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    pad_token_id: int | None = 1  # the three ids are what the released folders say; nothing here depends on
    bos_token_id: int | None = 0  # them: the end of a text is found as its highest id
    eos_token_id: int | None = 2

    def _validate(self) -> None:
        _check_heads("text", self.hidden_size, self.num_attention_heads, "hidden_size", "num_attention_heads")

    @classmethod
    def _own_part(cls, values: dict[str, Any], folder: Path) -> dict[str, Any]:
        if values.get("model_type") == XCLIPConfig.model_type:
            return XCLIPConfig.from_dict(values).text_config.to_dict()
        return super()._own_part(values, folder)


@dataclass(init=False, eq=False, repr=False)
class XCLIPVisionConfig(_Config):
    """The video tower: CLIP's vision transformer with cross-frame messages, and the size of the MIT on top of it."""

    model_type: ClassVar[str] = "xclip_vision_model"

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mit_hidden_size: int = 512  # the joint width E
    mit_intermediate_size: int = 2048
    mit_num_hidden_layers: int = 1  # one layer in every released model
    mit_num_attention_heads: int = 8  # E / 64 in the paper; see XCLIPConfig.has_converters_heads
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    num_frames: int = 8  # what the temporal positions were trained for; any other number is interpolated
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    drop_path_rate: float = 0.0  # the paper's recipes all use 0

    def _validate(self) -> None:
        _check_heads("vision", self.hidden_size, self.num_attention_heads, "hidden_size", "num_attention_heads")
        _check_heads(
            "MIT",
            self.mit_hidden_size,
            self.mit_num_attention_heads,
            "mit_hidden_size",
            "mit_num_attention_heads",
        )
        if self.image_size < self.patch_size:
            raise ValueError(f"image_size={self.image_size} is smaller than patch_size={self.patch_size}.")
        if not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"drop_path_rate={self.drop_path_rate}: must be in [0, 1).")

    @classmethod
    def _own_part(cls, values: dict[str, Any], folder: Path) -> dict[str, Any]:
        if values.get("model_type") == XCLIPConfig.model_type:
            return XCLIPConfig.from_dict(values).vision_config.to_dict()
        return super()._own_part(values, folder)


@dataclass(init=False, eq=False, repr=False)
class XCLIPConfig(_Config):
    """A whole X-CLIP: both towers, the joint width E, and the video-specific prompts.

    `text_config` and `vision_config` take a config, a dict of its fields, or None for the defaults.
    """

    model_type: ClassVar[str] = "xclip"

    text_config: XCLIPTextConfig = field(default_factory=XCLIPTextConfig)
    vision_config: XCLIPVisionConfig = field(default_factory=XCLIPVisionConfig)
    projection_dim: int = 512  # the joint width E
    prompt_layers: int = 2
    prompt_alpha: float = 0.1  # start of the learned scale on the prompt
    prompt_hidden_act: str = "quick_gelu"
    prompt_num_attention_heads: int = 8  # E / 64 in the paper
    prompt_attention_dropout: float = 0.0
    prompt_projection_dropout: float = 0.0
    logit_scale_init_value: float = 2.6592  # ln(1 / 0.07), CLIP's start
    initializer_factor: float = 1.0

    def __init__(self, **values: Any) -> None:
        # Folders written before transformers 4.30 may name the towers *_config_dict too; where they do, it rules.
        for name in ("text_config", "vision_config"):
            older = values.pop(f"{name}_dict", None)
            if older is not None:
                if not isinstance(older, dict):
                    raise ValueError(f"{name}_dict is {older!r:.80}, but must be a dict of fields.")
                tower = values.get(name) or {}
                values[name] = {**(tower.to_dict() if isinstance(tower, _Config) else tower), **older}
        super().__init__(**values)

    def _validate(self) -> None:
        self.text_config = _as_config(XCLIPTextConfig, self.text_config)
        self.vision_config = _as_config(XCLIPVisionConfig, self.vision_config)
        _check_heads(
            "prompts",
            self.projection_dim,
            self.prompt_num_attention_heads,
            "projection_dim",
            "prompt_num_attention_heads",
        )
        if self.vision_config.mit_hidden_size != self.projection_dim:
            raise ValueError(
                f"vision_config.mit_hidden_size={self.vision_config.mit_hidden_size} and projection_dim="
                f"{self.projection_dim} differ, but MIT works on projected frame features: set both to one value."
            )

    @classmethod
    def from_text_vision_configs(
        cls, text_config: XCLIPTextConfig, vision_config: XCLIPVisionConfig, **kwargs: Any
    ) -> XCLIPConfig:
        """A config from its two towers; `kwargs` are the other fields."""
        return cls(text_config=text_config.to_dict(), vision_config=vision_config.to_dict(), **kwargs)

    @property
    def has_converters_heads(self) -> bool:
        """True for a joint width of 768 with 8 heads in MIT or the prompts.

        So transformers' converter wrote the large models' folders, where the authors' code has E / 64 = 12: such a
        folder computes something else than the authors' model with the same weights.
        """
        return self.projection_dim == 768 and 8 in (
            self.vision_config.mit_num_attention_heads,
            self.prompt_num_attention_heads,
        )


def _as_config(cls: type[_ConfigT], value: Any) -> _ConfigT:
    if isinstance(value, cls):
        return value
    if value is None or isinstance(value, dict):
        return cls.from_dict(value or {})
    raise TypeError(f"expected a {cls.__name__}, a dict of its fields or None, got {type(value).__name__}.")
