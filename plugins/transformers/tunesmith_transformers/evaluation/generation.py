"""Batched generation: prompts as token ids in, answers as text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from tunesmith import Context, DataError, ModelHandle
from tunesmith_transformers.tokens.batching import by_length, column_tensors
from tunesmith_transformers.tokens.ends import end_ids, listed


def generate(
    handle: ModelHandle,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int = 16,
    temperature: float = 0.0,
    seed: int = 0,
    columns: Sequence[Mapping[str, int]] = (),
    context: Context | None = None,
) -> list[str]:
    """The model's answer to each prompt as text without its end token; see `generate_tokens`."""
    tokenizer = handle.tokenizer
    ends = end_tokens(handle.model, tokenizer)
    drawn = generate_tokens(
        handle,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        temperature=temperature,
        seed=seed,
        columns=columns,
        context=context,
    )
    return [decoded(ids, ends, tokenizer) for ids in drawn]


def generate_tokens(
    handle: ModelHandle,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int = 16,
    temperature: float = 0.0,
    seed: int = 0,
    columns: Sequence[Mapping[str, int]] = (),
    context: Context | None = None,
) -> list[list[int]]:
    """The model's answer to each prompt as token ids, in the order of the prompts.

    Prompts of like length share a batch, padded on the left. What the model's own generation settings hold
    (a temperature, a repetition penalty, forced tokens) is left out, except for its end tokens: a measurement
    must not depend on them. The model's training mode is put back.

    Args:
        prompts: token ids, at least one a prompt; with the answer they must fit the model's context.
        max_new_tokens: longest answer, in tokens.
        batch_size: prompts that are answered at once.
        temperature: 0 takes the likeliest token; above 0 a token is drawn from softmax(logits / temperature).
        seed: of the draws; without a temperature it has no effect.
        columns: what the model takes for each prompt besides tokens; empty where it takes nothing else.
        context: told of progress, and asked between batches whether to stop.

    Returns:
        The tokens after each prompt, up to its end token and with it; without one where the answer did not end.

    Raises:
        DataError: a prompt is empty, or does not fit the context.
        Stopped: the context says so.
    """
    context = context or Context()
    _check(prompts, max_new_tokens, handle.max_length)
    model, tokenizer = handle.model, handle.tokenizer
    ends = end_tokens(model, tokenizer)
    sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        use_cache=True,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
        **sampling,
    )
    answers: list[list[int]] = [[] for _ in prompts]
    batches = by_length([len(prompt) for prompt in prompts], batch_size)
    with _prepared(model, config), torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for number, batch in enumerate(batches, 1):
            context.check_stop("generate")
            inputs = _padded([prompts[index] for index in batch], tokenizer.pad_token_id)
            length = inputs["input_ids"].shape[1]
            inputs |= column_tensors([columns[index] for index in batch] if columns else [])
            inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
            # PEFT wants every argument by name
            output = model.generate(**inputs, generation_config=config)[:, length:]  # (B, <= max_new_tokens)
            for index, ids in zip(batch, output.tolist(), strict=True):
                text = _until(ids, ends)
                answers[index] = ids[: len(text) + 1]
            context.reporter.progress(number, len(batches), {})
    return answers


def _check(prompts: Sequence[Sequence[int]], max_new_tokens: int, limit: int | None) -> None:
    for number, prompt in enumerate(prompts, 1):
        if not prompt:
            raise DataError(f"prompt {number} of {len(prompts)} has no tokens", fix="Leave empty prompts out.")
        if limit is not None and len(prompt) + max_new_tokens > limit:
            raise DataError(
                f"prompt {number} of {len(prompts)} has {len(prompt)} tokens; with {max_new_tokens} new ones it is "
                f"longer than the model's context of {limit}",
                fix="Lower max_new_tokens, or leave long prompts out.",
            )


def _padded(prompts: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, each (B, T), padded on the left so that all answers start together."""
    longest = max(len(prompt) for prompt in prompts)
    ids = [[*[pad_token_id] * (longest - len(prompt)), *prompt] for prompt in prompts]
    mask = [[*[0] * (longest - len(prompt)), *[1] * len(prompt)] for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def decoded(ids: Sequence[int], ends: Sequence[int], tokenizer: Any) -> str:
    """The text of an answer, without its end token."""
    return tokenizer.decode(_until(ids, ends), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The end tokens that training supervises (`tokens.ends`), and those of the model's present settings."""
    own = listed(getattr(_inner(model).generation_config, "eos_token_id", None))
    return sorted({*own, *end_ids(tokenizer)})


def _until(ids: Sequence[int], ends: Sequence[int]) -> Sequence[int]:
    return next((ids[:position] for position, token in enumerate(ids) if token in ends), ids)


@contextmanager
def _prepared(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Evaluation mode, and `config` in place of the model's own generation settings."""
    # `generate` fills whatever a given configuration leaves open from the model's own
    inner = _inner(model)
    was_training, earlier = model.training, inner.generation_config
    model.eval()
    inner.generation_config = config
    try:
        yield
    finally:
        inner.generation_config = earlier
        model.train(was_training)


def _inner(model: Any) -> Any:
    """The model below any wrapper of PEFT."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
