"""Patterns of members that training libraries use, of PEFT, of Accelerate, and of export and quantisation."""

from __future__ import annotations

import copy
import json
from typing import Any

import torch
from patterns_training import losses_of, trainer_of
from registry import ONLY_HERE, pattern

# Members that libraries use


@pattern("training")
def number_of_parameters(lib: Any, given: Any) -> Any:
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
def replaced_text_embeddings(lib: Any, given: Any) -> Any:
    model = given.model(lib).text_model
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(model.get_input_embeddings().weight.detach() * 2))
    return model(given.input_ids).pooler_output


@pattern("training", outcome_4=ONLY_HERE)
def resized_token_embeddings(lib: Any, given: Any) -> Any:
    model = given.model(lib).text_model
    table = model.resize_token_embeddings(49410)
    return [list(table.weight.shape), model.config.vocab_size, table.weight[:49408].sum()]


@pattern("training", outcome_4=ONLY_HERE)
def padded_token_embeddings(lib: Any, given: Any) -> Any:
    model = given.model(lib).text_model
    return list(model.resize_token_embeddings(49408, pad_to_multiple_of=1000).weight.shape)


@pattern("training", outcome_4=ONLY_HERE)
def inputs_that_require_gradients(lib: Any, given: Any) -> Any:
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
def tie_weights(lib: Any, given: Any) -> Any:
    return given.model(lib).tie_weights()


@pattern("training")
def can_generate(lib: Any, given: Any) -> Any:
    return given.model(lib).can_generate()


@pattern("training")
def main_input_name(lib: Any, given: Any) -> Any:
    return [lib.XCLIPModel.main_input_name, lib.XCLIPTextModel.main_input_name, lib.XCLIPVisionModel.main_input_name]


@pattern("training")
def base_model_prefix(lib: Any, given: Any) -> Any:
    return lib.XCLIPModel.base_model_prefix


@pattern("training")
def deep_copy_of_a_model(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return copy.deepcopy(model)(given.input_ids, given.pixel_values).logits_per_video


@pattern("training")
def device_and_dtype_conversion(lib: Any, given: Any) -> Any:
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
def lora_adapter_names_its_base_model(lib: Any, given: Any) -> Any:
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
def accelerate_step(lib: Any, given: Any) -> Any:
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
def accelerate_saves_state(lib: Any, given: Any) -> Any:
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
def accelerate_infers_a_device_map(lib: Any, given: Any) -> Any:
    import accelerate

    model = given.model(lib)
    return accelerate.infer_auto_device_map(
        model, max_memory={"cpu": "1GB"}, no_split_module_classes=model._no_split_modules
    )


@pattern("training")
def accelerate_empty_weights(lib: Any, given: Any) -> Any:
    import accelerate

    config = lib.XCLIPConfig.from_pretrained(given.folder)
    with accelerate.init_empty_weights():
        model = lib.XCLIPModel(config)
    return [model.device.type, len(list(model.parameters()))]


# Export and other transformations


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
def averaged_model(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    averaging = torch.optim.swa_utils.AveragedModel(model)
    averaging.update_parameters(model)
    return averaging(given.input_ids, given.pixel_values).logits_per_video
