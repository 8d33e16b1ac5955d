"""Recipes: those of the package have the paper's settings, and errors name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from openxclip.recipes import RECIPES, read_recipe
from openxclip.recipes.recipe import FIELDS, RecipeError
from openxclip.training.model_card import recipe_lines


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_recipes_have_the_papers_settings() -> None:
    assert set(RECIPES) == {"few-shot", "kinetics", "my-videos", "zero-shot"}
    fully, few, zero = (read_recipe(name) for name in ("kinetics", "few-shot", "zero-shot"))
    assert [(r.epochs, r.lr, r.batch, r.frames) for r in (fully, few, zero)] == [
        (30, 8e-6, 256, 8), (50, 2e-6, 64, 32), (10, 8e-6, 256, 32),
    ]  # fmt: skip
    assert [r.minimum_lr for r in (fully, few, zero)] == pytest.approx([8e-8, 2e-8, 8e-8])
    assert [(r.clips, r.crops) for r in (fully, few, zero)] == [(4, 3), (1, 1), (1, 1)]
    for recipe in (fully, few, zero):
        assert recipe.betas == (0.9, 0.98)
        assert (recipe.eps, recipe.weight_decay, recipe.fresh_factor) == (1e-8, 0.001, 10)
        assert (recipe.warmup_epochs, recipe.towers, recipe.drop_path) == (5, "visual", 0)
        augment = recipe.augment
        assert (augment.mixup, augment.cutmix, augment.mix_switch, augment.label_smoothing) == (0.8, 1.0, 0.5, 0.1)
        assert (augment.jitter, augment.grey, augment.flip) == (0.8, 0.2, 0.5)
        assert (augment.brightness, augment.contrast, augment.saturation, augment.hue) == (0.4, 0.4, 0.2, 0.1)
        assert augment.crop_scales == (1, 0.875, 0.75, 0.66)
        assert recipe.template == "{}"


def test_changes_replace_values_of_the_file(tmp_path: Path) -> None:
    recipe = read_recipe("kinetics", ["data=/k400", "frames=16", "mixup=0", "betas=[0.8, 0.9]", "min_lr=1e-7"])
    assert recipe.dataset.data == Path("/k400")
    assert (recipe.frames, recipe.augment.mixup, recipe.betas, recipe.minimum_lr) == (16, 0, (0.8, 0.9), 1e-7)
    again = written(tmp_path, "\n".join(recipe_lines(recipe)))
    assert read_recipe(again) == recipe  # the recipe on the model card and in the folder can be read again


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: mini\nepoch: 3\n", r"mine.yaml, line 2: epoch is unknown: did you mean epochs\?"),
        ("model: mini\nqqq: 3\n", "line 2: qqq is unknown: there are model, frames"),
        ("model: mini\n\nlr: fast\n", "line 3: lr='fast': input should be a valid number"),
        ("model: mini\nlr: -1\n", "line 2: lr=-1: input should be greater than 0"),
        ("model: mini\nmixup: [1]\n", r"line 2: mixup=\[1\]: input should be a valid number"),
        ("model: mini\nepochs: 3\nwarmup_epochs: 5\n", "line 3: warmup_epochs=5.0: must be at most epochs=3"),
        ("model: mini\ntowers: all\n", "line 2: towers='all': input should be 'visual', 'text', 'both' or 'none'"),
        ("model: mini\ntemplate: a video\n", "line 2: template='a video': must have {} where"),
        ("model: mini\nlr: 1\nlr: 2\n", "line 3: lr is given a second time"),
        ("epochs: 3\n", "mine.yaml: model is missing: give it as model="),
        ("model: mini\nema: 0.9\nsharded: true\n", "line 2: ema=0.9: can't be used with sharded=true"),
        ("model: mini\nloss: pairs\nshots: 2\n", "line 3: shots=2: needs loss=classes"),
        ("model: [\n", "line 2: is not valid YAML"),
        ("- model\n", "must be lines of `key: value`"),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(written(tmp_path, text))


def test_invalid_changes_are_refused() -> None:
    with pytest.raises(RecipeError, match="'epochs': must be key=value"):
        read_recipe("kinetics", ["epochs"])
    with pytest.raises(RecipeError, match="epochs=none: epochs='none'"):
        read_recipe("kinetics", ["epochs=none"])
    with pytest.raises(RecipeError, match="frmaes=3: frmaes is unknown: did you mean frames"):
        read_recipe("kinetics", ["frmaes=3"])
    with pytest.raises(RecipeError, match=r"recipe 'kinetic': must be few-shot, .*: did you mean kinetics\?"):
        read_recipe("kinetic")
    with pytest.raises(RecipeError, match=r"nowhere.yaml: there is no such file"):
        read_recipe("nowhere.yaml")


def test_every_field_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    assert [field for field in FIELDS if f"`{field}`" not in text] == []
