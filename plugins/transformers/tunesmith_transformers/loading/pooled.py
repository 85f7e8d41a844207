"""Classifiers that sum up a text in another way than Transformers' own class for its family: first, mean or last token.

A class for labels is made over the base model of any family: its own layers, what sums up their outputs, dropout, and
one linear layer called `classifier`. Its weights are named as Transformers names them, so adapters and other tools find
them; the configuration says how texts are summed up (`classifier_pooling`).
"""

from __future__ import annotations

import inspect
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from tunesmith import RecipeError

Pooling = Literal["cls", "mean", "last"]

PREFIX = "Pooled"  # of the names of these classes
KEY = "classifier_pooling"  # of the configuration; ModernBERT's own name for it


def chosen_pooling(folder: Path, wanted: str, head: str) -> tuple[Pooling | None, str]:
    """How a text is to be summed up, and a sentence where the folder decides; None for the family's own class.

    `auto` follows what the folder was trained with: the pooling of a sentence transformer (`1_Pooling`), or that of a
    classifier that was made here.

    Raises:
        RecipeError: pooling is asked for under a head that is not one over whole texts.
    """
    if head != "sequence-labels":
        if wanted != "auto":
            raise RecipeError(
                f"pooling = {wanted!r} sums up a text for a head over its labels; this stage needs a {head!r} head",
                fix="Leave `pooling` out of [model].",
            )
        return None, ""
    if wanted == "auto":
        found = _of_folder(folder)
        return found, f"texts are summed up by {found} pooling, as the model was trained" if found else ""
    return (None if wanted == "native" else wanted), ""  # type: ignore[return-value]


def _of_folder(folder: Path) -> Pooling | None:
    """What a folder says of its pooling; None where it says nothing that is known here."""
    config = _read(folder / "config.json")
    if any(str(name).startswith(PREFIX) for name in config.get("architectures") or ()):
        return config.get(KEY)
    modes = _read(folder / "1_Pooling" / "config.json")
    names: dict[str, Pooling] = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last"}
    on = [pooling for name, pooling in names.items() if modes.get(f"pooling_mode_{name}")]
    return on[0] if len(on) == 1 else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a folder that has none, or a damaged one, which loading names
        return {}
    return content if isinstance(content, dict) else {}


def pooled_class(config: Any) -> Any:
    """The classifier over the base model of a configuration.

    Raises:
        RecipeError: Transformers has no base model for it.
    """
    from transformers import AutoModel

    try:
        return _made(AutoModel._model_mapping[type(config)])
    except KeyError:
        raise RecipeError(
            f"Transformers has no base model for {type(config).__name__}, which `pooling` needs",
            fix="Leave `pooling` out of [model], or choose another model.",
        ) from None


@lru_cache(maxsize=16)
def _made(base: Any) -> Any:
    """A class over the base model's class `base`, whose weights lie under the family's own prefix."""
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    family = next(kind for kind in base.__mro__[1:] if issubclass(kind, PreTrainedModel))
    prefix = base.base_model_prefix or "model"
    options = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(base.__init__).parameters else {}

    class Pooled(family):  # type: ignore[misc, valid-type]
        base_model_prefix = prefix

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            text = config.get_text_config()
            self.num_labels = config.num_labels
            setattr(self, prefix, base(config, **options))
            self.dropout = nn.Dropout(_dropout(config))
            self.classifier = nn.Linear(text.hidden_size, config.num_labels)
            self.post_init()

        def forward(self, input_ids: Any = None, attention_mask: Any = None, **inputs: Any) -> Any:
            inputs.pop("labels", None)
            inputs["return_dict"] = True
            outputs = getattr(self, prefix)(input_ids=input_ids, attention_mask=attention_mask, **inputs)
            text = pool(outputs.last_hidden_state, attention_mask, getattr(self.config, KEY))  # (B, H)
            return SequenceClassifierOutput(logits=self.classifier(self.dropout(text)))  # (B, L)

    name = base.__name__.removesuffix("Model")
    Pooled.__name__ = Pooled.__qualname__ = f"{PREFIX}{name}ForSequenceClassification"
    return Pooled


def pool(hidden: torch.Tensor, mask: torch.Tensor | None, how: Pooling) -> torch.Tensor:
    """One vector a text (B, H) of its hidden states (B, T, H); padding, where `mask` (B, T) is 0, is left out."""
    if mask is None:
        mask = hidden.new_ones(hidden.shape[:2])
    mask = mask.to(hidden.device)
    if how == "mean":
        weights = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    places = torch.arange(mask.shape[1], device=mask.device)
    # the first and the last token that is no padding, on whichever side the padding is
    place = (mask * (places + 1)).argmax(dim=1) if how == "last" else mask.argmax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), place]


def _dropout(config: Any) -> float:
    """The family's dropout before a head."""
    for name in ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob", "hidden_dropout", "dropout"):
        value = getattr(config, name, None)
        if isinstance(value, float):
            return value
    return 0.0
