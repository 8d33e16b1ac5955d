"""Inference as fast as the machine at hand allows: `optimize` wraps a model, which doesn't know it."""

from openxclip.engine.optimized import OptimizedXCLIPModel, optimize
from openxclip.engine.precision import Precision

__all__ = ["OptimizedXCLIPModel", "Precision", "optimize"]
