"""Weights in and out. Knows files and names of tensors, and no model class."""

from openxclip.checkpoints.folder import LoadedWeights, load_state_dict, save_state_dict

__all__ = ["LoadedWeights", "load_state_dict", "save_state_dict"]
