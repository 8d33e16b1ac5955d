"""The configs of X-CLIP and its towers: dataclasses, and JSON as in the hub's folders."""

from openxclip.config.base import CONFIG_NAME, ConfigT, read_config_json
from openxclip.config.xclip import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig

__all__ = ["CONFIG_NAME", "ConfigT", "XCLIPConfig", "XCLIPTextConfig", "XCLIPVisionConfig", "read_config_json"]
