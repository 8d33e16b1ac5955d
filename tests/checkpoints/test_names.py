"""The table of names, in both directions."""

from __future__ import annotations

import pytest
import torch
from made_models import authors_model
from reference import hugging_face_state

from openxclip import XCLIPConfig, XCLIPModel
from openxclip.checkpoints import names


def to_hub(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the authors' tensors under the hub's names."""
    moves, unknown = names.moves_to_hub(tensors)
    assert not unknown
    return {name: part for move in moves for name, part in names.moved(tensors[move.source], move).items()}


def test_the_table_has_the_names_of_both_models() -> None:
    """Compared with the names of the reference model and its mapping, and with our model's names."""
    state = authors_model().state_dict()
    found, expected = to_hub(state), hugging_face_state(state)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with torch.device("meta"):
        ours = XCLIPModel(XCLIPConfig())
    patterns = {names._pattern(name)[0] for name in ours.state_dict()}
    assert patterns == {name for row in names.TABLE for name in row.hub}
    assert len({row.authors for row in names.TABLE}) == len(names.TABLE)


def test_translating_back_keeps_every_bit() -> None:
    state = authors_model().state_dict()
    back = names.to_authors(to_hub(state))
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(back[name].view(torch.int32), tensor.view(torch.int32)), name
        assert back[name].is_contiguous()


def test_split_tensors_are_views_with_separate_storages() -> None:
    state = {"transformer.resblocks.3.attn.in_proj_weight": torch.randn(12, 4)}
    parts = list(to_hub(state).values())
    whole = state["transformer.resblocks.3.attn.in_proj_weight"]
    assert [part.data_ptr() for part in parts] == [whole[i : i + 4].data_ptr() for i in (0, 4, 8)]
    assert all(part.untyped_storage().nbytes() == 64 for part in parts)
    del state, whole
    assert all(part.isfinite().all() for part in parts)


def test_names_of_clip() -> None:
    clip = {name for row in names.TABLE for name in row.hub if names.is_of_clip(name)}
    assert not any(word in name for name in clip for word in ("message", "mit", "prompt"))
    assert names.is_of_clip("vision_model.encoder.layers.11.self_attn.q_proj.weight")
    assert not names.is_of_clip("vision_model.encoder.layers.11.message_attn.q_proj.weight")


def test_unknown_names_are_refused() -> None:
    assert names.moves_to_hub(["head.weight"]) == ([], ["head.weight"])
    with pytest.raises(KeyError, match=r"head\.weight"):
        names.to_authors({"head.weight": torch.ones(1)})
