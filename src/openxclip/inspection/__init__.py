"""What a file, folder or model is (`info`) and costs (`profile`)."""

from openxclip.inspection.information import info
from openxclip.inspection.profiling import Cost, Profile, profile

__all__ = ["Cost", "Profile", "info", "profile"]
