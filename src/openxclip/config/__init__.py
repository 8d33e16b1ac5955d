"""The configs of X-CLIP and its towers: dataclasses, written as JSON as in the hub's folders."""

from openxclip.config.base import CONFIG_NAME, Config, ConfigT, read_model_type
from openxclip.config.contract import NEUTRAL_TEXTS, LabelThreshold, TimeContract
from openxclip.config.xclip import HEAD_WIDTH, XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig

__all__ = [
    "CONFIG_NAME",
    "HEAD_WIDTH",
    "NEUTRAL_TEXTS",
    "Config",
    "ConfigT",
    "LabelThreshold",
    "TimeContract",
    "XCLIPConfig",
    "XCLIPTextConfig",
    "XCLIPVisionConfig",
    "read_model_type",
]
