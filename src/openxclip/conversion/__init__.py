"""Convert checkpoints between formats (`convert`), and start an X-CLIP from a CLIP (`init_from_clip`)."""

from openxclip.conversion.converting import Conversion, convert, load_processor
from openxclip.conversion.from_clip import Initialization, init_from_clip

__all__ = ["Conversion", "Initialization", "convert", "init_from_clip", "load_processor"]
