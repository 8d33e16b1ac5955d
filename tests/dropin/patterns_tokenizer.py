"""Patterns of the tokenizer and of the batches that it returns."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import torch
import transformers
from patterns_processor import processor, small_tokenizer, tokenizer
from registry import DIFFERS, EQUAL, ONLY_HERE, ONLY_THERE, pattern

NOT_RETURNED = "overflowing pieces of texts are not returned"


@pattern("processor")
def padded_to_a_length(lib: Any, given: Any) -> Any:
    return dict(
        tokenizer(lib, given)(given.texts, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    )


@pattern("processor")
def truncated(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)(given.texts, truncation=True, max_length=4))


@pattern("processor")
def truncated_on_the_left(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given, truncation_side="left", padding_side="left")
    return dict(made(given.texts, truncation=True, padding=True, max_length=5))


@pattern("processor")
def one_text(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)("a dog", return_length=True, return_special_tokens_mask=True))


@pattern("processor")
def pair_of_texts(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)("a dog", "runs over the lawn", return_token_type_ids=True))


@pattern("processor")
def pairs_truncated(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    first, second = ["a b c d e", "a", "a b c d"], ["c d e f", "a b c d e f g", "c d e f"]
    ways = (True, "longest_first", "only_second", "only_first")
    return [dict(made(first[0], second[0], truncation=way, max_length=9)) for way in ways] + [
        dict(made(first, second, truncation=True, max_length=9, padding=True))
    ]


@pattern("processor")
def split_words(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)([["hello", "world"], ["dogs"]], is_split_into_words=True, padding=True))


@pattern("processor")
def split_words_of_one_text(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(["playing", "guitars"], is_split_into_words=True)
    return [batch["input_ids"], batch.word_ids()]


@pattern("processor")
def offsets(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(given.texts, return_offsets_mapping=True, padding=True, return_tensors="pt")
    return dict(batch)


@pattern("processor")
def tokens_of_a_batch(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(given.texts, padding=True)
    return [batch.tokens(1), batch.word_ids(1), batch.sequence_ids(0), batch.char_to_token(0, 3), batch.is_fast]


@pattern("processor")
def encodings_of_a_batch(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(given.texts)
    return [batch[0].ids, batch.encodings[1].tokens]


@pattern("processor")
def convert_to_tensors(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(given.texts, padding=True)
    return dict(batch.convert_to_tensors("pt"))


@pattern("processor")
def convert_to_tensors_of_one_text(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)("a dog").convert_to_tensors("pt", prepend_batch_axis=True))


@pattern("processor")
def pad(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return dict(made.pad(made(given.texts), padding=True, return_tensors="pt", pad_to_multiple_of=8))


@pattern("processor", outcome=ONLY_HERE)
def padded_by_a_collator(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    examples = [
        {"input_ids": made(text)["input_ids"], "labels": number, "pixel_values": torch.ones(2, 3)}
        for number, text in enumerate(given.texts)
    ]
    return dict(made.pad(examples, padding="max_length", max_length=12, return_tensors="pt"))


@pattern("training")
def data_collator_with_padding(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    collate = transformers.DataCollatorWithPadding(made, pad_to_multiple_of=4)
    return dict(collate([{**made(text), "labels": number} for number, text in enumerate(given.texts)]))


@pattern("training")
def default_data_collator(lib: Any, given: Any) -> Any:
    own = processor(lib, given)
    examples = [dict(own(text=[text], images=given.arrays, return_tensors="pt")) for text in ("a dog", "a cat")]
    return dict(transformers.default_data_collator([{k: v[0] for k, v in one.items()} for one in examples]))


@pattern("processor", outcome=ONLY_HERE, outcome_4=EQUAL)
def encode_plus(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given).encode_plus("a dog", max_length=6, padding="max_length", truncation=True))


@pattern("processor", outcome=ONLY_HERE, outcome_4=EQUAL)
def batch_encode_plus(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return [dict(made.batch_encode_plus(given.texts)), dict(made.batch_encode_plus([("a dog", "runs"), ("a", "b")]))]


@pattern("processor")
def encode(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return [made.encode("a dog"), made.encode("a dog", "runs"), made.encode("a dog", add_special_tokens=False)]


@pattern("processor")
def added_tokens(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    added = [made.add_tokens(["newtoken", "playing"]), made.add_tokens("<seen>", special_tokens=True)]
    ids = made("a newtoken <seen>")["input_ids"]
    return [added, len(made), made.vocab_size, ids, made.decode(ids, skip_special_tokens=True)]


@pattern("processor")
def added_tokens_saved_and_read(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    made.add_tokens(["newtoken"])
    made.save_pretrained(given.scratch)
    again = lib.AutoTokenizer.from_pretrained(given.scratch)
    return [len(again), again("a newtoken")["input_ids"]]


@pattern("processor")
def added_special_tokens(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    count = made.add_special_tokens({"additional_special_tokens": ["<video>"]})
    return [
        count,
        made("a <video>").tokens(),
        made.convert_tokens_to_ids("<video>"),
        "<video>" in made.all_special_tokens,
    ]


@pattern("processor")
def replaced_padding_token(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    made.add_special_tokens({"pad_token": "<pad>"})
    return [made.pad_token, made.pad_token_id, made(given.texts, padding=True)["input_ids"]]


@pattern("processor")
def padding_token_in_from_pretrained(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given, pad_token="!")
    return [made.pad_token, made.pad_token_id, made(given.texts, padding=True)["input_ids"]]


@pattern("processor")
def model_max_length_in_from_pretrained(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given, model_max_length=5)
    return [made.model_max_length, made(given.texts, truncation=True)["input_ids"], made.max_len_single_sentence]


@pattern("processor")
def padding_side_attribute(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    made.padding_side = "left"
    return dict(made(given.texts, padding=True))


@pattern("processor")
def padding_side_in_a_call(lib: Any, given: Any) -> Any:
    return dict(tokenizer(lib, given)(given.texts, padding=True, padding_side="left"))


@pattern("processor")
def special_tokens(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    return [
        [getattr(made, name) for name in names],
        [getattr(made, f"{name}_id") for name in names],
        made.special_tokens_map,
        sorted(made.all_special_ids),
        made.num_special_tokens_to_add(),
    ]


@pattern("processor")
def name_or_path(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return [made.name_or_path == str(given.folder), made.is_fast, list(made.model_input_names)]


@pattern("processor")
def vocabulary(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return [len(made.vocab), made.get_vocab()["dog</w>"], len(made), made.vocab_size, made.get_added_vocab()]


@pattern("processor", outcome=ONLY_HERE, outcome_4=EQUAL)
def build_inputs_with_special_tokens(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return [made.build_inputs_with_special_tokens([5, 6]), made.build_inputs_with_special_tokens([5], [6])]


@pattern("processor")
def mask_of_special_tokens(lib: Any, given: Any) -> Any:
    return tokenizer(lib, given).get_special_tokens_mask([49406, 320, 49407], already_has_special_tokens=True)


@pattern("processor")
def ids_and_tokens(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    tokens = made.tokenize("a dog runs")
    ids = made.convert_tokens_to_ids(tokens)
    return [
        tokens,
        ids,
        made.convert_ids_to_tokens(ids),
        made.convert_ids_to_tokens(made("a")["input_ids"], skip_special_tokens=True),
    ]


@pattern("processor")
def decoded_without_cleaning(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    ids = made("A dog's life, isn't it?")["input_ids"]
    return made.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pattern(
    "processor", outcome=DIFFERS, outcome_4=EQUAL, reason="spaces are cleaned up where asked, as in 4.x; 5.x ignores it"
)
def decoded_with_cleaning(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    ids = made("A dog's life, isn't it?")["input_ids"]
    return made.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)


@pattern("processor", outcome_4=ONLY_HERE)
def decode_several(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return made.decode(made(["a dog", "a cat"])["input_ids"], True)


@pattern(
    "processor", outcome=DIFFERS, reason="spaces between words are given back; transformers leaves its marks of them"
)
def convert_tokens_to_string(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return made.convert_tokens_to_string(made.tokenize("hello there"))


@pattern("processor", outcome=ONLY_THERE, reason=NOT_RETURNED)
def overflowing_tokens(lib: Any, given: Any) -> Any:
    made = tokenizer(lib, given)
    return dict(made(given.texts, truncation=True, max_length=4, stride=1, return_overflowing_tokens=True))


@pattern("processor")
def copied_and_pickled_tokenizer(lib: Any, given: Any) -> Any:
    made = small_tokenizer(lib, given)
    return [pickle.loads(pickle.dumps(made))("a dog")["input_ids"], copy.deepcopy(made)("a dog")["input_ids"]]


@pattern("processor")
def copied_and_pickled_batch(lib: Any, given: Any) -> Any:
    batch = tokenizer(lib, given)(given.texts, padding=True, return_tensors="pt")
    return [dict(pickle.loads(pickle.dumps(batch))), dict(copy.deepcopy(batch)), batch.copy()["input_ids"]]


@pattern("errors")
def tensors_of_unequal_rows(lib: Any, given: Any) -> Any:
    return tokenizer(lib, given)(given.texts, return_tensors="pt")


@pattern("errors")
def pad_without_ids(lib: Any, given: Any) -> Any:
    return tokenizer(lib, given).pad({"pixel_values": [1]})


@pattern("errors")
def missing_hub_id_of_a_tokenizer(lib: Any, given: Any) -> Any:
    return lib.AutoTokenizer.from_pretrained("nowhere/nothing", local_files_only=True)
