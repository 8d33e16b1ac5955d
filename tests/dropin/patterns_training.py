"""Patterns of training, with transformers' Trainer and with custom loops."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers
from registry import ONLY_HERE, pattern
from torch.utils.data import Dataset


class Clips(Dataset[dict[str, Any]]):
    """Eight videos and their numbers."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(number)
        return {"pixel_values": torch.randn(4, 3, 32, 32, generator=generator), "number": number}


def captioned(given: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Collate a batch in which text i belongs to video i."""
    shift = torch.tensor([0, 1, 1, 0])
    ids = torch.stack([given.input_ids[0] + row["number"] * shift for row in rows])
    pixels = torch.stack([row["pixel_values"] for row in rows])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels, "return_loss": True}


def trainer_of(lib: Any, given: Any, model: Any = None, **options: Any) -> Any:
    """A Trainer on the CPU that takes a few steps."""
    model = given.model(lib) if model is None else model
    arguments = lib.TrainingArguments(
        str(given.scratch / "trained"),
        **{
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "max_steps": 2,
            "learning_rate": 1e-3,
            "report_to": [],
            "remove_unused_columns": False,
            "use_cpu": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
            "seed": 0,
            **options,
        },
    )
    return lib.Trainer(
        model, arguments, train_dataset=Clips(), eval_dataset=Clips(), data_collator=partial(captioned, given)
    )


def losses_of(trainer: Any, name: str = "loss") -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pattern("training", tolerance=1e-4)
def trainer_trains(lib: Any, given: Any) -> Any:
    trainer = trainer_of(lib, given)
    trainer.train()
    return losses_of(trainer)


@pattern("training", tolerance=1e-4)
def trainer_accumulates(lib: Any, given: Any) -> Any:
    trainer = trainer_of(lib, given, gradient_accumulation_steps=2, per_device_train_batch_size=2)
    trainer.train()
    return losses_of(trainer)


@pattern("training", tolerance=1e-4)
def trainer_with_gradient_checkpointing(lib: Any, given: Any) -> Any:
    options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    trainer = trainer_of(lib, given, **options)
    trainer.train()
    return losses_of(trainer)


@pattern("training")
def trainer_evaluates(lib: Any, given: Any) -> Any:
    return trainer_of(lib, given).evaluate()["eval_loss"]


@pattern("training", tolerance=1e-4)
def trainer_evaluates_while_it_trains(lib: Any, given: Any) -> Any:
    trainer = trainer_of(lib, given, eval_strategy="steps", eval_steps=1)
    trainer.train()
    return losses_of(trainer, "eval_loss")


@pattern("training")
def trainer_predicts(lib: Any, given: Any) -> Any:
    found = trainer_of(lib, given).predict(Clips()).predictions
    return sorted(list(one.shape) for one in found if hasattr(one, "shape"))[:2]


@pattern("training")
def trainer_saves_a_folder(lib: Any, given: Any) -> Any:
    trainer = trainer_of(lib, given)
    trainer.save_model(str(given.scratch / "saved"))
    model = lib.XCLIPModel.from_pretrained(given.scratch / "saved")
    return [sorted(path.name for path in (given.scratch / "saved").iterdir()), model.logit_scale]


@pattern("training", tolerance=1e-4)
def trainer_saves_checkpoints(lib: Any, given: Any) -> Any:
    trainer = trainer_of(lib, given, save_strategy="steps", save_steps=1)
    trainer.train()
    model = lib.XCLIPModel.from_pretrained(given.scratch / "trained" / "checkpoint-1")
    return model.logit_scale


@pattern("training", tolerance=1e-4)
def trainer_resumes(lib: Any, given: Any) -> Any:
    trainer_of(lib, given, save_strategy="steps", save_steps=1, max_steps=1).train()
    trainer = trainer_of(lib, given, save_strategy="steps", save_steps=1)
    trainer.train(resume_from_checkpoint=True)
    return losses_of(trainer)


@pattern("training", tolerance=1e-4)
def trainer_loads_the_best_model(lib: Any, given: Any) -> Any:
    options = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}
    trainer = trainer_of(lib, given, **options, eval_steps=1, save_steps=1)
    trainer.train()
    return [trainer.state.best_metric, trainer.model.logit_scale]


@pattern("training", outcome=ONLY_HERE)
def trainer_with_class_labels(lib: Any, given: Any) -> Any:
    trainer = trainer_of(lib, given)
    ids = given.input_ids

    def labelled(rows: list[dict[str, Any]]) -> dict[str, Any]:
        pixels = torch.stack([row["pixel_values"] for row in rows])
        return {"input_ids": ids, "pixel_values": pixels, "labels": torch.tensor([row["number"] % 3 for row in rows])}

    trainer.data_collator = labelled
    trainer.train()
    return [trainer.evaluate()["eval_loss"], len(losses_of(trainer))]


@pattern("training", outcome_4=ONLY_HERE, tolerance=1e-4)
def trainer_with_a_custom_model(lib: Any, given: Any) -> Any:
    class Classifier(lib.XCLIPPreTrainedModel):
        config_class = lib.XCLIPConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.x_clip = lib.XCLIPModel(config)
            self.head = torch.nn.Linear(config.projection_dim, 2)
            torch.nn.init.zeros_(self.head.weight)
            torch.nn.init.zeros_(self.head.bias)

        def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
            found = self.x_clip.get_video_features(pixel_values)
            logits = self.head(found if isinstance(found, torch.Tensor) else found.pooler_output)
            loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits}

    model = Classifier(lib.XCLIPConfig.from_pretrained(given.folder))
    model.x_clip.load_state_dict(given.model(lib).state_dict())
    trainer = trainer_of(lib, given, model)

    def labelled(rows: list[dict[str, Any]]) -> dict[str, Any]:
        pixels = torch.stack([row["pixel_values"] for row in rows])
        return {"pixel_values": pixels, "labels": torch.tensor([row["number"] % 2 for row in rows])}

    trainer.data_collator = labelled
    trainer.train()
    found = trainer.predict(Clips())
    return {"losses": losses_of(trainer), "shape": list(found.predictions.shape), "labels": found.label_ids}


@pattern("training", tolerance=1e-4)
def trainer_with_frozen_towers(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    model.text_model.requires_grad_(False)
    model.vision_model.requires_grad_(False)
    trainer = trainer_of(lib, given, model)
    trainer.train()
    return [losses_of(trainer), trainer.get_num_trainable_parameters()]


@pattern("training")
def collator_that_pads(lib: Any, given: Any) -> Any:
    tokenizer = lib.AutoTokenizer.from_pretrained(given.folder)
    rows = [{"input_ids": tokenizer(text)["input_ids"], "labels": number} for number, text in enumerate(given.texts)]
    batch = transformers.DataCollatorWithPadding(tokenizer)(rows)
    return {name: value for name, value in batch.items() if name != "attention_mask"}


@pattern("training", tolerance=1e-4)
def trainer_with_a_processor(lib: Any, given: Any) -> Any:
    trainer = trainer_of(lib, given)
    trainer.processing_class = given.processor(lib)
    trainer.train()
    trainer.save_model(str(given.scratch / "saved"))
    texts = lib.XCLIPProcessor.from_pretrained(given.scratch / "saved")(text=given.texts, padding=True)
    return [losses_of(trainer), [len(ids) for ids in texts["input_ids"]]]


# Custom training loops


@pattern("training", tolerance=1e-4)
def loop_with_adamw(lib: Any, given: Any) -> Any:
    model = given.model(lib).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        loss = model(given.input_ids[:2], given.pixel_values, return_loss=True).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pattern("training", tolerance=1e-4)
def gradients_of_every_part(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    model(given.input_ids[:2], given.pixel_values, return_loss=True).loss.backward()
    names = ("visual_projection.weight", "mit.position_embedding", "prompts_generator.alpha", "logit_scale")
    return {name: dict(model.named_parameters())[name].grad for name in names}


@pattern("training")
def parameter_groups_without_decay(lib: Any, given: Any) -> Any:
    names = [name for name, _ in given.model(lib).named_parameters()]
    return sorted(name for name in names if any(part in name for part in ("bias", "norm", "alpha")))


@pattern("training")
def frozen_by_name(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "mit" in name or "prompts" in name
    return [model.num_parameters(only_trainable=True), model.num_parameters()]


@pattern("training")
def autocast(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(given.input_ids[:2], given.pixel_values, return_loss=True).loss
    loss.backward()
    return bool(torch.isfinite(model.logit_scale.grad))


@pattern("training")
def data_parallel(lib: Any, given: Any) -> Any:
    model = torch.nn.DataParallel(given.model(lib))
    return model(given.input_ids, given.pixel_values).logits_per_video
