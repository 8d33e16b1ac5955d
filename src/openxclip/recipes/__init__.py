"""Recipes: YAML files that define a training and its evaluation."""

from openxclip.recipes.recipe import RECIPES, Recipe, read_recipe

__all__ = ["RECIPES", "Recipe", "read_recipe"]
