"""openxclip: recognise, search and learn what happens in video from words (X-CLIP, arXiv 2208.02816).

Names are imported where they are first used, so that `import openxclip` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from openxclip.auto import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer
    from openxclip.benchmarking import bench
    from openxclip.config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
    from openxclip.conversion import convert
    from openxclip.embedding import embed
    from openxclip.engine import OptimizedXCLIPModel, optimize
    from openxclip.errors import (
        CheckpointError,
        MissingPackageError,
        NotWrittenError,
        OpenXCLIPError,
        VideoError,
        VideoIndexError,
    )
    from openxclip.information import info
    from openxclip.initialization import init_from_clip
    from openxclip.model import (
        VideoFeatures,
        XCLIPModel,
        XCLIPOutput,
        XCLIPPreTrainedModel,
        XCLIPTextModel,
        XCLIPVisionModel,
    )
    from openxclip.pipeline import VideoPipeline
    from openxclip.processing import CLIPTokenizer, XCLIPProcessor
    from openxclip.profiling import profile
    from openxclip.recognition import classify, iter_classify
    from openxclip.search import VideoIndex
    from openxclip.training import evaluate_recipe, train
    from openxclip.transformers_trainer import Trainer
    from openxclip.video import Limits, VideoReader, check

_HOME = {
    "AutoConfig": "auto",
    "AutoImageProcessor": "auto",
    "AutoModel": "auto",
    "AutoProcessor": "auto",
    "AutoTokenizer": "auto",
    "CLIPTokenizer": "processing",
    "CheckpointError": "errors",
    "Limits": "video",
    "MissingPackageError": "errors",
    "NotWrittenError": "errors",
    "OpenXCLIPError": "errors",
    "OptimizedXCLIPModel": "engine",
    "Trainer": "transformers_trainer",
    "VideoError": "errors",
    "VideoFeatures": "model",
    "VideoIndex": "search",
    "VideoIndexError": "errors",
    "VideoPipeline": "pipeline",
    "VideoReader": "video",
    "XCLIPConfig": "config",
    "XCLIPModel": "model",
    "XCLIPOutput": "model",
    "XCLIPPreTrainedModel": "model",
    "XCLIPProcessor": "processing",
    "XCLIPTextConfig": "config",
    "XCLIPTextModel": "model",
    "XCLIPVisionConfig": "config",
    "XCLIPVisionModel": "model",
    "bench": "benchmarking",
    "check": "video",
    "classify": "recognition",
    "convert": "conversion",
    "embed": "embedding",
    "evaluate_recipe": "training",
    "info": "information",
    "init_from_clip": "initialization",
    "iter_classify": "recognition",
    "optimize": "engine",
    "profile": "profiling",
    "train": "training",
}

__all__ = [
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoProcessor",
    "AutoTokenizer",
    "CLIPTokenizer",
    "CheckpointError",
    "Limits",
    "MissingPackageError",
    "NotWrittenError",
    "OpenXCLIPError",
    "OptimizedXCLIPModel",
    "Trainer",
    "VideoError",
    "VideoFeatures",
    "VideoIndex",
    "VideoIndexError",
    "VideoPipeline",
    "VideoReader",
    "XCLIPConfig",
    "XCLIPModel",
    "XCLIPOutput",
    "XCLIPPreTrainedModel",
    "XCLIPProcessor",
    "XCLIPTextConfig",
    "XCLIPTextModel",
    "XCLIPVisionConfig",
    "XCLIPVisionModel",
    "bench",
    "check",
    "classify",
    "convert",
    "embed",
    "evaluate_recipe",
    "info",
    "init_from_clip",
    "iter_classify",
    "optimize",
    "profile",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        try:
            return import_module(f"openxclip.{name}")  # a room, such as openxclip.playground
        except ModuleNotFoundError as error:
            if error.name != f"openxclip.{name}":
                raise
            raise AttributeError(f"module 'openxclip' has no attribute {name!r}") from None
    value = getattr(import_module(f"openxclip.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
