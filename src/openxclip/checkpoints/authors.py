"""Write weights as a `.pth` that the authors' code reads."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from openxclip.checkpoints.files import OWN_TEXTS
from openxclip.checkpoints.names import to_authors
from openxclip.common.files import atomic_file, cannot_write
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def save_authors_file(tensors: Mapping[str, Tensor], path: Path, *, texts: Mapping[str, str]) -> None:
    """Write weights atomically as `{"model": …}` by torch.save, under the authors' names.

    Args:
        tensors: weights under the hub's names.
        path: path of the file.
        texts: texts to store beside the weights, so that converting back gives the same config.json.

    Raises:
        CheckpointError: a tensor has no counterpart in the authors' model, or the file can't be written.
    """
    import torch

    try:
        state = to_authors(tensors)
    except KeyError as error:
        raise CheckpointError(f"{path}: the authors' model has nothing like {error.args[0]!r}.") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial, partial.open("wb") as file:
            torch.save({"model": state, OWN_TEXTS: dict(texts)}, file)
    except OSError as error:
        raise CheckpointError(cannot_write(path, error)) from error
    except RuntimeError as error:  # torch.save raises it for a full disk, without saying so
        system_error = error.__context__ if isinstance(error.__context__, OSError) else OSError(errno.EIO, "")
        raise CheckpointError(cannot_write(path, system_error)) from error
