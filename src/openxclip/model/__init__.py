"""The model, one file for each part of the paper."""

from openxclip.model.outputs import TransformerOutput, VideoFeatures, XCLIPOutput
from openxclip.model.pretrained import XCLIPPreTrainedModel
from openxclip.model.text import XCLIPTextModel
from openxclip.model.vision import XCLIPVisionModel
from openxclip.model.xclip import XCLIPModel

__all__ = [
    "TransformerOutput",
    "VideoFeatures",
    "XCLIPModel",
    "XCLIPOutput",
    "XCLIPPreTrainedModel",
    "XCLIPTextModel",
    "XCLIPVisionModel",
]
