"""Recipes: everything that decides a training or an evaluation, in YAML."""

from openxclip.recipes.recipe import RECIPES, Recipe, read_recipe

__all__ = ["RECIPES", "Recipe", "read_recipe"]
