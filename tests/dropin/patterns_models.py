"""Patterns of the model's own calls."""

from __future__ import annotations

from typing import Any

from registry import DIFFERS, pattern


@pattern("client")
def softmax_of_logits_per_video(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    inputs = given.processor(lib)(text=given.texts, videos=[given.arrays], return_tensors="pt", padding=True)
    return model(**inputs).logits_per_video.softmax(dim=1)


@pattern("outputs", outcome=DIFFERS, outcome_4=DIFFERS, reason="return_dict=False gives all fields, in 4.x's order")
def return_dict_false(lib: Any, given: Any) -> Any:
    return len(given.model(lib)(given.input_ids, given.pixel_values, return_dict=False))
