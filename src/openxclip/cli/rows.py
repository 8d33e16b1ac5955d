"""Output formats of verbs that print rows: a table, JSON Lines or CSV."""

from __future__ import annotations

import csv
import functools
import io
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import click

from openxclip.cli.terminal import Command, json_line
from openxclip.common.files import without_nan

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
        help="Output format.  [default: table on a terminal, jsonl elsewhere]",
    )
    add_json = click.option("--json", "as_json", is_flag=True, help="Short for --format jsonl.")
    return add_format(add_json(with_form))  # type: ignore[return-value]


class Rows:
    """Prints rows as JSON Lines, or as CSV after a header, which is printed even if there are no rows.

    Args:
        form: the format; nothing is printed for "table".
        columns: names of the columns of CSV, in order.
    """

    def __init__(self, form: Form, columns: Iterable[str]) -> None:
        self._form, self._columns = form, tuple(columns)
        if form == "csv":
            click.echo(csv_line(self._columns))

    def print(self, row: Mapping[str, Any]) -> None:
        """Print a row. In CSV, missing columns stay empty and other names are left out."""
        if self._form == "csv":
            click.echo(csv_line(map(row.get, self._columns)))
        elif self._form == "jsonl":
            click.echo(json_line(row))


def csv_line(values: Iterable[Any]) -> str:
    """Return a CSV line without a line end. None is empty; booleans, lists and dicts are JSON."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([_cell(value) for value in values])
    return text.getvalue()


def _cell(value: Any) -> Any:
    value = without_nan(value)
    if isinstance(value, bool | list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return value
