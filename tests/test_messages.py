"""Messages are for people: no raw errors of the system in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import openxclip

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
def test_errors_of_the_system_are_told_in_words(path: Path) -> None:
    handlers = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)]
    raw = [line for handler in handlers if caught(handler) & OF_THE_SYSTEM for line in told_raw(handler)]
    assert not raw, "use reason_of, cannot_read or cannot_write of openxclip.files"
