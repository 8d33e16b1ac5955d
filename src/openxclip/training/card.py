"""The model card of a training's result."""

from __future__ import annotations

from openxclip.training.data import Dataset
from openxclip.training.recipe import Recipe
from openxclip.training.results import Results


def card(recipe: Recipe, dataset: Dataset, results: Results | None, *, steps: int, unreadable: int) -> str:
    """README.md of the folder: recipe, data, protocol, results."""
    lines = [
        "---", "library_name: openxclip", "pipeline_tag: video-classification", "tags:", "- x-clip", "---", "",
        f"# X-CLIP trained on {dataset.name}", "",
        f"Started from `{recipe.model}`; {steps} steps of {recipe.batch} clips by `openxclip train`.", "",
        "## Data", "",
        f"{len(dataset.samples)} clips of {len(dataset.classes)} classes"
        if dataset.classes else f"{len(dataset.samples)} clips with captions",
        f"(SHA-256 of the list `{dataset.hash()[:16]}…`); {unreadable} of them could not be read.", "",
    ]  # fmt: skip
    if dataset.classes:
        lines += ["Classes: " + ", ".join(dataset.classes), ""]
    lines += ["## Results", ""]
    if results is None:
        lines += ["It was judged by no other clips: the recipe names none.", ""]
    else:
        protocol = results.protocol
        lines += [
            f"On {results.dataset} ({len(results.predictions)} videos read, {len(results.errors)} not; "
            f"{protocol.num_clips} x {protocol.num_crops} views of {protocol.num_frames} frames):", "",
            str(results), "",
        ]  # fmt: skip
    lines += ["## Recipe", "", "```yaml", *recipe_lines(recipe), "```", ""]
    return "\n".join(lines)


def recipe_lines(recipe: Recipe) -> list[str]:
    """The recipe as YAML that `read_recipe` reads."""
    import yaml

    values = recipe.model_dump(mode="json", exclude_none=True)
    flat = {key: value for key, value in values.items() if not isinstance(value, dict)}
    for part in values.values():
        if isinstance(part, dict):
            flat |= part
    text: str = yaml.safe_dump(flat, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text.splitlines()
