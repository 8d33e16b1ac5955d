"""transformers' Trainer for models that aren't transformers' own classes."""

from __future__ import annotations

from typing import Any

from openxclip.errors import needs_package
from openxclip.model import XCLIPPreTrainedModel

with needs_package("openxclip.Trainer", "transformers", "dev"):
    import transformers


class Trainer(transformers.Trainer):  # type: ignore[misc]  # transformers is untyped
    """transformers' `Trainer`, with whole folders and a loss for every batch that has one.

    The plain one trains these models too, but it writes a `config.json` for transformers' own classes alone, and takes
    `eval_loss` of batches with labels alone. Here each checkpoint, and what `save_model` writes, is a folder that
    `from_pretrained` takes; and batches with `return_loss=True` and no labels are evaluated as well.
    """

    label_names: list[str]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save weights, config and processor into a folder; see transformers' method."""
        super().save_model(output_dir, _internal_call)
        model = self.accelerator.unwrap_model(self.model)
        if self.args.should_save and isinstance(model, XCLIPPreTrainedModel):
            model.save_config(self.args.output_dir if output_dir is None else output_dir)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """Loss, outputs and labels of one batch; see transformers' method."""
        names = self.label_names
        contrastive = bool(inputs.get("return_loss")) and all(inputs.get(name) is None for name in names)
        try:
            if self.args.label_names is None and contrastive:
                self.label_names = []  # or the loss of a batch without labels would be left out
            return super().prediction_step(model, inputs, *arguments, **options)
        finally:
            self.label_names = names
