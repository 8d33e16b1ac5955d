"""The model.

The paper is in `xclip` (the whole model), `vision`, `text`, `integration`, `prompting`, `layers` and `losses`. What is
there for code that was written for transformers is in `pretrained` (loading and saving) with `fitting`, `arguments`
and `devices`, and in `members`, `features` and `auto`.
"""

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
