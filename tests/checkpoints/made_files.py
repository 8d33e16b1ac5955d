"""Build files of torch.save by hand, so that they can be invalid."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path

MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001


def zip_file(path: Path, data_pkl: bytes, records: dict[str, bytes] | None = None) -> Path:
    """Write a file in the format since torch 1.6."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        for name, content in {"byteorder": b"little", "version": b"3\n", **(records or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def legacy_file(path: Path, data_pkl: bytes, storages: dict[str, tuple[int, bytes]] | None = None) -> Path:
    """Write a file in the format before torch 1.6, with storages as (elements, bytes)."""
    machine = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": {"int": 4}}
    storages = storages or {}
    parts = [pickle.dumps(part, 2) for part in (MAGIC_NUMBER, PROTOCOL_VERSION, machine)]
    parts += [data_pkl, pickle.dumps(list(storages), 2)]
    parts += [struct.pack("<q", count) + content for count, content in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + raw


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(elements: int, kind: str = "FloatStorage", key: str = "0") -> bytes:
    """A reference to a storage, as in every tensor's pickle."""
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(elements) + b"tQ"


def tensor(
    storage_of: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, hooks: bytes = b"}"
) -> bytes:
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage_of
        + number(offset)
        + numbers(*size)
        + numbers(*stride)
        + b"\x89"
        + hooks
        + b"tR"
    )


def state(*items: tuple[str, bytes]) -> bytes:
    """Return a pickled dictionary of pickled values."""
    return b"\x80\x02}(" + b"".join(text(name) + piece for name, piece in items) + b"u."
