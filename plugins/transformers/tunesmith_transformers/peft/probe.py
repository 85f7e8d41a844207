"""Whether a merged model is the tuned one: both answer the same made-up tokens, before and after the merge."""

from __future__ import annotations

from typing import Any

from tunesmith import ModelHandle, TunesmithError

ROWS, LENGTH = 2, 16
#: Largest difference of outputs as a share of their size, at the middle position: a mixture of experts may choose other
#: experts at one or the other.
WHOLE, HALF = 1e-2, 0.25


class Probe:
    """What a model answers before its adapter is merged.

    Args:
        model: the adapted model.
    """

    def __init__(self, handle: ModelHandle, model: Any) -> None:
        import torch

        weight = next(model.parameters())
        self._ids = None
        size = model.config.get_text_config().vocab_size if hasattr(model, "config") else 0
        # what a quantized base rounds is no fault of the merge, and the exporter measures it
        if size and not (handle.quantized or handle.columns or weight.is_meta):
            generator = torch.Generator().manual_seed(0)
            length = min(LENGTH, handle.max_length or LENGTH)
            self._ids = torch.randint(size, (ROWS, length), generator=generator).to(weight.device)
            self._before = self._answers(model)

    def check(self, merged: Any) -> None:
        """Compare the merged model with what was answered before.

        Raises:
            TunesmithError: it is another model.
        """
        if self._ids is None:
            return
        apart = (self._answers(merged) - self._before).square().mean(-1).sqrt()  # (N,)
        size = self._before.square().mean().sqrt()
        share = float((apart / size.clamp(min=1e-6)).median())
        whole = all(p.dtype.itemsize >= 4 for p in merged.parameters())
        if not share <= (WHOLE if whole else HALF):
            raise TunesmithError(
                f"the merged model is not the tuned one: its outputs differ by {share:.1%} of their size",
                fix="Keep the adapter beside its base (`tunesmith export RUN --use adapter`), and report this merge.",
            )

    def _answers(self, model: Any) -> Any:
        """The model's outputs (N, V) in float32, less their mean where there are several."""
        import torch

        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                found = model(input_ids=self._ids, attention_mask=torch.ones_like(self._ids))
        finally:
            model.train(training)
        values = (found.logits if hasattr(found, "logits") else found[0]).float()
        values = values.reshape(-1, values.shape[-1])
        return values - values.mean(-1, keepdim=True) if values.shape[-1] > 1 else values
