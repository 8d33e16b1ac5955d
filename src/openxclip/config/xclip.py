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
    """The text tower: CLIP's causal transformer. The defaults are the sizes of base models.

    Attributes:
        vocab_size: number of tokens of CLIP's byte-pair vocabulary.
        hidden_size: width D of a token.
        intermediate_size: width of the MLP, four times `hidden_size`.
        num_hidden_layers: number of blocks.
        num_attention_heads: number of heads, each D / heads wide.
        max_position_embeddings: maximum number of tokens of a text, with the start and the end.
        hidden_act: activation of the MLP; OpenAI's weights were trained with "quick_gelu".
        layer_norm_eps: epsilon of the layer norms.
        attention_dropout: dropout of attention weights in training.
        initializer_range: standard deviation of random weights.
        initializer_factor: scales the random weights.
        pad_token_id, bos_token_id, eos_token_id: ids in the released folders. They have no effect, because the end of
            a text is its highest id.
    """

    model_type: ClassVar[str] = "xclip_text_model"

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | None = 2

    def _validate(self) -> None:
        _check_heads("text", self, "hidden_size", "num_attention_heads")


@dataclass(init=False, eq=False, repr=False)
class XCLIPVisionConfig(_TowerConfig):
    """The video tower: CLIP's vision transformer with cross-frame messages, and the size of the MIT on top of it.

    Attributes:
        hidden_size: width D of a token.
        intermediate_size: width of the MLP.
        num_hidden_layers: number of blocks.
        num_attention_heads: number of heads, each D / heads wide.
        mit_hidden_size: width of MIT, the joint width E.
        mit_intermediate_size: width of MIT's MLP.
        mit_num_hidden_layers: number of MIT's blocks; 1 in every released model.
        mit_num_attention_heads: number of MIT's heads; E / 64 in the paper (see `XCLIPConfig.has_converters_heads`).
        num_channels: channels of a frame.
        image_size: height and width of a frame, in pixels.
        patch_size: height and width of a patch, in pixels.
        num_frames: T, the temporal positions in the weights; they are interpolated for other numbers of frames.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of the layer norms.
        attention_dropout: dropout of attention weights in training.
        initializer_range: standard deviation of random weights.
        initializer_factor: scales the random weights.
        drop_path_rate: rate at which the last block's residuals are dropped in training; it grows linearly over the
            blocks. The paper's recipes use 0.
    """

    model_type: ClassVar[str] = "xclip_vision_model"

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mit_hidden_size: int = 512
    mit_intermediate_size: int = 2048
    mit_num_hidden_layers: int = 1
    mit_num_attention_heads: int = 8
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    num_frames: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    drop_path_rate: float = 0.0

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

    Attributes:
        text_config: the text tower: a config, a dict of its fields, or None for the defaults.
        vision_config: the video tower, likewise.
        projection_dim: the joint width E; default is `vision_config.mit_hidden_size`.
        prompt_layers: number of layers of the prompt generator.
        prompt_alpha: initial value of the prompts' learned scale.
        prompt_hidden_act: activation of the prompt generator.
        prompt_num_attention_heads: heads of the prompt generator; E / 64 in the paper.
        prompt_attention_dropout: dropout of its attention weights in training.
        prompt_projection_dropout: dropout after its attention in training.
        logit_scale_init_value: initial logarithm of the scale of scores; ln(1 / 0.07), as in CLIP.
        initializer_factor: scales the random weights.

    Examples:
        >>> config = XCLIPConfig(vision_config={"patch_size": 16, "num_frames": 16})
        >>> config.vision_config.num_frames, config.projection_dim
        (16, 512)
    """

    model_type: ClassVar[str] = "xclip"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": XCLIPTextConfig, "vision_config": XCLIPVisionConfig}

    text_config: XCLIPTextConfig = field(default_factory=XCLIPTextConfig)
    vision_config: XCLIPVisionConfig = field(default_factory=XCLIPVisionConfig)
    projection_dim: int = 512
    prompt_layers: int = 2
    prompt_alpha: float = 0.1
    prompt_hidden_act: str = "quick_gelu"
    prompt_num_attention_heads: int = 8
    prompt_attention_dropout: float = 0.0
    prompt_projection_dropout: float = 0.0
    logit_scale_init_value: float = 2.6592
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
        """Make a config from its two towers.

        Args:
            text_config: the text tower.
            vision_config: the video tower.
            **kwargs: other fields of `XCLIPConfig`.

        Examples:
            >>> towers = XCLIPTextConfig(), XCLIPVisionConfig(patch_size=16)
            >>> XCLIPConfig.from_text_vision_configs(*towers).vision_config.patch_size
            16
        """
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
