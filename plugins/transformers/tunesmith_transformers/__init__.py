"""Models of Transformers, the durable trainer base, the token contract, and the evaluators of perplexity."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Evaluator, Model, hookimpl
from tunesmith_transformers.sources import claims
from tunesmith_transformers.training.settings import (
    GeneralPerplexitySettings,
    ModelSettings,
    PerplexitySettings,
    WheelSettings,
)


@hookimpl
def tunesmith_models() -> Iterator[Model]:
    """The four places a model can come from."""
    yield Model(
        name="directory",
        summary="A model folder on disk: config.json, safetensors, tokenizer",
        factory="tunesmith_transformers.sources.factories:directory",
        settings=ModelSettings,
        requires=("torch", "transformers", "safetensors"),
        claims=claims.directory,
        check="tunesmith_transformers.sources.claims:check_directory",
        quantized="tunesmith_transformers.loading.quantized:of_directory",
        tokenizer="tunesmith_transformers.sources.factories:directory_tokenizer",
        has_template="tunesmith_transformers.sources.has_template:directory",
        config="tunesmith_transformers.sources.configuration:directory",
        shapes="tunesmith_transformers.sources.stored_shapes:directory",
        fits="tunesmith_transformers.sources.fitting:directory",
        skeleton="tunesmith_transformers.sources.shapes_only:directory",
        estimate="tunesmith_transformers.estimates.source_sizes:directory",
        identity="tunesmith_transformers.sources.identity:directory",
    )
    yield Model(
        name="gguf",
        summary="A GGUF file, converted once to safetensors in the cache",
        factory="tunesmith_transformers.sources.factories:gguf",
        settings=ModelSettings,
        requires=("torch", "transformers", "safetensors", "gguf"),
        claims=claims.gguf,
        check="tunesmith_transformers.sources.claims:check_file",
        tokenizer="tunesmith_transformers.sources.factories:gguf_tokenizer",
        has_template="tunesmith_transformers.sources.has_template:gguf",
        config="tunesmith_transformers.sources.configuration:gguf",
        skeleton="tunesmith_transformers.sources.shapes_only:gguf",
        estimate="tunesmith_transformers.estimates.source_sizes:gguf",
        identity="tunesmith_transformers.sources.identity:gguf",
    )
    yield Model(
        name="wheel",
        summary="A model inside a Python wheel: wheel:NAME==VERSION, digest checked",
        factory="tunesmith_transformers.sources.factories:wheel",
        settings=WheelSettings,
        requires=("torch", "transformers", "safetensors", "gguf"),
        claims=claims.wheel,
        check="tunesmith_transformers.sources.claims:check_wheel",
        tokenizer="tunesmith_transformers.sources.factories:wheel_tokenizer",
        has_template="tunesmith_transformers.sources.has_template:wheel",
        config="tunesmith_transformers.sources.configuration:wheel",
        shapes="tunesmith_transformers.sources.stored_shapes:wheel",
        fits="tunesmith_transformers.sources.fitting:wheel",
        skeleton="tunesmith_transformers.sources.shapes_only:wheel",
        estimate="tunesmith_transformers.estimates.source_sizes:wheel",
    )
    yield Model(
        name="hub",
        summary="A model of the Hugging Face hub: OWNER/NAME, optionally @REVISION",
        factory="tunesmith_transformers.sources.factories:hub",
        settings=ModelSettings,
        requires=("torch", "transformers", "safetensors"),
        claims=claims.hub,
        check="tunesmith_transformers.sources.claims:check_hub",
        tokenizer="tunesmith_transformers.sources.factories:hub_tokenizer",
        has_template="tunesmith_transformers.sources.has_template:hub",
        config="tunesmith_transformers.sources.configuration:hub",
        shapes="tunesmith_transformers.sources.stored_shapes:hub",
        fits="tunesmith_transformers.sources.fitting:hub",
        skeleton="tunesmith_transformers.sources.shapes_only:hub",
        estimate="tunesmith_transformers.estimates.source_sizes:hub",
        identity="tunesmith_transformers.sources.identity:hub",
    )


@hookimpl
def tunesmith_evaluators() -> Iterator[Evaluator]:
    """Perplexity over the supervised tokens of held-out rows, and over text that has nothing to do with them."""
    yield Evaluator(
        name="perplexity",
        summary="exp of the mean negative log-likelihood of the held-out rows' supervised tokens",
        factory="tunesmith_transformers.evaluation.perplexity:evaluate",
        measures=("perplexity",),
        settings=PerplexitySettings,
        requires=("torch", "transformers"),
        accepts=("text", "prompt-completion", "messages"),
    )
    yield Evaluator(
        name="general-perplexity",
        summary="Perplexity of general text, which rises when training makes the model forget",
        factory="tunesmith_transformers.evaluation.general:evaluate",
        measures=("general_perplexity",),
        settings=GeneralPerplexitySettings,
        requires=("torch", "transformers"),
        held_out=False,
        standing=("causal-lm",),
    )
