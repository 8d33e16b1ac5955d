"""The model.

The paper's model is in `xclip` (the whole model), `vision`, `text`, `integration`, `prompting`, `layers` and `losses`.
`pretrained` loads and saves models, with `fitting`, `arguments` and `devices`; `finite` refuses damaged numbers.
`members`, `outputs` and `auto` support code that was written for transformers.
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
