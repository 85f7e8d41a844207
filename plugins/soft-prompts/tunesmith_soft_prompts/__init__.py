"""Soft prompts: what is trained stands in front of the row, and the model stays as it is. On PEFT."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Adapter, hookimpl
from tunesmith_soft_prompts.settings import MultitaskPromptSettings as MultitaskPromptSettings
from tunesmith_soft_prompts.settings import PrefixSettings as PrefixSettings
from tunesmith_soft_prompts.settings import PromptSettings as PromptSettings
from tunesmith_soft_prompts.settings import PTuningSettings as PTuningSettings

REQUIRES = ("torch", "transformers", "peft", "tunesmith_transformers")

#: Settings that the conformance kit tries.
tunesmith_examples = {
    "prompt": [
        {"virtual_tokens": 4},
        {"virtual_tokens": 5, "init": "text", "init_text": "Add:"},
        {"virtual_tokens": 4, "init": "random"},
    ],
    "prefix": [
        {"virtual_tokens": 4},
        {"virtual_tokens": 4, "init": "text", "init_text": "Add the two:"},
        {"virtual_tokens": 4, "init": "random"},
        {"virtual_tokens": 4, "projection": True, "projection_size": 8},
    ],
    "p-tuning": [
        {"virtual_tokens": 4},
        {"virtual_tokens": 4, "encoder_size": 8, "encoder": "lstm", "lstm_dropout": 0.1, "lstm_layers": 3},
    ],
    "multitask-prompt": [
        {"virtual_tokens": 4, "tasks": ["add", "take"]},
        {"virtual_tokens": 4, "tasks": ["add"], "rank": 2, "task_column": "kind", "init": "text", "init_text": "Add:"},
    ],
}


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    """The adapters `prompt`, `prefix`, `p-tuning` and `multitask-prompt`."""
    yield Adapter(
        name="prompt",
        summary="Trained vectors in front of the row's embeddings",
        factory="tunesmith_soft_prompts.adapters:prompt",
        settings=PromptSettings,
        requires=REQUIRES,
        check="tunesmith_soft_prompts.check:prompt",
        fits="tunesmith_soft_prompts.check:fits",
        formula="tunesmith_soft_prompts.formulas:prompt",
        identity=False,
        merges=False,
    )
    yield Adapter(
        name="prefix",
        summary="Trained keys and values in front of every attention layer",
        factory="tunesmith_soft_prompts.adapters:prefix",
        settings=PrefixSettings,
        requires=REQUIRES,
        check="tunesmith_soft_prompts.check:prefix",
        fits="tunesmith_soft_prompts.check:fits",
        formula="tunesmith_soft_prompts.formulas:prefix",
        identity=False,
        merges=False,
        checkpointing=False,
    )
    yield Adapter(
        name="p-tuning",
        summary="Virtual tokens that a trained encoder produces",
        factory="tunesmith_soft_prompts.adapters:p_tuning",
        settings=PTuningSettings,
        requires=REQUIRES,
        check="tunesmith_soft_prompts.check:p_tuning",
        fits="tunesmith_soft_prompts.check:fits",
        formula="tunesmith_soft_prompts.formulas:p_tuning",
        identity=False,
        merges=False,
    )
    yield Adapter(
        name="multitask-prompt",
        summary="One prompt that tasks share, times a low-rank matrix of each",
        factory="tunesmith_soft_prompts.multitask:apply",
        settings=MultitaskPromptSettings,
        requires=REQUIRES,
        check="tunesmith_soft_prompts.check:multitask_prompt",
        fits="tunesmith_soft_prompts.check:fits",
        formula="tunesmith_soft_prompts.formulas:multitask_prompt",
        identity=False,
        merges=False,
    )
