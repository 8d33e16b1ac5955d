"""Read and write files of weights. Knows no model class, and imports PyTorch only when tensors are read."""

from openxclip.checkpoints.description import CheckpointDescription, describe_checkpoint
from openxclip.checkpoints.files import save_authors_file
from openxclip.checkpoints.folder import LoadedWeights, load_state_dict, save_state_dict
from openxclip.checkpoints.formats import Checkpoint, CheckpointOptions, read_checkpoint
from openxclip.checkpoints.loading import Pretrained, config_in, open_clip_start, open_pretrained
from openxclip.checkpoints.released import RELEASED, Released

__all__ = [
    "RELEASED",
    "Checkpoint",
    "CheckpointDescription",
    "CheckpointOptions",
    "LoadedWeights",
    "Pretrained",
    "Released",
    "config_in",
    "describe_checkpoint",
    "load_state_dict",
    "open_clip_start",
    "open_pretrained",
    "read_checkpoint",
    "save_authors_file",
    "save_state_dict",
]
