"""The configs of an X-CLIP and its two towers: dataclasses with the fields of the hub's config.json.

Defaults are those of `microsoft/xclip-base-patch32` (8 frames). The released sizes are in arXiv 2208.02816, §4.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from openxclip.config.base import Config, ConfigT

HEAD_WIDTH = 64  # width of every attention head in the released models and in OpenAI's CLIPs


def _check_heads(part: str, config: Config, width_name: str, heads_name: str) -> None:
    width, heads = getattr(config, width_name), getattr(config, heads_name)
    if heads < 1 or width % heads:
        raise ValueError(f"{part}: {width_name}={width} can't be split over {heads_name}={heads} attention heads.")


class _TowerConfig(Config):
    """A config that is also a part of `XCLIPConfig`."""

    @classmethod
    def select_part(cls, values: dict[str, Any], source: Path) -> dict[str, Any]:
        if values.get("model_type") != XCLIPConfig.model_type:
            return super().select_part(values, source)
        config = XCLIPConfig.from_dict(values)
        name = next(name for name, tower in XCLIPConfig.sub_configs.items() if issubclass(cls, tower))
        tower_config: Config = getattr(config, name)
        return tower_config.to_dict()


@dataclass(init=False, eq=False, repr=False)
class XCLIPTextConfig(_TowerConfig):
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
    pad_token_id: int | None = 1  # the three ids are the released folders'; nothing here uses them, because the end
    bos_token_id: int | None = 0  # of a text is found as its highest id
    eos_token_id: int | None = 2

    def _validate(self) -> None:
        _check_heads("text", self, "hidden_size", "num_attention_heads")


@dataclass(init=False, eq=False, repr=False)
class XCLIPVisionConfig(_TowerConfig):
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
    num_frames: int = 8  # temporal positions in the weights; they are interpolated for other numbers of frames
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    drop_path_rate: float = 0.0  # the paper's recipes all use 0

    def _validate(self) -> None:
        _check_heads("vision", self, "hidden_size", "num_attention_heads")
        _check_heads("MIT", self, "mit_hidden_size", "mit_num_attention_heads")
        if self.image_size < self.patch_size:
            raise ValueError(f"image_size={self.image_size} is smaller than patch_size={self.patch_size}.")
        if not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"drop_path_rate={self.drop_path_rate}: must be in [0, 1).")


@dataclass(init=False, eq=False, repr=False)
class XCLIPConfig(Config):
    """A whole X-CLIP: both towers, the joint width E, and the video-specific prompts.

    `text_config` and `vision_config` take a config, a dict of its fields, or None for the defaults. `projection_dim`
    defaults to `vision_config.mit_hidden_size`.
    """

    model_type: ClassVar[str] = "xclip"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": XCLIPTextConfig, "vision_config": XCLIPVisionConfig}

    text_config: XCLIPTextConfig = field(default_factory=XCLIPTextConfig)
    vision_config: XCLIPVisionConfig = field(default_factory=XCLIPVisionConfig)
    projection_dim: int = 512  # the joint width E
    prompt_layers: int = 2
    prompt_alpha: float = 0.1  # initial value of the prompts' learned scale
    prompt_hidden_act: str = "quick_gelu"
    prompt_num_attention_heads: int = 8  # E / 64 in the paper
    prompt_attention_dropout: float = 0.0
    prompt_projection_dropout: float = 0.0
    logit_scale_init_value: float = 2.6592  # ln(1 / 0.07), as in CLIP
    initializer_factor: float = 1.0

    def __init__(self, **values: Any) -> None:
        for name in ("text_config", "vision_config"):
            # Folders written before transformers 4.30 may also have *_config_dict, which then takes precedence.
            older = values.pop(f"{name}_dict", None)
            if older is not None:
                if not isinstance(older, dict):
                    raise ValueError(f"{name}_dict is {older!r:.80}, but must be a dict of fields.")
                tower = values.get(name) or {}
                values[name] = {**(tower.to_dict() if isinstance(tower, Config) else tower), **older}
        if "projection_dim" not in values:  # MIT works on projected frame features
            vision = values.get("vision_config")
            key = "mit_hidden_size"
            width = vision.get(key) if isinstance(vision, dict) else getattr(vision, key, None)
            if width is not None:
                values["projection_dim"] = width
        super().__init__(**values)

    def _validate(self) -> None:
        self.text_config = _as_config(XCLIPTextConfig, self.text_config)
        self.vision_config = _as_config(XCLIPVisionConfig, self.vision_config)
        _check_heads("prompts", self, "projection_dim", "prompt_num_attention_heads")
        if self.vision_config.mit_hidden_size != self.projection_dim:
            raise ValueError(
                f"vision_config.mit_hidden_size={self.vision_config.mit_hidden_size} and projection_dim="
                f"{self.projection_dim} differ, but MIT works on projected frame features: set both to one value."
            )

    @classmethod
    def from_text_vision_configs(
        cls, text_config: XCLIPTextConfig, vision_config: XCLIPVisionConfig, **kwargs: Any
    ) -> XCLIPConfig:
        """Make a config from its two towers; `kwargs` are the other fields."""
        return cls(text_config=text_config.to_dict(), vision_config=vision_config.to_dict(), **kwargs)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> XCLIPTextConfig:
        """Return `text_config`."""
        return self.text_config

    @property
    def authors_heads(self) -> int:
        """Number of attention heads in the authors' code, in MIT and in the prompts: E / 64."""
        return max(1, self.projection_dim // HEAD_WIDTH)

    @property
    def has_converters_heads(self) -> bool:
        """Whether MIT or the prompts have 8 heads at a joint width of 768.

        transformers' converter wrote 8 into the folders of the large models, but the authors' code has 12. So such a
        folder gives other scores than the authors' model with the same weights.
        """
        return self.projection_dim == 768 and 8 in (
            self.vision_config.mit_num_attention_heads,
            self.prompt_num_attention_heads,
        )


def _as_config(cls: type[ConfigT], value: Any) -> ConfigT:
    if value is None or isinstance(value, dict):
        return cls(**(value or {}))
    try:
        return cls.of(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"expected a {cls.__name__}, a dict of its fields or None, got {kind}.") from None
