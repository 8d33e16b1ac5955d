"""`openxclip eval`: evaluates a model by a recipe's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from openxclip.cli.options import Target, hidden_option, precision_option, with_hidden
from openxclip.cli.progress import progress
from openxclip.cli.terminal import printable, say, say_first

if TYPE_CHECKING:
    from openxclip.engine import Precision
    from openxclip.evaluation.runs import Summary


@click.command("eval", no_args_is_help=True)
@click.argument("recipe", required=False)
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--model", help="The model to evaluate: a folder, a hub id, or mini.")
@click.option("--out", type=Target(), help="Folder for results.json, confusion matrix and plots.")
@click.option(
    "--template",
    "templates",
    multiple=True,
    help="Text for a class name, with {} for the name; several are averaged.  [default: the recipe's]",
)
@click.option("--no-prompts", is_flag=True, help="Don't use the video-specific prompts.")
@click.option(
    "--over", metavar="KEY=V1,V2,…", help="One evaluation for each value, and their mean: fold=1,2,3 or seed=0,1,2."
)
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="A B",
    help="Compare two results.json of the same videos by a paired bootstrap: is B better than A?",
)
@click.option("--device", help="cpu, cuda, cuda:1, …  [default: a GPU if there is one]")
@precision_option
@hidden_option
def command(
    recipe: str | None,
    changes: tuple[str, ...],
    model: str | None,
    out: Path | None,
    templates: tuple[str, ...],
    no_prompts: bool,
    over: str | None,
    compare: tuple[Path, Path] | None,
    device: str | None,
    precision: Precision,
    hidden: bool,
) -> None:
    """Evaluate a model with the data, clips and crops of a RECIPE.

    \b
      openxclip eval my-videos data=clips/ \\
          --model my-model --out results
      openxclip eval --compare a/results.json b/results.json
    """  # noqa: D301 (click's sign for a paragraph that is not wrapped)
    if compare is not None:
        if recipe is not None or model is not None:
            raise click.UsageError("--compare takes two files of results and nothing else.")
        from openxclip.evaluation import compare_files

        click.echo(printable(str(compare_files(*compare)), lines=True))
        return
    if recipe is None or model is None:
        raise click.UsageError("give a recipe and --model, or --compare with two files of results.")
    from openxclip.errors import NotWrittenError
    from openxclip.evaluation import evaluate_over, evaluate_recipe
    from openxclip.evaluation.results import Results

    changes = with_hidden(changes, hidden)
    with progress("evaluating") as shown:
        how: dict[str, Any] = {
            "model": model, "out": out, "templates": templates, "use_prompts": not no_prompts, "device": device,
            "precision": precision, "on_progress": shown.at, "say": _say,
        }  # fmt: skip
        unwritten: NotWrittenError | None = None
        try:
            if over is None:
                done: Results | Summary = evaluate_recipe(recipe, *changes, **how)
            else:
                key, _, values = over.partition("=")
                each = [f"{key}={value.strip()}" for value in values.split(",") if value.strip()]
                done = evaluate_over(recipe, *changes, over=each, **how)
        except NotWrittenError as error:
            unwritten, done = error, cast("Results | Summary", error.result)
        except ValueError as error:
            raise click.UsageError(printable(str(error))) from error
    all_results = [done] if isinstance(done, Results) else list(done.results.values())
    unread = [f"could not be read: {one.sample}: {one.reason}" for results in all_results for one in results.errors]
    say_first(unread, rest=": results.json names all" if out is not None else ": results.json, by --out, names all")
    for line in str(done).splitlines():
        click.echo(printable(line))
    if unwritten is not None:
        raise unwritten
    if out is not None:
        click.echo(f"{printable(str(out))}: wrote the results.")


def _say(text: str) -> None:
    say(text.replace("\n", "\n  "), lines=True)
