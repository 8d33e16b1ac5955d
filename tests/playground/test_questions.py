"""The questions: fixed lists that show what they say, and answers that are counted right."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest
import torch

from openxclip.playground import ACTION_NAMES, ACTIONS, ORDER_PAIRS, UNSEEN_THINGS, is_unseen_pair
from openxclip.playground import questions as module
from openxclip.playground.questions import Shown, ask, draw_lists, questions

# Whoever changes the questions makes every figure of before incomparable: new ones get a new file.
DIGEST = "23578a63db6d6e6b70ef9a5d70c5f99dfe2f1e2e7ad5b17664c1ff54c3918108"


def test_the_questions_never_change():
    content = (Path(module.__file__).parent / "questions.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGEST


def test_how_the_questions_were_drawn():
    assert {name: [list(one) for one in shown] for name, shown in questions().items()} == draw_lists()


def test_the_lists_show_what_they_say():
    lists = questions()
    for name, shown in lists.items():
        for one in shown:
            thing, action, _ = one.indices()
            assert bool(one.other) == ACTIONS[action].has_other
            assert one.other != one.thing
            assert one.other not in UNSEEN_THINGS
            assert (one.thing in UNSEEN_THINGS) == (name == "unseen_things")
            if name != "unseen_things":
                assert is_unseen_pair(thing, action) == (name == "unseen_pairs")
    for name in ("seen_pairs", "unseen_pairs", "unseen_things"):
        assert set(Counter(one.action for one in lists[name]).values()) == {12}
    assert {one.action for one in lists["order_pairs"]} == {name for pair in ORDER_PAIRS for name in pair}
    assert all(ACTIONS[ACTION_NAMES.index(one.action)].tells_roles for one in lists["roles"])
    assert len({one.caption for one in lists["captions"]}) == 200


def test_who_knows_everything_is_always_right_and_who_knows_nothing_is_at_chance(monkeypatch):
    few = {name: shown[:: max(1, len(shown) // 40)] for name, shown in questions().items()}
    monkeypatch.setattr(module, "questions", lambda: few)
    asked = iter([shown for name in module.LISTS for shown in few[name]])
    shown_now: list[Shown] = []

    def clips_of(shown, seed, *, size):
        shown_now[:] = shown
        return torch.zeros(len(shown), 1)

    monkeypatch.setattr(module, "clips_of", clips_of)

    def knows(frames, sentences):
        def fits(one, sentence):
            said = {one.caption, f"something {one.caption.split(one.thing, 1)[1].strip()}", f"something {one.action}"}
            said |= {f"something {one.action} something", f"a {one.thing}", f"an {one.thing}"}
            return float(sentence in said)

        assert len(frames) == len(shown_now)
        return torch.tensor([[fits(one, sentence) for sentence in sentences] for one in shown_now])

    right = ask(knows, 0)
    assert len(right) >= 8 + len(ACTIONS)
    assert {question: share for question, share in right.items() if share != 1 and share == share} == {}
    wrong = ask(lambda frames, sentences: torch.zeros(len(frames), len(sentences)), 0)
    assert wrong["order pairs"] == wrong["who did what"] == 0.5  # ties are no answers
    assert next(asked) in few["seen_pairs"]


def test_clips_look_different_for_another_seed_and_show_the_same():
    shown = questions()["roles"][:2]
    one, again, other = (module.clips_of(shown, seed, size=32) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", module.LISTS)
def test_every_list_can_be_rendered(name):
    assert module.clips_of(questions()[name][-3:], 0, size=16).shape == (3, 8, 3, 16, 16)
