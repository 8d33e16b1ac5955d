"""Token ids equal those of transformers' tokenizer, from every kind of folder and for any text."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from openxclip.errors import CheckpointError
from openxclip.processing import CLIPTokenizer
from openxclip.processing.vocab import clip_merges, clip_vocabulary

TEXTS = [
    "a photo of a cat",
    "playing sports",
    "",
    "   ",
    "it's I'LL don't 'Sx we've they're he'd I'm",
    "x<|startoftext|>y <|endoftext|> z",
    "<|STARTOFTEXT|> and <|EndOfText|>",
    "<|startoftext|",
    "literal</w>end </w>",
    "1234567890 3.14 ٣४ ½ ²",
    "é e\u0301 ﬁ ﬀ \u1e9e ß İ ı ǅ",
    "\x00a\x01b\x7f\x85c\x1cd",
    "tab\tline\nreturn\r\n\u2028\u3000\xa0wide",
    "\u200b\u200d\ufeff",
    "👩\u200d👩\u200d👧 🏳️\u200d🌈 👍🏽 🇩🇪",
    "日本語のテキスト 한국어 العربية हिन्दी ไทย",
    "\U0001f9d1\U000e0067\U0010ffff\ue000",
    "antidisestablishmentarianism" * 4,
    "!!!???...,,,;;; #$%^&*()_+-=[]{}|\\/<>~`@",
    "ApplyEyeMakeup HTTPServer snake_case",
]

# Pieces in which the pipeline's rules meet: contractions, special tokens, joiners, case, spaces, digits.
PIECES = st.sampled_from(
    [
        *"👩 7aÉ中ßİ\x00\u0301\u200d'",
        "\t\n",
        "the",
        "ing",
        "'s",
        "'LL",
        "<|",
        "|>",
        "</w>",
        "<|startoftext|>",
        "<|endoftext|>",
    ]
)
ANY_TEXT = st.one_of(
    st.text(max_size=60),
    st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=20).map("".join),
    st.text(alphabet=st.characters(codec="latin-1"), max_size=80),
)


def test_vocabulary_is_clips(tokenizer: CLIPTokenizer) -> None:
    merges = clip_merges()
    vocabulary = clip_vocabulary(merges)
    assert len(merges) == 48_894
    assert len(vocabulary) == len(tokenizer) == tokenizer.vocab_size == 49_408
    known = {
        "!": 0,
        "a</w>": 320,
        "photo</w>": 1125,
        "cat</w>": 2368,
        "<|startoftext|>": 49_406,
        "<|endoftext|>": 49_407,
    }
    assert {token: vocabulary[token] for token in known} == known
    assert tokenizer.get_vocab() == vocabulary
    assert tokenizer("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_tokenizers_of_clips_vocabulary_do_not_share_added_tokens() -> None:
    first, second = CLIPTokenizer(), CLIPTokenizer()
    first.add_tokens(["zebrafinch"])
    assert first("zebrafinch").input_ids == [49406, 49408, 49407]
    assert len(first) == 49_409
    assert "zebrafinch" not in second.get_vocab()
    assert len(second) == len(CLIPTokenizer()) == 49_408
    assert CLIPTokenizer(unk_token="[UNK]").unk_token_id == 49_408


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT)
@example(text=TEXTS[3])
def test_any_text_has_transformers_ids(tokenizer: CLIPTokenizer, theirs: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids == theirs.tokenizer(text)["input_ids"]
    assert tokenizer.tokenize(text) == theirs.tokenizer.tokenize(text)
    for skip in (False, True):
        assert tokenizer.decode(ids, skip_special_tokens=skip) == theirs.tokenizer.decode(ids, skip_special_tokens=skip)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(ANY_TEXT, min_size=1, max_size=4),
    padding=st.sampled_from([False, True, "longest", "max_length"]),
    truncation=st.sampled_from([None, False, True]),
    max_length=st.sampled_from([None, 2, 5, 77]),
    add_special_tokens=st.booleans(),
)
def test_batches_are_as_in_transformers(
    tokenizer: CLIPTokenizer, theirs: Any, texts: list[str], **options: Any
) -> None:
    if options["padding"] is True and options["max_length"] and not options["truncation"]:
        options["max_length"] = None  # transformers warns that it is ignored
    ours, reference = tokenizer(texts, **options), theirs.tokenizer(texts, **options)
    assert dict(ours) == dict(reference)


@pytest.mark.parametrize("kind", ["ours", "theirs", "hub", "hub without json", "vocab and merges", "tokenizer.json"])
def test_folders_of_every_kind(
    kind: str, ours_folder: Path, theirs_folder: Path, hub_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer
    from transformers import CLIPTokenizerFast as TheirFast

    folder = {"ours": ours_folder, "theirs": theirs_folder}.get(kind, hub_folder)
    dropped = {
        "hub without json": ["tokenizer.json"],
        "vocab and merges": ["tokenizer.json", "tokenizer_config.json"],
        "tokenizer.json": ["vocab.json", "merges.txt", "tokenizer_config.json"],
    }.get(kind, [])
    for path in folder.iterdir():
        if path.name not in dropped:
            shutil.copy(path, tmp_path)
    ours = CLIPTokenizer.from_pretrained(tmp_path)
    for reference in (AutoTokenizer.from_pretrained(tmp_path), TheirFast.from_pretrained(tmp_path)):
        assert ours(TEXTS)["input_ids"] == reference(TEXTS)["input_ids"]
        assert ours.bos_token_id == reference.bos_token_id
        assert ours.pad_token == reference.pad_token


@pytest.mark.parametrize(
    "kind", ["shipped", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("theirs", "hub"))]
)
def test_saved_tokenizer_loads_in_transformers(
    kind: str, theirs_folder: Path, hub_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    source = {"theirs": theirs_folder, "hub": hub_folder}.get(kind)
    ours = CLIPTokenizer() if source is None else CLIPTokenizer.from_pretrained(source)
    files = ours.save_pretrained(tmp_path)
    assert {Path(file).name for file in files} == {
        "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"
    }  # fmt: skip
    (tmp_path / "config.json").write_text('{"model_type": "xclip"}', encoding="utf-8")
    reference, again = AutoTokenizer.from_pretrained(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)
    assert reference.model_max_length == again.model_max_length == 77
    assert ours(TEXTS)["input_ids"] == reference(TEXTS)["input_ids"] == again(TEXTS)["input_ids"]
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):  # either form alone is enough
        assert (tmp_path / name).stat().st_size > 100_000
    (tmp_path / "tokenizer.json").unlink()
    assert CLIPTokenizer.from_pretrained(tmp_path)("a photo")["input_ids"] == ours("a photo")["input_ids"]


def test_unknown_settings_are_kept(hub_folder: Path, tmp_path: Path) -> None:
    CLIPTokenizer.from_pretrained(hub_folder).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved["errors"] == "replace"
    assert saved["do_lower_case"] is True


def test_truncation_keeps_end_of_text(tokenizer: CLIPTokenizer) -> None:
    ids = tokenizer("cat " * 100, truncation=True)["input_ids"]
    assert len(ids) == 77
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert len(tokenizer("cat " * 100)["input_ids"]) == 102


def test_folder_without_a_limit_has_77(theirs_folder: Path, tmp_path: Path) -> None:
    shutil.copy(theirs_folder / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}), encoding="utf-8")
    assert CLIPTokenizer.from_pretrained(tmp_path).model_max_length == 77


def test_tensors(tokenizer: CLIPTokenizer) -> None:
    batch = tokenizer(["a", "a cat sleeps"], padding=True, return_tensors="pt")
    assert batch.input_ids.dtype == batch.attention_mask.dtype == torch.int64
    assert batch.input_ids.shape == (2, 5)
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert (batch.input_ids[0, 2:] == tokenizer.pad_token_id).all()
    array = tokenizer("a", return_tensors="np", return_attention_mask=False)
    assert isinstance(array.input_ids, np.ndarray)
    assert array.input_ids.shape == (1, 3)
    assert list(array) == ["input_ids"]
    assert tokenizer(["a b"], padding=True, pad_to_multiple_of=8, return_tensors="pt").input_ids.shape == (1, 8)


def test_decoding_reverses_encoding(tokenizer: CLIPTokenizer) -> None:
    ids = tokenizer.encode("Eating spaghetti!")
    assert tokenizer.decode(torch.tensor(ids), skip_special_tokens=True) == "eating spaghetti !"
    assert tokenizer.batch_decode(np.array([ids, ids]), skip_special_tokens=True) == ["eating spaghetti !"] * 2
    assert tokenizer.decode(320) == "a"
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "<|startoftext|>",
        *tokenizer.tokenize("Eating spaghetti!"),
        "<|endoftext|>",
    ]
    assert tokenizer.convert_tokens_to_ids(["a</w>", "no such token"]) == [320, tokenizer.unk_token_id]
    assert tokenizer.convert_ids_to_tokens(320) == "a</w>"
    assert tokenizer.all_special_ids == [49_406, 49_407]


def test_survives_pickling(tokenizer: CLIPTokenizer) -> None:
    assert pickle.loads(pickle.dumps(tokenizer))(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t("a\ud800b"), ValueError, "surrogate"),
        (lambda t: t(["fine", 3]), TypeError, "text 1 is a int"),
        (lambda t: t(None), TypeError, "NoneType"),
        (lambda t: t([]), ValueError, "empty"),
        (lambda t: t("a", truncation=True, max_length=1), ValueError, "max_length=1"),
        (lambda t: t("a", truncation="sideways"), ValueError, "sideways"),
        (lambda t: t("a", padding="some"), ValueError, "some"),
        (lambda t: t("a", return_tensors="tf"), ValueError, "tf"),
        (lambda t: t("a", colour=1), TypeError, "colour"),
        (lambda t: t(["a", "a b"], return_tensors="pt"), ValueError, "padding=True"),
        (lambda t: CLIPTokenizer(vocab_file="vocab.json"), ValueError, "merges_file"),
    ],
)
def test_mistakes(tokenizer: CLIPTokenizer, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(tokenizer)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer.json": "{"}, r"tokenizer\.json"),
        ({"vocab.json": "{}"}, r"no merges\.txt"),
        ({"vocab.json": "[]", "merges.txt": ""}, "JSON object"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "#version: 0.2\na b c\n"}, "not a pair"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "#version: 0.2\na b\n"}, "fit each other"),
        ({"tokenizer_config.json": "nothing"}, r"tokenizer_config\.json"),
    ],
)
def test_broken_folders(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        CLIPTokenizer.from_pretrained(tmp_path)


def test_empty_folder_has_clips_vocabulary(tmp_path: Path, tokenizer: CLIPTokenizer) -> None:
    assert CLIPTokenizer.from_pretrained(tmp_path).get_vocab() == tokenizer.get_vocab()


def test_padding_on_the_left() -> None:
    tokenizer = CLIPTokenizer()
    right = tokenizer(["a", "a b c"], padding=True)
    tokenizer.padding_side = "left"
    left = tokenizer(["a", "a b c"], padding=True)
    assert left["attention_mask"] == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert left["input_ids"][0][2:] == right["input_ids"][0][:3]
    assert left["input_ids"][1] == right["input_ids"][1]
