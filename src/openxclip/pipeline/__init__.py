"""`VideoPipeline`: videos in, features and scores out."""

from openxclip.pipeline.pipeline import VideoPipeline

__all__ = ["VideoPipeline"]
