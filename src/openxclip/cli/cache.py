"""`openxclip cache`: lists and deletes downloaded X-CLIPs."""

from __future__ import annotations

import sys
import time

import click

from openxclip import hub
from openxclip.cli.rows import CsvRows, Form, format_options
from openxclip.cli.terminal import json_line, printable
from openxclip.common.sizes import format_bytes


@click.command("cache")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--clear", is_flag=True, help="Delete the MODELs, or all listed models.")
@click.option("--yes", is_flag=True, help="Don't ask before deleting.")
@format_options
def command(models: tuple[str, ...], clear: bool, yes: bool, form: Form) -> None:
    """List the X-CLIPs that were downloaded from the hub, or delete them.

    MODEL is a hub id such as microsoft/xclip-base-patch32. Models of other kinds in this cache are neither listed nor
    deleted. The environment variable HF_HOME sets the place of the cache.
    """
    cached = hub.cached_models()
    if clear:
        _clear(list(models) or [model.name for model in cached], cached, yes)
        return
    if models:
        cached = [model for model in cached if model.name in models]
        unknown = [name for name in models if name not in {model.name for model in cached}]
        if unknown:
            raise click.UsageError(f"{', '.join(unknown)}: not in the cache; without a name, all models are listed.")
    entries = [{**model._asdict(), "last_used": _day(model.last_used), "folder": str(model.folder)} for model in cached]
    if form == "csv":
        rows = CsvRows(hub.CachedModel._fields)
        for entry in entries:
            rows.print(entry)
    elif form == "jsonl":
        for entry in entries:
            click.echo(json_line(entry))
    elif cached:
        _show_table(cached)
    else:
        click.echo(
            "No X-CLIP has been downloaded. (mini is included in the package; `openxclip models` lists the others.)"
        )


def _clear(names: list[str], cached: list[hub.CachedModel], yes: bool) -> None:
    if not names:
        click.echo("There is nothing to delete.")
        return
    size = sum(model.bytes_on_disk for model in cached if model.name in names)
    if not yes and all(model in {m.name for m in cached} for model in names):
        if not sys.stdin.isatty():
            raise click.UsageError("--clear asks before deleting, and nobody can answer here: add --yes.")
        click.confirm(f"Delete {', '.join(names)} ({format_bytes(size)})?", abort=True)
    freed = hub.remove_cached(names)
    click.echo(f"{format_bytes(freed)} freed: {', '.join(names)}.")


def _show_table(cached: list[hub.CachedModel]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from openxclip.cli.tables import print_table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("last used", no_wrap=True)
    table.add_column("folder", overflow="fold")
    for model in cached:
        size, folder = format_bytes(model.bytes_on_disk), Text(printable(str(model.folder)))
        table.add_row(model.name, size, _day(model.last_used), folder)
    print_table(table)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))
