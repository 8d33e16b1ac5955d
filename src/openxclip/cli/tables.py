"""Tables on a terminal of any width."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from openxclip.cli.terminal import printable

_NARROWEST = 12  # characters; names in a narrower folded column are hard to read
_WIDEST = 10_000  # wider than any table


def new_table(**style: Any) -> Table:
    """Return an empty table in the style of all verbs. `style` is passed to `rich.table.Table`."""
    return Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, **style)


def add_numbers(table: Table, *titles: str) -> None:
    """Add columns of numbers, which are never folded."""
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)


def cell(text: object, style: str = "") -> Text:
    """Return a text with its control characters escaped."""
    return Text(printable(str(text)), style=style)


def print_line(text: str, style: str = "") -> None:
    """Print a line of text, folded if the terminal is too narrow."""
    Console().print(cell(text, style), overflow="fold")


def print_table(table: Table, *, title: int = 0) -> None:
    """Print a table. If the terminal is too narrow, print each row as several lines, so that no text is lost.

    Args:
        table: a table of text cells; columns with `no_wrap` are never folded.
        title: index of the column that is printed first if rows are printed as lines.
    """
    console = Console()
    if _width_needed(table, console) <= console.width:
        console.print(table)
    else:
        _print_lines(table, title, console)


def _width_needed(table: Table, console: Console) -> int:
    wide = console.options.update(max_width=_WIDEST)
    needed = Measurement.get(console, wide, table).maximum
    for column in table.columns:
        if not column.no_wrap:
            longest = max(cell_len(line) for cell in _cells(column) for line in cell.plain.split("\n"))
            needed -= max(0, longest - _NARROWEST)
    return needed


def _print_lines(table: Table, title: int, console: Console) -> None:
    columns = [table.columns[title], *(column for column in table.columns if column is not table.columns[title])]
    headers = [_text(column.header).plain for column in columns]
    depth = 0
    cells = zip(*(column.cells for column in columns), strict=True)
    for row, texts in zip(table.rows, cells, strict=True):
        for number, (header, cell) in enumerate(zip(headers, texts, strict=True)):
            text = _text(cell)
            if not text.plain:
                continue
            if number:
                text = Text.assemble(f"{header}: " if header else "", text)
            else:
                depth = 2 + len(text.plain) - len(text.plain.lstrip())
            console.print(Padding(text, (0, 0, 0, depth if number else 0)), style=row.style, overflow="fold")
        if row.end_section:
            console.print()


def _cells(column: Column) -> list[Text]:
    return [_text(column.header), *map(_text, column.cells)]


def _text(cell: RenderableType) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))
