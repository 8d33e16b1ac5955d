"""Patterns of a model as a PyTorch module: copied, saved, moved, traced, pruned."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import torch
from patterns_models import features, logits, vision_tower
from registry import ONLY_HERE, ONLY_THERE, pattern
from torch import Tensor, nn


@pattern("modules")
def deep_copy_of_weights(lib: Any, given: Any) -> Any:
    return logits(lib, given, copy.deepcopy(given.model(lib)))


@pattern("modules")
def pickled(lib: Any, given: Any) -> Any:
    return logits(lib, given, pickle.loads(pickle.dumps(given.model(lib))))


@pattern("modules")
def saved_with_torch_save(lib: Any, given: Any) -> Any:
    torch.save(given.model(lib), given.scratch / "model.pt")
    return logits(lib, given, torch.load(given.scratch / "model.pt", weights_only=False))


@pattern("modules")
def state_dict_saved_and_loaded(lib: Any, given: Any) -> Any:
    torch.save(given.model(lib).state_dict(), given.scratch / "state.pt")
    model = lib.XCLIPModel(lib.XCLIPConfig.from_pretrained(given.folder)).eval()
    keys = model.load_state_dict(torch.load(given.scratch / "state.pt", weights_only=True))
    return [logits(lib, given, model), list(keys.missing_keys), list(keys.unexpected_keys)]


@pattern("modules")
def state_dict_of_another_size(lib: Any, given: Any) -> Any:
    return list(given.model(lib).load_state_dict({"no_such.weight": torch.ones(1)}))


@pattern("modules")
def state_dict_loaded_not_strict(lib: Any, given: Any) -> Any:
    keys = given.model(lib).load_state_dict(
        {"logit_scale": torch.tensor(1.0), "head.weight": torch.ones(1)}, strict=False
    )
    return [len(keys.missing_keys), list(keys.unexpected_keys)]


@pattern("modules", outcome_4=ONLY_HERE, tolerance=1e-4)
def double_precision(lib: Any, given: Any) -> Any:
    model = given.model(lib).double()
    return model(given.input_ids, given.pixel_values.double()).logits_per_video


@pattern("modules", tolerance=5e-2)
def bfloat16_weights(lib: Any, given: Any) -> Any:
    out = given.model(lib).to(torch.bfloat16)(given.input_ids, given.pixel_values.bfloat16())
    return [out.logits_per_video.float(), str(out.logits_per_video.dtype)]


@pattern("modules", tolerance=5e-2)
def autocast(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return logits(lib, given, model).float()


@pattern("modules")
def moved_to_a_device(lib: Any, given: Any) -> Any:
    model = given.model(lib).to("cpu").to(torch.device("cpu"), torch.float32).to(dtype=torch.float32)
    return [str(model.device), str(model.dtype), logits(lib, given, model.cpu().float())]


@pattern("modules")
def moved_to_the_default_device(lib: Any, given: Any) -> Any:
    return logits(lib, given, given.model(lib).to(None))


@pattern("modules")
def train_and_eval(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return [model.training, model.train().training, model.vision_model.training, model.eval().training]


@pattern("modules")
def traced_features(lib: Any, given: Any) -> Any:
    class Features(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Tensor) -> Tensor:
            return features(self.model.get_text_features(ids))

    wrapped = Features(given.model(lib)).eval()
    return torch.jit.trace(wrapped, (given.input_ids,), check_trace=False)(given.input_ids)


@pattern("modules")
def pruned_linears(lib: Any, given: Any) -> Any:
    from torch.nn.utils import prune

    model = given.model(lib)
    for layer in model.vision_model.encoder.layers:
        prune.l1_unstructured(layer.mlp.fc1, "weight", amount=0.5)
    return logits(lib, given, model)


@pattern("modules")
def functional_call_with_other_weights(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    halved = {name: p.detach() * 0.5 for name, p in model.named_parameters()}
    return torch.func.functional_call(model, halved, (given.input_ids, given.pixel_values)).logits_per_video


@pattern("modules", outcome=ONLY_THERE, outcome_4=ONLY_THERE, reason="peft.get_peft_model does it, without the mixin")
def adapter_added_by_the_models_method(lib: Any, given: Any) -> Any:
    from peft import LoraConfig

    model = given.model(lib)
    model.add_adapter(LoraConfig(target_modules=["q_proj"]))
    return any("lora" in name for name, _ in model.named_parameters())


@pattern("modules")
def gradient_checkpointing_of_a_config(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    config.gradient_checkpointing = True
    return lib.XCLIPModel(config).is_gradient_checkpointing


@pattern("modules")
def exponential_average_of_weights(lib: Any, given: Any) -> Any:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = given.model(lib)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    average.update_parameters(model)
    with torch.no_grad():
        model.logit_scale.add_(1)
    average.update_parameters(model)
    return logits(lib, given, average.module)


@pattern("modules")
def tower_alone_in_training_mode(lib: Any, given: Any) -> Any:
    tower = vision_tower(lib, given).train()
    tower(given.pixel_values[0]).pooler_output.square().sum().backward()
    return [p.grad is not None for p in tower.parameters()].count(True)
