"""Auto classes for code that was written with transformers' classes of these names."""

from __future__ import annotations

from openxclip.processing import CLIPTokenizer, VideoProcessor, XCLIPProcessor


class AutoProcessor:
    """`from_pretrained` returns an XCLIPProcessor."""

    from_pretrained = XCLIPProcessor.from_pretrained


class AutoTokenizer:
    """`from_pretrained` returns a CLIPTokenizer."""

    from_pretrained = CLIPTokenizer.from_pretrained


class AutoImageProcessor:
    """`from_pretrained` returns a VideoProcessor."""

    from_pretrained = VideoProcessor.from_pretrained
