"""Apply the methods: PEFT's modules, started where they start well."""

from __future__ import annotations

from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig

from tunesmith import Context, ModelHandle
from tunesmith_soft_prompts.formulas import embedding_size
from tunesmith_soft_prompts.handle import Prefix, SoftPrompt
from tunesmith_soft_prompts.initial import keys_and_values, vectors
from tunesmith_soft_prompts.settings import PrefixSettings, PromptSettings, PTuningSettings


def prompt(handle: ModelHandle, settings: PromptSettings, context: Context) -> SoftPrompt:
    """Prompt tuning: trained vectors in front of the row's embeddings.

    Raises:
        RecipeError: no room for the virtual tokens, or the text has none.
    """
    # PEFT would load a tokenizer of its own for a text; the handle has one
    adapted = SoftPrompt(
        handle,
        PromptTuningConfig(
            num_virtual_tokens=settings.virtual_tokens, token_dim=embedding_size(handle.model), task_type="CAUSAL_LM"
        ),
    )
    if context.fresh:
        adapted.start_from(vectors(handle, settings.virtual_tokens, settings.init, settings.init_text))
    say(context, "prompt", adapted, f"from {settings.init}")
    return adapted


def prefix(handle: ModelHandle, settings: PrefixSettings, context: Context) -> Prefix:
    """Prefix tuning: trained keys and values in front of every layer's own.

    Raises:
        RecipeError: no room for the virtual tokens, or the text has none.
    """
    adapted = Prefix(
        handle,
        PrefixTuningConfig(
            num_virtual_tokens=settings.virtual_tokens,
            prefix_projection=settings.projection,
            encoder_hidden_size=settings.projection_size or embedding_size(handle.model),
            init_weights="zero" if settings.init == "zero" else None,
            task_type="CAUSAL_LM",
        ),
    )
    if settings.init == "text" and context.fresh:
        adapted.start_from(keys_and_values(handle, settings.virtual_tokens, settings.init_text))
    say(context, "prefix", adapted, f"from {settings.init}{', through a projection' if settings.projection else ''}")
    return adapted


def p_tuning(handle: ModelHandle, settings: PTuningSettings, context: Context) -> SoftPrompt:
    """P-tuning: an encoder produces the vectors in front of the row's embeddings.

    Raises:
        RecipeError: no room for the virtual tokens.
    """
    adapted = SoftPrompt(
        handle,
        PromptEncoderConfig(
            num_virtual_tokens=settings.virtual_tokens,
            token_dim=embedding_size(handle.model),
            encoder_reparameterization_type=settings.encoder.upper(),
            encoder_hidden_size=settings.encoder_size or embedding_size(handle.model),
            encoder_num_layers=settings.lstm_layers,
            encoder_dropout=settings.lstm_dropout,
            task_type="CAUSAL_LM",
        ),
    )
    say(context, "p-tuning", adapted, f"from the encoder {settings.encoder}")
    return adapted


def say(context: Context, name: str, adapted: SoftPrompt, how: str) -> None:
    """Tell how many virtual tokens there are, and what they leave of the context."""
    left = adapted.handle.max_length
    rows = "" if left is None else f"; rows may have {left} tokens"
    context.reporter.say(f"{name}: {adapted.config.num_virtual_tokens} virtual tokens {how}{rows}")
