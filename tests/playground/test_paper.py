"""The paper in miniature: its world, its methods, its runs and its report."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import paper
import paper_methods
import paper_report
import paper_runs
import paper_world
from paper_runs import Run

pytestmark = pytest.mark.slow  # a script that is run by hand


@pytest.fixture(autouse=True)
def one_thread():
    """Override the fixture for all tests: results of the shared run and of single tests must agree to the bit."""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a folder with a barely trained CLIP, for a world of a few clips."""
    few = {}
    for name, question in paper_world.QUESTIONS.items():
        few[name] = paper_world.Question(question.shown[:6], question.classes, question.hard, question.seed)
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"CLIP_STEPS": 3, "CLIP_BATCH": 4, "BATCH": 4, "QUESTIONS": few}.items():
            patch.setattr(paper_runs, name, value)
        paper_runs._test_clips.cache_clear()
        paper_runs.train_clip(folder)
        yield folder
        paper_runs._test_clips.cache_clear()


def test_unseen_questions_are_not_in_the_training_clips():
    trained = set(paper_world.CLASSES)
    assert len(trained) == len(paper_world.CLASSES) == 84 + 72
    assert trained.isdisjoint(paper_world.PAIRS)
    assert {clip.thing for clip in paper_world.UNSEEN_THINGS}.isdisjoint({clip.thing for clip in trained})
    for pair in paper_world.PAIRS:  # both words of an unseen pair were trained, and its reverse is unseen too
        assert pair.thing in {clip.thing for clip in trained}
        assert pair.action in {clip.action for clip in trained}
        assert paper_world.reverse_of(pair) in paper_world.PAIRS
    seeds = {question.seed + 10 for question in paper_world.QUESTIONS.values()} | {20}
    assert not seeds & {100 + seed for seed in paper.SEEDS}


def test_a_seed_determines_the_clips_of_a_class():
    shown = paper_world.ALONE[:3] + paper_world.TWO[:2]
    clips = paper_world.render(shown, 7, num_frames=4, hard=0.5)
    assert clips.shape == (5, 4, 3, 36, 36)
    assert torch.equal(clips, paper_world.render(shown, 7, num_frames=4, hard=0.5))
    assert paper_world.cut(clips).shape[-2:] == (32, 32)
    assert torch.equal(paper_world.cut(clips, 4, 0), clips[..., :32, 4:])


@pytest.mark.parametrize("method", paper_methods.METHODS)
def test_only_mit_depends_on_the_order_of_frames(method):
    torch.manual_seed(0)
    model = paper_world.fresh_model(num_frames=4).eval()
    paper_methods.prepare(model, method)
    torch.nn.init.normal_(model.mit.position_embedding)
    pixels = torch.randn(2, 4, 3, 32, 32)
    ids = paper_world.words().ids([shown.caption for shown in paper_world.CLASSES[:5]])
    with torch.no_grad():
        text = paper_methods.text_features(model, method, ids)
        forward = paper_methods.logits(model, method, pixels, text)
        backward = paper_methods.logits(model, method, pixels.flip(1), text)
    assert forward.shape == (2, 5)
    depends_on_order = (forward - backward).abs().max() > 1e-3
    assert depends_on_order == (method in ("mit", "vectors", "x-clip"))


def test_learned_vectors_follow_the_start_token():
    torch.manual_seed(0)
    model = paper_world.fresh_model(num_frames=4).eval()
    paper_methods.prepare(model, "vectors")
    ids = paper_world.words().ids(["a cat moves left", "a cat"])
    table = model.text_model.embeddings.token_embedding
    with torch.no_grad():  # vectors of words give the features of the text with these words
        model.prompts_vectors.copy_(table(ids[0, 1:5]))
        written = torch.cat([ids[:, :1], ids[:1, 1:5].expand(2, -1), ids[:, 1:]], dim=1)
        expected = model.get_text_features(written)
        torch.testing.assert_close(paper_methods.text_features(model, "vectors", ids), expected)


@pytest.mark.parametrize("method", paper_methods.METHODS)
def test_a_finished_run_answers_every_question_and_is_not_repeated(method, small, monkeypatch):
    run = Run(method, 1, shots=1, steps=2)
    result = paper_runs.do(run, small)
    assert set(result["answers"]) == set(paper_runs.QUESTIONS)
    assert "order" in result["answers"]["alone"]
    assert "roles" in result["answers"]["two"]
    assert all(0 <= share <= 1 for answer in result["answers"].values() for share in answer.values())
    monkeypatch.setattr(paper_runs, "train", lambda *_: pytest.fail("it was trained again"))
    assert paper_runs.do(run, small) == result


@pytest.mark.parametrize("towers", ["both", "visual", "text", "none"])
def test_only_the_chosen_towers_are_trained(towers, small):
    run = Run("x-clip", 1, shots=1, steps=3, towers=towers)
    model = paper_runs.start(run, small / "clip.pt")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    paper_runs.train(run, model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("mit.") for name in changed)
    assert any(name.startswith("prompts_") for name in changed)
    assert ("text_projection.weight" in changed) == (towers in ("both", "text"))
    assert ("vision_model.post_layernorm.weight" in changed) == (towers in ("both", "visual"))


def test_interrupted_training_of_clip_resumes_to_the_same_weights(small, tmp_path, monkeypatch):
    whole = torch.load(small / "clip.pt")
    monkeypatch.setattr(paper_runs, "SAVED_EVERY_S", -1.0)
    loss = paper_runs.stills_loss

    def fails(*args, **options):
        if args[4] == 2:
            raise KeyboardInterrupt
        return loss(*args, **options)

    monkeypatch.setattr(paper_runs, "stills_loss", fails)
    with pytest.raises(KeyboardInterrupt):
        paper_runs.train_clip(tmp_path)
    monkeypatch.setattr(paper_runs, "stills_loss", loss)
    again = torch.load(paper_runs.train_clip(tmp_path))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.pt"]


def test_the_plan_has_every_comparison_once_for_each_seed():
    runs = [run for seed in paper.SEEDS for run in paper.planned(seed)]
    assert len({run.name for run in runs}) == len(runs) == 90
    assert len(paper.SEEDS) >= 3
    assert {run.method for run in runs} == set(paper_methods.METHODS)


def test_the_report_covers_finished_runs(tmp_path):
    runs = [Run("x-clip", 1), Run("x-clip", 2), Run("mean", 1)]
    for run, share in zip(runs, (0.8, 0.9, 0.3), strict=True):
        answers = {"alone": {"top-1": share, "order": share}}
        content = {"answers": answers | {"two": {}}, "seconds": 3600}
        results = {name: answers["alone"] | {"roles": 0.5} for name in (*paper_world.QUESTIONS, "views 1x1")}
        content["answers"] = results | {f"views {c}x{k}": {"top-1": share} for c, k in paper_runs.VIEWS}
        (tmp_path / f"{run.name}.json").write_text(json.dumps(content))
    report = paper_report.write_report(tmp_path, runs).read_text()
    assert "| X-CLIP (+ prompts) | 85.0 ± 7.1 |" in report
    assert "| mean pooling | 30.0 |" in report
    assert "| late pooling | – |" in report
    assert "3.0 hours" in report
    assert (tmp_path / "few_shot.png").stat().st_size > 1000
