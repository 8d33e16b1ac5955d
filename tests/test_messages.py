"""Messages explain errors of the system in words, and don't hide other errors."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import openxclip
from openxclip.common.files import as_os_error, atomic_file
from openxclip.errors import CheckpointError, OpenXCLIPError

SOURCES = sorted(Path(openxclip.__file__).parent.rglob("*.py"))
OF_THE_SYSTEM = {"OSError", "PermissionError", "FileNotFoundError", "FileExistsError", "IsADirectoryError"}


def caught(handler: ast.ExceptHandler) -> set[str]:
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {kind.id for kind in types if isinstance(kind, ast.Name)}


def told_raw(handler: ast.ExceptHandler) -> Iterator[int]:
    """Lines that put the error itself into a text: "[Errno 28] No space left on device: '/tmp/.x.1f2a'"."""
    for node in _outside_conditions(handler):
        if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name) and node.value.id == handler.name:
            yield node.lineno
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("str", "say")
        if is_call and any(isinstance(given, ast.Name) and given.id == handler.name for given in node.args):
            yield node.lineno


def _outside_conditions(node: ast.AST) -> Iterator[ast.AST]:
    """All that is in a node, but for expressions that tell errors of the system from others."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.IfExp):
            yield from _outside_conditions(child)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_system_errors_are_explained_in_words(path: Path) -> None:
    handlers = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)]
    raw = [line for handler in handlers if caught(handler) & OF_THE_SYSTEM for line in told_raw(handler)]
    assert not raw, "use reason_of, cannot_read or cannot_write of openxclip.common.files"


OURS = {"CheckpointError", "OpenXCLIPError"}  # the first is an OSError too, the second its base


def raised(nodes: list[ast.stmt]) -> set[str]:
    """Classes of the errors that these statements raise themselves."""
    found = [node.exc for one in nodes for node in ast.walk(one) if isinstance(node, ast.Raise)]
    return {one.func.id for one in found if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_checkpoint_errors_are_caught_before_system_errors(path: Path) -> None:
    """A CheckpointError is an OSError, but its message must reach the user as it is."""
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Try) and "CheckpointError" in raised(node.body):
            first = next((h for h in node.handlers if h.type and caught(h) & {*OF_THE_SYSTEM, *OURS}), None)
            if first is not None and not caught(first) & OURS:
                wrong.append(first.lineno)
    assert not wrong, "catch CheckpointError before OSError"


def test_a_checkpoint_error_is_an_os_error_for_client_code() -> None:
    error = CheckpointError("x/model: there is no such folder.")
    for one in (error, pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert isinstance(one, OSError)
        assert isinstance(one, OpenXCLIPError)
        assert str(one) == "x/model: there is no such folder."
        assert (one.errno, one.filename, one.strerror) == (None, None, None)
    with pytest.raises(TypeError):
        CheckpointError(2, "OSError would take this for a number and a text")  # type: ignore[call-arg]


def test_openxclip_errors_are_not_changed_to_system_errors(tmp_path: Path) -> None:
    error = CheckpointError("x: can't be written (os error 28).")
    assert as_os_error(error, tmp_path) is None
    with pytest.raises(CheckpointError) as caught_error, atomic_file(tmp_path / "file"):
        raise error
    assert caught_error.value is error
    assert not list(tmp_path.iterdir())
