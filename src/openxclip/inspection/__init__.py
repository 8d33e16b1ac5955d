"""`info` describes a file, folder or model, and `profile` counts the cost of a model."""

from openxclip.inspection.information import info
from openxclip.inspection.profiling import Cost, Profile, profile

__all__ = ["Cost", "Profile", "info", "profile"]
