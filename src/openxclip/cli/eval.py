"""`openxclip eval`: evaluates a model by a recipe's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from openxclip.cli.options import Target, device_options, hidden_option
from openxclip.cli.progress import progress
from openxclip.cli.terminal import printable, say, say_first

if TYPE_CHECKING:
    from openxclip.evaluation.runs import Summary

_TIMELINE = "timeline"


class _Eval(click.Command):
    """The verb; if its first argument is `timeline`, the command of that name takes the others."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        words = [word for word in args if word not in ("-q", "--quiet")]
        if words[:1] != [_TIMELINE]:
            return super().make_context(info_name, args, parent, **extra)
        from openxclip.cli.eval_timeline import command as timeline

        if timeline.context_class is not self.context_class:  # the first time
            timeline.context_class = self.context_class
            quiet = next(parameter for parameter in self.params if parameter.name == "quiet")
            timeline.params.append(quiet)
        args.remove(_TIMELINE)
        return timeline.make_context(f"{info_name} {_TIMELINE}", args, parent, **extra)


@click.command("eval", cls=_Eval, no_args_is_help=True)
@click.argument("recipe", required=False)
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--model", help="The model to evaluate: a folder, a hub id, or mini.")
@click.option("--out", type=Target(), help="Folder for results.json, the confusion matrix and plots.")
@click.option(
    "--template",
    "templates",
    multiple=True,
    help="Text for each class, with {} for its name; several templates are averaged.  [default: the recipe's]",
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
@device_options
@hidden_option
def command(
    recipe: str | None,
    changes: tuple[str, ...],
    model: str | None,
    out: Path | None,
    no_prompts: bool,
    over: str | None,
    compare: tuple[Path, Path] | None,
    hidden: bool,
    **options: Any,
) -> None:
    """Evaluate a model with the data, clips and crops of a RECIPE.

    \b
      openxclip eval my-videos data=clips/ \\
          --model my-model --out results
      openxclip eval --compare a/results.json b/results.json

    `openxclip eval timeline --help` explains how to measure timelines against videos whose moments are annotated.
    """  # noqa: D301 (\b tells click not to wrap the paragraph)
    if compare is not None:
        if recipe is not None or model is not None:
            raise click.UsageError("--compare can't be combined with a recipe or --model.")
        from openxclip.evaluation import compare_files

        click.echo(printable(str(compare_files(*compare)), lines=True))
        return
    if recipe is None or model is None:
        raise click.UsageError("give a recipe and --model, or --compare with two results.json files.")
    from openxclip.errors import NotWrittenError
    from openxclip.evaluation import evaluate_over, evaluate_recipe
    from openxclip.evaluation.results import Results

    if hidden:
        changes += ("hidden=true",)
    with progress("evaluating") as display:
        options |= {"model": model, "out": out, "use_prompts": not no_prompts, "on_progress": display.at, "say": _say}
        write_error: NotWrittenError | None = None
        try:
            if over is None:
                result: Results | Summary = evaluate_recipe(recipe, *changes, **options)
            else:
                key, _, values = over.partition("=")
                over_changes = [f"{key}={value.strip()}" for value in values.split(",") if value.strip()]
                result = evaluate_over(recipe, *changes, over=over_changes, **options)
        except NotWrittenError as error:
            write_error, result = error, cast("Results | Summary", error.result)
        except ValueError as error:
            raise click.UsageError(printable(str(error))) from error
    all_results = [result] if isinstance(result, Results) else list(result.results.values())
    unread = [f"could not be read: {error.sample}: {error.reason}" for each in all_results for error in each.errors]
    say_first(unread, rest=": results.json lists all" if out is not None else ": --out writes all to results.json")
    for line in str(result).splitlines():
        click.echo(printable(line))
    if write_error is not None:
        raise write_error  # raised last, so that the results are printed
    if out is not None:
        click.echo(f"{printable(str(out))}: wrote the results.")


def _say(text: str) -> None:
    say(text.replace("\n", "\n  "), lines=True)
