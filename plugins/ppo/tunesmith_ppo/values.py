"""What foresees the reward: a head on the policy's hidden states, or a model of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith import Adapted, RecipeError
from tunesmith_transformers.loading.heads import check_head_trained, head_outputs
from tunesmith_transformers.training.losses import output_head, predicting


class Values:
    """The value of the state before each token of an answer.

    Args:
        policy: whose hidden states the head is put on when there is no model.
        model: a model with a scalar head, or None.
        gradient: whether the head's loss reaches the policy.

    Raises:
        RecipeError: the model cannot be the value of this policy.
    """

    def __init__(self, policy: Adapted, model: Adapted | None, gradient: bool) -> None:
        self.model = model
        self.gradient = gradient
        self.head: nn.Linear | None = None
        if model is not None:
            if model.handle.tokenizer.get_vocab() != policy.handle.tokenizer.get_vocab():
                raise RecipeError(
                    "the value model has another vocabulary than the policy, so it cannot foresee its tokens' rewards",
                    fix="Name a value model of the same family, or leave [models.value] out.",
                )
            check_head_trained(model)
            return
        weight = output_head(policy.model)
        device = next(policy.model.parameters()).device
        size = getattr(weight, "in_features", None) or policy.handle.model.config.get_text_config().hidden_size
        # The head starts at 0, so that the first advantages are those of the rewards alone. The paper starts its value
        # model from the reward model (detail 22): `models.value.from` the reward stage does that.
        self.head = nn.Linear(size, 1, device=device, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def on_policy(self) -> bool:
        """Whether the values are read from the policy's hidden states."""
        return self.head is not None

    def parameters(self) -> list[nn.Parameter]:
        """What is trained, in a fixed order."""
        if self.head is not None:
            return list(self.head.parameters())
        assert self.model is not None
        return list(self.model.trainable().values())

    def of_hidden(self, hidden: torch.Tensor) -> torch.Tensor:
        """Values (N,) from the policy's hidden states (N, H)."""
        assert self.head is not None
        return self.head((hidden if self.gradient else hidden.detach()).float())[:, 0]

    @contextmanager
    def use(self) -> Iterator[Any]:
        """The value model, without dropout."""
        assert self.model is not None
        with self.model.use() as model:
            model.eval()
            yield model

    def of_inputs(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Values (N,) before the supervised tokens of `inputs`, from the value model.

        Raises:
            RecipeError: it gives one score a row and none a token.
        """
        wanted = predicting(inputs["labels"])  # (B, T)
        outputs = head_outputs(model, {name: tensor for name, tensor in inputs.items() if name != "labels"})
        if outputs.dim() != 3:
            raise RecipeError(
                "the value model pools its tokens before its head, so it has no value for each of them",
                fix="Name a causal language model in [models.value], or leave it out.",
            )
        return outputs[:, outputs.shape[1] - wanted.shape[1] :, 0][wanted]

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors that a checkpoint must hold."""
        return dict(self.head.state_dict()) if self.head is not None else self._model().state()

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `state` gave."""
        if self.head is not None:
            self.head.load_state_dict(tensors)
        else:
            self._model().load_state(tensors)

    def extra_state(self) -> dict[str, Any]:
        """What `state` cannot hold as tensors, as plain JSON data."""
        return {} if self.model is None else self.model.extra_state()

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        """Put back what `extra_state` gave."""
        if self.model is not None:
            self.model.load_extra_state(extra)

    def _model(self) -> Adapted:
        assert self.model is not None
        return self.model
