"""`openxclip models`: lists the models that --model takes by name."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Any

import click

from openxclip import hub
from openxclip.checkpoints.released import RELEASED, Released
from openxclip.cli.rows import Form, Rows, format_options
from openxclip.errors import OpenXCLIPError

_SHORTER = {  # so that the table fits 80 columns
    "Kinetics-": "K",
    "HMDB-51": "HMDB",
    "UCF-101": "UCF",
    "openxclip's rendered playground": "",
    "top1": "",
    "top5": "",
}


@click.command("models")
@format_options
def command(form: Form) -> None:
    """List the models that --model takes by name, with their size, training data and accuracy.

    These are the included model, the released models, and other X-CLIPs in the hub's cache. The accuracy is that of the
    paper (arXiv 2208.02816).
    """
    models = _models()
    rows = Rows(form, models[0])
    for model in models:
        rows.print(model)
    if form == "table":
        _show_table(models)


def _models() -> list[dict[str, Any]]:
    """Return a row for each model: the fields of `Released`, the download size, and whether it is downloaded."""
    cached: list[str] = []
    with suppress(OpenXCLIPError, OSError):  # the cache doesn't exist or can't be read
        cached = hub.cached_models()
    released = {model.name for model in RELEASED}
    others = [_describe_cached(name) for name in cached if name not in released]
    return [
        {
            **dataclasses.asdict(model),
            "download_bytes": model.download_bytes,
            "here": model.name in hub.SHIPPED_MODELS or model.name in cached,
        }
        for model in (*RELEASED, *others)
    ]


def _describe_cached(name: str) -> Released:
    """Describe a cached X-CLIP that isn't a released model; numbers are 0 if it can't be read."""
    from openxclip.checkpoints import describe_checkpoint

    with suppress(OpenXCLIPError, OSError):
        model = describe_checkpoint(name, local_files_only=True)
        return Released(
            name, model.architecture, model.parameters, model.frames or 0, model.resolution, model.trained_on or ""
        )
    return Released(name, "", 0, 0, 0, "")


def _show_table(models: list[dict[str, Any]]) -> None:
    from openxclip.cli.tables import add_numbers, new_table, print_table

    table = new_table(padding=(0, 0), show_edge=False)
    table.add_column("--model", no_wrap=True)
    add_numbers(table, "GB", "clip")
    table.add_column("data", no_wrap=True)
    table.add_column("accuracy", no_wrap=True)
    for model in models:
        table.add_row(
            model["name"],
            "here" if model["here"] else f"{model['download_bytes'] / 1e9:.1f}",
            f"{model['frames']}×{model['resolution']}" if model["frames"] else "",
            _abbreviate(model["trained_on"].partition(",")[0]),
            _accuracy(model["accuracy"]),
        )
    print_table(table)
    click.echo(
        "GB: download size, or here if it is on this machine; clip: frames × pixels;\n"
        "data: training data (K: Kinetics); accuracy: %, top-1 and top-5, or zero-shot,\n"
        "as published (arXiv 2208.02816). mini knows only openxclip's rendered\n"
        "playground. --model also takes a model's folder, a file of weights (.pth,\n"
        ".safetensors) and the hub id of any X-CLIP."
    )


def _accuracy(percent: dict[str, float]) -> str:
    numbers = [f"{_abbreviate(name)} {value:.1f}".strip() for name, value in percent.items()]
    return (", " if "top1" in percent else "\n").join(numbers)


def _abbreviate(text: str) -> str:
    for long, short in _SHORTER.items():
        text = text.replace(long, short)
    return text
