"""Rows as a table, as JSON Lines or as CSV: the options of every verb that prints rows."""

from __future__ import annotations

import csv
import functools
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import click

from openxclip.common.files import without_nan

Command = TypeVar("Command", bound=Callable[..., Any])
Form = Literal["table", "jsonl", "csv"]


def format_options(command: Command) -> Command:
    """Add `--format` and `--json`; the command gets the chosen format as `form`."""

    @functools.wraps(command)
    def with_form(*args: Any, output_format: Form | None, as_json: bool, **options: Any) -> Any:
        if as_json and output_format not in (None, "jsonl"):
            raise click.UsageError(f"--json is short for --format jsonl: it doesn't go with --format {output_format}.")
        form = "jsonl" if as_json else output_format or ("table" if sys.stdout.isatty() else "jsonl")
        return command(*args, form=form, **options)

    add_format = click.option(
        "--format",
        "output_format",
        type=click.Choice(["table", "jsonl", "csv"]),
        help="How rows are printed.  [default: table on a terminal, jsonl elsewhere]",
    )
    add_json = click.option("--json", "as_json", is_flag=True, help="Short for --format jsonl.")
    return add_format(add_json(with_form))  # type: ignore[return-value]


class CsvRows:
    """Prints rows of CSV; the header comes first, also where there are no rows.

    Args:
        columns: their names, in order.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns
        click.echo(csv_line(columns))

    def print(self, row: Mapping[str, Any]) -> None:
        """Print a row; a column that it lacks stays empty."""
        click.echo(csv_line(row.get(name) for name in self.columns))


def csv_line(values: Iterable[Any]) -> str:
    """A line of CSV without its end: nothing for None, true and false as in JSON, JSON for lists."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([_cell(value) for value in values])
    return text.getvalue()


def _cell(value: Any) -> Any:
    value = without_nan(value)
    if isinstance(value, bool | list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return value
