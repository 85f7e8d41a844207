"""How many parameters each method trains, by its own definition."""

from __future__ import annotations

from typing import Any

from tunesmith_soft_prompts.settings import MultitaskPromptSettings, PrefixSettings, PromptSettings, PTuningSettings


def prompt(model: Any, settings: PromptSettings) -> int:
    """virtual_tokens x hidden."""
    return settings.virtual_tokens * embedding_size(model)


def multitask_prompt(model: Any, settings: MultitaskPromptSettings) -> int:
    """virtual_tokens x hidden, and tasks x rank x (virtual_tokens + hidden)."""
    hidden = embedding_size(model)
    own = len(settings.tasks) * settings.rank * (settings.virtual_tokens + hidden)
    return settings.virtual_tokens * hidden + own


def prefix(model: Any, settings: PrefixSettings) -> int:
    """virtual_tokens x 2 x layers x kv heads x head dim; with a projection, the network that computes them."""
    layers, width = cached(model)
    if not settings.projection:
        return settings.virtual_tokens * 2 * layers * width
    inner = settings.projection_size or embedding_size(model)
    return settings.virtual_tokens * width + _linear(width, inner) + _linear(inner, 2 * layers * width)


def p_tuning(model: Any, settings: PTuningSettings) -> int:
    """virtual_tokens x hidden, and the encoder."""
    hidden = embedding_size(model)
    inner = settings.encoder_size or hidden
    vectors = settings.virtual_tokens * hidden
    if settings.encoder == "mlp":
        return vectors + _linear(hidden, inner) + _linear(inner, inner) + _linear(inner, hidden)
    inputs = [hidden, *[2 * inner] * (settings.lstm_layers - 1)]
    # two directions, four gates, and a bias each for the input and the state
    lstm = sum(2 * 4 * (inner * size + inner * inner + 2 * inner) for size in inputs)
    return vectors + lstm + _linear(2 * inner, 2 * inner) + _linear(2 * inner, hidden)


def embedding_size(model: Any) -> int:
    """Length of the vectors that the model takes in the place of token embeddings."""
    return int(model.get_input_embeddings().weight.shape[1])


def cached(model: Any) -> tuple[int, int]:
    """Attention layers, and the length of the keys of one token in a layer: kv heads x head dim."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    return config.num_hidden_layers, (getattr(config, "num_key_value_heads", None) or heads) * dim


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
