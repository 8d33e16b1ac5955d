"""AutoProcessor and its like, for code that was written with transformers' classes of these names."""

from __future__ import annotations

from openxclip.processing import CLIPTokenizer, VideoProcessor, XCLIPProcessor


class AutoProcessor:
    """`from_pretrained` makes an XCLIPProcessor."""

    from_pretrained = XCLIPProcessor.from_pretrained


class AutoTokenizer:
    """`from_pretrained` makes a CLIPTokenizer."""

    from_pretrained = CLIPTokenizer.from_pretrained


class AutoImageProcessor:
    """`from_pretrained` makes a VideoProcessor."""

    from_pretrained = VideoProcessor.from_pretrained
