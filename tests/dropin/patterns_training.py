"""Patterns of training: transformers' Trainer, PEFT, Accelerate, and what they read of a model."""

from __future__ import annotations

import copy
import json
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
    """A batch in which text i is of video i."""
    shift = torch.tensor([0, 1, 1, 0])
    ids = torch.stack([given.input_ids[0] + row["number"] * shift for row in rows])
    pixels = torch.stack([row["pixel_values"] for row in rows])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels, "return_loss": True}


def trainer_of(lib: Any, given: Any, model: Any = None, **options: Any) -> Any:
    """A trainer of four small steps on the CPU."""
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
def trainer_checkpoints_gradients(lib: Any, given: Any) -> Any:
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
def trainer_loads_the_best(lib: Any, given: Any) -> Any:
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
def trainer_of_a_class_of_ones_own(lib: Any, given: Any) -> Any:
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


# A loop of one's own


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
def groups_without_decay(lib: Any, given: Any) -> Any:
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


# What libraries ask of a model


@pattern("training")
def parameters_counted(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return [model.num_parameters(), model.num_parameters(exclude_embeddings=True)]


@pattern("training")
def supports_gradient_checkpointing(lib: Any, given: Any) -> Any:
    return [given.model(lib).supports_gradient_checkpointing, lib.XCLIPModel.supports_gradient_checkpointing]


@pattern("training")
def gradient_checkpointing_on_and_off(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    found = [model.is_gradient_checkpointing]
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found.append(model.is_gradient_checkpointing)
    model.gradient_checkpointing_disable()
    return [*found, model.is_gradient_checkpointing]


@pattern("training")
def gradient_checkpointing_from_the_config(lib: Any, given: Any) -> Any:
    model = given.model(lib).train()
    model.gradient_checkpointing_enable()
    loss = model(given.input_ids[:2], given.pixel_values, return_loss=True).loss
    loss.backward()
    return [loss, model.visual_projection.weight.grad]


@pattern("training", outcome_4=ONLY_HERE)
def text_embeddings(lib: Any, given: Any) -> Any:
    table = given.model(lib).text_model.get_input_embeddings()
    return [type(table).__name__, list(table.weight.shape)]


@pattern("training", outcome_4=ONLY_HERE)
def patch_embeddings(lib: Any, given: Any) -> Any:
    return type(given.model(lib).vision_model.get_input_embeddings()).__name__


@pattern("training", outcome_4=ONLY_HERE)
def text_embeddings_set(lib: Any, given: Any) -> Any:
    model = given.model(lib).text_model
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(model.get_input_embeddings().weight.detach() * 2))
    return model(given.input_ids).pooler_output


@pattern("training", outcome_4=ONLY_HERE)
def tokens_added(lib: Any, given: Any) -> Any:
    model = given.model(lib).text_model
    table = model.resize_token_embeddings(49410)
    return [list(table.weight.shape), model.config.vocab_size, table.weight[:49408].sum()]


@pattern("training", outcome_4=ONLY_HERE)
def tokens_padded(lib: Any, given: Any) -> Any:
    model = given.model(lib).text_model
    return list(model.resize_token_embeddings(49408, pad_to_multiple_of=1000).weight.shape)


@pattern("training", outcome_4=ONLY_HERE)
def inputs_take_gradients(lib: Any, given: Any) -> Any:
    model = given.model(lib).text_model
    model.requires_grad_(False)
    model.enable_input_require_grads()
    found = model(given.input_ids).pooler_output.requires_grad
    model.disable_input_require_grads()
    return [found, model(given.input_ids).pooler_output.requires_grad]


@pattern("training")
def memory_footprint(lib: Any, given: Any) -> Any:
    return given.model(lib).get_memory_footprint(return_buffers=False)


@pattern("training")
def ties_nothing(lib: Any, given: Any) -> Any:
    return given.model(lib).tie_weights()


@pattern("training")
def generates_nothing(lib: Any, given: Any) -> Any:
    return given.model(lib).can_generate()


@pattern("training")
def main_input(lib: Any, given: Any) -> Any:
    return [lib.XCLIPModel.main_input_name, lib.XCLIPTextModel.main_input_name, lib.XCLIPVisionModel.main_input_name]


@pattern("training")
def prefix_of_the_base(lib: Any, given: Any) -> Any:
    return lib.XCLIPModel.base_model_prefix


@pattern("training")
def copied_deeply(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return copy.deepcopy(model)(given.input_ids, given.pixel_values).logits_per_video


@pattern("training")
def moved_and_cast(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return [str(model.half().dtype), str(model.float().dtype), str(model.to("cpu", torch.bfloat16).dtype)]


# PEFT


def adapted(lib: Any, given: Any, **options: Any) -> Any:
    import peft

    how = {"r": 4, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.0, **options}
    model = peft.get_peft_model(given.model(lib), peft.LoraConfig(**how))
    for number, (name, parameter) in enumerate(sorted(model.named_parameters())):
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    return model


@pattern("training")
def lora(lib: Any, given: Any) -> Any:
    model = adapted(lib, given)
    return [model(given.input_ids, given.pixel_values).logits_per_video, model.get_nb_trainable_parameters()[0]]


@pattern("training")
def lora_on_all_linears(lib: Any, given: Any) -> Any:
    model = adapted(lib, given, target_modules="all-linear")
    return model(given.input_ids, given.pixel_values).logits_per_video


@pattern("training")
def lora_with_gradient_checkpointing(lib: Any, given: Any) -> Any:
    model = adapted(lib, given)
    model.gradient_checkpointing_enable()
    loss = model(input_ids=given.input_ids[:2], pixel_values=given.pixel_values, return_loss=True).loss
    loss.backward()
    return loss


@pattern("training")
def lora_merged(lib: Any, given: Any) -> Any:
    merged = adapted(lib, given).merge_and_unload()
    merged.save_pretrained(given.scratch)
    return lib.XCLIPModel.from_pretrained(given.scratch)(given.input_ids, given.pixel_values).logits_per_video


@pattern("training")
def lora_saved_names_its_base(lib: Any, given: Any) -> Any:
    adapted(lib, given).save_pretrained(given.scratch)
    saved = json.loads((given.scratch / "adapter_config.json").read_text())
    return saved["base_model_name_or_path"] == str(given.folder)


@pattern("training")
def lora_loaded(lib: Any, given: Any) -> Any:
    import peft

    adapted(lib, given).save_pretrained(given.scratch)
    model = peft.PeftModel.from_pretrained(given.model(lib), given.scratch)
    return model(given.input_ids, given.pixel_values).logits_per_video


@pattern("training")
def lora_with_modules_saved(lib: Any, given: Any) -> Any:
    model = adapted(lib, given, modules_to_save=["visual_projection"])
    return sorted(name for name, p in model.named_parameters() if p.requires_grad and "projection" in name)


@pattern("training", tolerance=1e-4)
def lora_under_the_trainer(lib: Any, given: Any) -> Any:
    trainer = trainer_of(lib, given, adapted(lib, given))
    trainer.train()
    trainer.save_model(str(given.scratch / "adapter"))
    return [losses_of(trainer), (given.scratch / "adapter" / "adapter_model.safetensors").exists()]


# Accelerate


@pattern("training", tolerance=1e-4)
def accelerate_a_step(lib: Any, given: Any) -> Any:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    model = given.model(lib).train()
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    loss = model(given.input_ids[:2], given.pixel_values, return_loss=True).loss
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return [loss, accelerator.unwrap_model(model).logit_scale]


@pattern("training")
def accelerate_saves(lib: Any, given: Any) -> Any:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    model = accelerator.prepare(given.model(lib))
    accelerator.unwrap_model(model).save_pretrained(
        given.scratch,
        is_main_process=accelerator.is_main_process,
        save_function=accelerator.save,
        state_dict=accelerator.get_state_dict(model),
    )
    return lib.XCLIPModel.from_pretrained(given.scratch).logit_scale


@pattern("training")
def accelerate_saves_its_state(lib: Any, given: Any) -> Any:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    model = accelerator.prepare(given.model(lib))
    accelerator.save_state(str(given.scratch))
    with torch.no_grad():
        model.logit_scale.zero_()
    accelerator.load_state(str(given.scratch))
    return model.logit_scale


@pattern("training")
def accelerate_saves_a_model(lib: Any, given: Any) -> Any:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    accelerator.save_model(given.model(lib), str(given.scratch))
    return sorted(path.name for path in given.scratch.iterdir())


@pattern("training")
def accelerate_dispatches(lib: Any, given: Any) -> Any:
    import accelerate

    model = accelerate.dispatch_model(given.model(lib), device_map={"": "cpu"})
    return model(given.input_ids, given.pixel_values).logits_per_video


@pattern("training")
def accelerate_plans_a_split(lib: Any, given: Any) -> Any:
    import accelerate

    model = given.model(lib)
    return accelerate.infer_auto_device_map(
        model, max_memory={"cpu": "1GB"}, no_split_module_classes=model._no_split_modules
    )


@pattern("training")
def accelerate_starts_empty(lib: Any, given: Any) -> Any:
    import accelerate

    config = lib.XCLIPConfig.from_pretrained(given.folder)
    with accelerate.init_empty_weights():
        model = lib.XCLIPModel(config)
    return [model.device.type, len(list(model.parameters()))]


# Leaving PyTorch


@pattern("training")
def exported(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    program = torch.export.export(model, (given.input_ids, given.pixel_values), strict=False)
    return program.module()(given.input_ids, given.pixel_values).logits_per_video


@pattern("training")
def quantized_dynamically(lib: Any, given: Any) -> Any:
    model = torch.ao.quantization.quantize_dynamic(given.model(lib), {torch.nn.Linear}, dtype=torch.qint8)
    return list(model(given.input_ids, given.pixel_values).logits_per_video.shape)


@pattern("training")
def averaged(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    averaging = torch.optim.swa_utils.AveragedModel(model)
    averaging.update_parameters(model)
    return averaging(given.input_ids, given.pixel_values).logits_per_video
