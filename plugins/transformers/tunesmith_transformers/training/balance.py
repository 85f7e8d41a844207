"""The loss by which a mixture of experts keeps its experts in use: the model's own, beside any loss of a trainer.

Transformers adds it to the loss of labels (Fedus et al. 2021, arXiv 2101.03961, equation 4). Trainers here compute
losses of their own, so it is taken from the model's outputs instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tunesmith import Adapted, RecipeError

#: What configurations call the weight of the loss.
COEFFICIENTS = ("router_aux_loss_coef", "aux_loss_coef")
#: The name under which it is logged, without its weight.
METRIC = "aux_loss"


def coefficient(config: Any) -> float:
    """The weight that a configuration gives the loss; 0 for a model without routers."""
    text = config.get_text_config()
    if not hasattr(text, "output_router_logits"):
        return 0.0
    return float(next((getattr(text, name) for name in COEFFICIENTS if getattr(text, name, None)), 0.0))


def weigh(model: Any, wanted: float | None) -> list[str]:
    """Put the weight that a recipe names into a model's configuration; what is then to be said of the loss.

    Raises:
        RecipeError: the model has no such loss.
    """
    text = model.config.get_text_config()
    names = [name for name in COEFFICIENTS if hasattr(text, name) and hasattr(text, "output_router_logits")]
    if wanted is not None:
        if not names:
            raise RecipeError(
                f"router_aux_loss_coef is set, but {type(model).__name__} has no loss that balances experts",
                where="[model] router_aux_loss_coef",
                fix="Leave it out of [model].",
            )
        setattr(text, names[0], wanted)
    if not names:
        return []
    weight = coefficient(model.config)
    if not weight:
        return ["a mixture of experts, trained without its balancing loss (router_aux_loss_coef = 0)"]
    return [f"a mixture of experts: {weight:g} x its balancing loss is in the loss (router_aux_loss_coef)"]


class Balance:
    """The balancing loss of an adapted model.

    Args:
        adapted: what is trained. Only a language model's own class has the loss: under another head there is none.
        weight: instead of the one in the model's configuration.
    """

    def __init__(self, adapted: Adapted, weight: float | None = None) -> None:
        self.model = adapted.model
        inner = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        self.weight = 0.0
        if adapted.handle.head == "causal-lm" and hasattr(inner, "config"):
            self._config = inner.config.get_text_config()
            has = hasattr(self._config, "output_router_logits")
            self.weight = coefficient(inner.config) if weight is None or not has else weight
        self._seen: list[torch.Tensor] = []
        self._told: list[torch.Tensor] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep the loss of every forward pass in the block that gradients are taken of."""
        if not self.weight:
            yield
            return
        before, self._config.output_router_logits = self._config.output_router_logits, True
        handle = self.model.register_forward_hook(self._keep)
        try:
            yield
        finally:
            handle.remove()
            self._config.output_router_logits = before

    def term(self) -> torch.Tensor | None:
        """The weighted loss, a mean over the passes since the last call; None where there was none."""
        if not self._seen:
            return None
        mean = torch.stack(self._seen).mean()
        self._seen.clear()
        self._told.append(mean.detach())
        return self.weight * mean

    def metrics(self) -> dict[str, float]:
        """The mean of the loss without its weight since the last call, by its name; empty where there was none."""
        found = {METRIC: float(torch.stack(self._told).mean())} if self._told else {}
        self._told.clear()
        return found

    def _keep(self, module: Any, arguments: Any, outputs: Any) -> None:
        loss = getattr(outputs, "aux_loss", None)
        if loss is not None and torch.is_tensor(loss) and torch.is_grad_enabled():
            self._seen.append(loss.float())
