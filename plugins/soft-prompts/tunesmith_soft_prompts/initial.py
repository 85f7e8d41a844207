"""Where virtual tokens start from."""

from __future__ import annotations

import torch

from tunesmith import ModelHandle, RecipeError


def vectors(handle: ModelHandle, count: int, init: str, text: str | None) -> torch.Tensor:
    """The virtual tokens that `prompt` starts from: (count, hidden), float32.

    Random tokens and noise come from torch's generator, so they depend on the run's seed alone.

    Raises:
        RecipeError: the text has no tokens.
    """
    embeddings = handle.model.get_input_embeddings()
    weight = embeddings.weight  # (V, H)
    if init == "random":
        noise = torch.randn(count, weight.shape[1])
        return noise * weight.float().std().item() + weight.float().mean().item()
    # rows of the embedding that the tokenizer never uses are left out
    used = min(len(handle.tokenizer), weight.shape[0])
    ids = text_ids(handle, text, count) if init == "text" else torch.randint(used, (count,))
    with torch.no_grad():  # the module is called, since some scale what they look up
        return embeddings(ids.to(weight.device)).float().cpu()  # (count, H)


def keys_and_values(handle: ModelHandle, count: int, text: str | None) -> torch.Tensor:
    """What `count` tokens of a text leave in the cache: (count, layers x 2 x kv heads x head dim), float32.

    A prefix that holds it acts exactly as the text in front of the row.

    Raises:
        RecipeError: the text has no tokens, or the layers do not all keep them.
    """
    model = handle.model
    ids = text_ids(handle, text, count).to(model.device).unsqueeze(0)  # (1, count)
    with torch.no_grad():
        cache = model(input_ids=ids, use_cache=True).past_key_values
    kept = [part for layer in cache.layers for part in (layer.keys, layer.values)]  # each (1, heads, count, dim)
    if any(tuple(part.shape) != tuple(kept[0].shape) for part in kept) or kept[0].shape[2] != count:
        raise RecipeError(
            'init = "text" needs a model whose layers all keep the same keys and values',
            fix='Set init = "zero" in [adapter].',
        )
    layers = torch.stack([part[0].transpose(0, 1) for part in kept], dim=1)  # (count, 2 x layers, heads, dim)
    return layers.reshape(count, -1).float().cpu()


def text_ids(handle: ModelHandle, text: str | None, count: int) -> torch.Tensor:
    """The tokens of a text, repeated or cut to `count`: (count,).

    Raises:
        RecipeError: it has none.
    """
    ids = handle.tokenizer(text or "", add_special_tokens=False)["input_ids"]
    if not ids:
        raise RecipeError(f"init_text = {text!r} has no tokens", fix="Write a text in [adapter].")
    return torch.tensor((ids * (count // len(ids) + 1))[:count])
