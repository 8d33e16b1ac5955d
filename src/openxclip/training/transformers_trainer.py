"""transformers' Trainer for models that aren't transformers' own classes."""

from __future__ import annotations

from typing import Any

from openxclip.errors import needs_package
from openxclip.model import XCLIPPreTrainedModel

with needs_package("openxclip.Trainer", "transformers", "dev"):
    import transformers


class Trainer(transformers.Trainer):  # type: ignore[misc]  # transformers is untyped
    """transformers' `Trainer`, which saves complete model folders and evaluates contrastive batches.

    transformers' own class also trains these models. But it writes `config.json` only for its own model classes, and
    computes `eval_loss` only for batches with labels. This class saves folders that `from_pretrained` loads, and also
    evaluates batches with `return_loss=True` and no labels.
    """

    label_names: list[str]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save weights, config and processor into a folder; see transformers' method."""
        super().save_model(output_dir, _internal_call)
        model = self.accelerator.unwrap_model(self.model)
        if self.args.should_save and isinstance(model, XCLIPPreTrainedModel):
            model.save_config(self.args.output_dir if output_dir is None else output_dir)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """Return loss, outputs and labels of a batch; see transformers' method."""
        names = self.label_names
        is_contrastive = bool(inputs.get("return_loss")) and all(inputs.get(name) is None for name in names)
        try:
            if self.args.label_names is None and is_contrastive:
                self.label_names = []  # transformers computes a loss without labels only if no labels are expected
            return super().prediction_step(model, inputs, *arguments, **options)
        finally:
            self.label_names = names
