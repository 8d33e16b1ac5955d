"""Weights in and out. Knows files and names of tensors, and no model class. Imports no PyTorch before it must."""

from openxclip.checkpoints.authors import save_authors_file
from openxclip.checkpoints.description import CheckpointDescription, describe_checkpoint
from openxclip.checkpoints.folder import LoadedWeights, load_state_dict, save_state_dict
from openxclip.checkpoints.formats import Checkpoint, read_checkpoint
from openxclip.checkpoints.released import RELEASED, Released

__all__ = [
    "RELEASED",
    "Checkpoint",
    "CheckpointDescription",
    "LoadedWeights",
    "Released",
    "describe_checkpoint",
    "load_state_dict",
    "read_checkpoint",
    "save_authors_file",
    "save_state_dict",
]
