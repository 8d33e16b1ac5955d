"""Weights as a `.pth` that the authors' code reads."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from openxclip.checkpoints.formats import OWN_FILES
from openxclip.checkpoints.names import to_authors
from openxclip.common.files import cannot_write
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def save_authors_file(tensors: Mapping[str, Tensor], path: Path, *, texts: Mapping[str, str]) -> None:
    """Write weights as `{"model": …}` by torch.save, under the authors' names. The file appears whole or not at all.

    Args:
        tensors: under the hub's names.
        path: of the file.
        texts: kept beside the weights as plain strings, so that the way back gives the same config.json.

    Raises:
        CheckpointError: a tensor that the authors' model hasn't, or a path that can't be written.
    """
    import torch

    try:
        state = to_authors(tensors)
    except KeyError as error:
        raise CheckpointError(f"{path}: the authors' model has nothing like {error.args[0]!r}.") from error
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "wb") as file:
            torch.save({"model": state, OWN_FILES: dict(texts)}, file)
        umask = os.umask(0)
        os.umask(umask)
        Path(partial).chmod(0o666 & ~umask)  # temporary files are for their owner alone
        Path(partial).replace(path)
    except OSError as error:
        raise CheckpointError(cannot_write(path, error)) from error
    except RuntimeError as error:  # what torch makes of a full disk, without saying so
        system = error.__context__ if isinstance(error.__context__, OSError) else OSError(errno.EIO, "")
        raise CheckpointError(cannot_write(path, system)) from error
    finally:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)
