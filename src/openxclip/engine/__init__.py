"""Fast inference: `optimize` wraps a model without changing it."""

from openxclip.engine.optimized import OptimizedXCLIPModel, optimize
from openxclip.engine.precision import Precision

__all__ = ["OptimizedXCLIPModel", "Precision", "optimize"]
