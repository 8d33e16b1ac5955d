"""The questions: their lists are fixed, and answers are counted correctly."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from openxclip.playground import (
    ACTION_NAMES,
    ACTIONS,
    ORDER_PAIRS,
    SEEN_THINGS,
    THINGS,
    UNSEEN_THINGS,
    is_unseen_pair,
)
from openxclip.playground import questions as module
from openxclip.playground.captions import Scene
from openxclip.playground.clips import pairs_of
from openxclip.playground.questions import ask, questions
from openxclip.playground.world import REVERSES

# A change of the questions would make earlier results incomparable: new questions get a new file.
DIGEST = "23578a63db6d6e6b70ef9a5d70c5f99dfe2f1e2e7ad5b17664c1ff54c3918108"


def test_the_questions_never_change():
    content = (Path(module.__file__).parent / "questions.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGEST


def draw_lists(seed: int = 20261124) -> dict[str, list[list[str]]]:
    """Draw the lists as they were drawn for `questions.json`."""
    generator = torch.Generator().manual_seed(seed)

    def draw(pairs: Tensor, action: int, number: int) -> list[list[str]]:
        things = pairs[pairs[:, 1] == action, 0]
        drawn = []
        for thing in things[torch.randperm(len(things), generator=generator)[:number]].tolist():
            other = int(torch.randint(0, len(SEEN_THINGS) - 1, (1,), generator=generator))
            other += other >= thing
            has_other = ACTIONS[action].has_other
            drawn.append([THINGS[thing], ACTION_NAMES[action], THINGS[other] if has_other else ""])
        return drawn

    everything = range(len(ACTIONS))
    ordered = [a for a in everything if REVERSES[a] != a]
    with_roles = [a for a in everything if ACTIONS[a].tells_roles]
    seen = pairs_of("seen")
    lists: dict[str, list[list[str]]] = {}
    for name, split in (("seen_pairs", "seen"), ("unseen_pairs", "unseen pairs"), ("unseen_things", "unseen things")):
        lists[name] = [shown for a in everything for shown in draw(pairs_of(split), a, 12)]
    lists["order_pairs"] = [shown for a in ordered for shown in draw(seen, a, 24)]
    lists["roles"] = [shown for a in with_roles for shown in draw(seen, a, 40)]
    several = [shown for a in everything for shown in draw(seen, a, 7)]
    lists["captions"] = [several[i] for i in torch.randperm(len(several), generator=generator)[:200].tolist()]
    return lists


def test_how_the_questions_were_drawn():
    assert {name: [list(clip) for clip in shown] for name, shown in questions().items()} == draw_lists()


def test_the_lists_show_what_their_names_say():
    lists = questions()
    for name, shown in lists.items():
        for clip in shown:
            thing, action, _ = clip.indices()
            assert bool(clip.other) == ACTIONS[action].has_other
            assert clip.other != clip.thing
            assert clip.other not in UNSEEN_THINGS
            assert (clip.thing in UNSEEN_THINGS) == (name == "unseen_things")
            if name != "unseen_things":
                assert is_unseen_pair(thing, action) == (name == "unseen_pairs")
    for name in ("seen_pairs", "unseen_pairs", "unseen_things"):
        assert set(Counter(clip.action for clip in lists[name]).values()) == {12}
    assert {clip.action for clip in lists["order_pairs"]} == {name for pair in ORDER_PAIRS for name in pair}
    assert all(ACTIONS[ACTION_NAMES.index(clip.action)].tells_roles for clip in lists["roles"])
    assert len({clip.caption for clip in lists["captions"]}) == 200


def test_shares_of_a_perfect_and_of_an_ignorant_model(monkeypatch):
    few = {name: shown[:: max(1, len(shown) // 40)] for name, shown in questions().items()}
    monkeypatch.setattr(module, "questions", lambda: few)
    asked = iter([shown for name in module.LISTS for shown in few[name]])
    scenes_now: list[Scene] = []

    def render_scenes(shown, seed, *, size):
        scenes_now[:] = shown
        return torch.zeros(len(shown), 1)

    monkeypatch.setattr(module, "render_scenes", render_scenes)

    def perfect(frames, sentences):
        def fits(clip, sentence):
            ending = clip.caption.split(clip.thing, 1)[1].strip()
            right = {clip.caption, f"something {ending}", f"something {clip.action}"}
            right |= {f"something {clip.action} something", f"a {clip.thing}", f"an {clip.thing}"}
            return float(sentence in right)

        assert len(frames) == len(scenes_now)
        return torch.tensor([[fits(clip, sentence) for sentence in sentences] for clip in scenes_now])

    right = ask(perfect, 0)
    assert len(right) >= 8 + len(ACTIONS)
    assert {question: share for question, share in right.items() if share != 1 and share == share} == {}
    wrong = ask(lambda frames, sentences: torch.zeros(len(frames), len(sentences)), 0)
    assert wrong["order pairs"] == wrong["who did what"] == 0.5  # ties count half
    assert next(asked) in few["seen_pairs"]


def test_a_seed_determines_how_clips_look():
    shown = questions()["roles"][:2]
    first, again, other = (module.render_scenes(shown, seed, size=32) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", module.LISTS)
def test_every_list_can_be_rendered(name):
    assert module.render_scenes(questions()[name][-3:], 0, size=16).shape == (3, 8, 3, 16, 16)
