"""Batched generation gives what one prompt at a time gives."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from tunesmith import Context, DataError, ModelHandle, Stopped
from tunesmith.context import SilentReporter, StopFlag
from tunesmith_transformers.evaluation.generation import generate


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(256) for _ in range(draw.randint(1, 40))] for _ in range(count)]


def greedy(handle: ModelHandle, prompt: list[int], limit: int) -> str:
    """One prompt, no padding, no cache, no library's generate: the likeliest token, again and again."""
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + limit:
            token = handle.model(torch.tensor([ids])).logits[0, -1].argmax().item()
            if token == handle.tokenizer.eos_token_id:
                break
            ids.append(token)
    return handle.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_answer_as_single_prompts_do(tiny_handle: ModelHandle, batch_size: int) -> None:
    asked = prompts(9)
    expected = [greedy(tiny_handle, prompt, 12) for prompt in asked]
    assert generate(tiny_handle, asked, max_new_tokens=12, batch_size=batch_size) == expected
    assert len(set(expected)) > 3


def test_an_answer_ends_at_the_end_token_while_others_go_on(tiny_handle: ModelHandle) -> None:
    asked = prompts(6)
    whole = [greedy(tiny_handle, prompt, 8) for prompt in asked]
    # whatever the model says third in the first answer becomes its end token
    with torch.no_grad():
        ids = tiny_handle.model.generate(torch.tensor([asked[0]]), max_new_tokens=8, do_sample=False)[0]
    end = ids[len(asked[0]) + 2].item()
    tiny_handle.model.generation_config.eos_token_id = [end]
    answers = generate(tiny_handle, asked, max_new_tokens=8)
    first = ids[len(asked[0]) :].tolist()
    assert answers[0] == tiny_handle.tokenizer.decode(first[: first.index(end)], skip_special_tokens=True)
    assert all(answer == full[: len(answer)] for answer, full in zip(answers, whole, strict=True))


def test_the_models_own_generation_settings_are_left_out_and_put_back(
    tiny_handle: ModelHandle, recwarn: pytest.WarningsRecorder
) -> None:
    asked = prompts(4)
    expected = generate(tiny_handle, asked, max_new_tokens=10)
    own = tiny_handle.model.generation_config
    own.do_sample, own.temperature, own.top_p, own.min_p = True, 5.0, 0.9, 0.1
    own.repetition_penalty, own.min_new_tokens, own.suppress_tokens = 9.0, 4, list(range(100))
    recwarn.clear()
    assert generate(tiny_handle, asked, max_new_tokens=10) == expected
    assert tiny_handle.model.generation_config is own
    assert own.repetition_penalty == 9.0
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_is_put_back(tiny_handle: ModelHandle, training: bool) -> None:
    tiny_handle.model.train(training)
    generate(tiny_handle, prompts(1), max_new_tokens=2)
    assert tiny_handle.model.training is training


def test_a_temperature_draws_by_the_seed_and_leaves_other_draws_alone(tiny_handle: ModelHandle) -> None:
    asked = prompts(3)
    state = torch.random.get_rng_state()
    first = generate(tiny_handle, asked, max_new_tokens=12, temperature=2.0, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert generate(tiny_handle, asked, max_new_tokens=12, temperature=2.0, seed=1) == first
    assert generate(tiny_handle, asked, max_new_tokens=12, temperature=2.0, seed=2) != first


def test_a_peft_model_answers_with_its_adapter(tiny_handle: ModelHandle) -> None:
    from peft import LoraConfig, get_peft_model

    asked = prompts(5)
    base = generate(tiny_handle, asked, max_new_tokens=10)
    tiny_handle.model = get_peft_model(
        tiny_handle.model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    ).eval()
    tuned = generate(tiny_handle, asked, max_new_tokens=10)
    assert tuned == [greedy(tiny_handle, prompt, 10) for prompt in asked]
    assert tuned != base


def test_a_prompt_must_have_tokens_and_fit_the_context(tiny_handle: ModelHandle) -> None:
    with pytest.raises(DataError, match="prompt 2 of 2 has no tokens"):
        generate(tiny_handle, [[1], []], max_new_tokens=1)
    assert tiny_handle.max_length is not None
    with pytest.raises(DataError, match="longer than the model's context"):
        generate(tiny_handle, [[1] * tiny_handle.max_length], max_new_tokens=1)
    assert generate(tiny_handle, [], max_new_tokens=1) == []


def test_a_stop_comes_between_batches(tiny_handle: ModelHandle) -> None:
    stop = StopFlag()

    class StopsAfterTwo(SilentReporter):
        told: list[tuple[int, int]] = []  # noqa: RUF012

        def progress(self, step: int, total: int, metrics: Mapping[str, Any]) -> None:
            self.told.append((step, total))
            if step == 2:
                stop.set(signal.SIGTERM)

    context = Context(reporter=StopsAfterTwo(), stop=stop)
    tiny_handle.model.train()
    with pytest.raises(Stopped, match="generate"):
        generate(tiny_handle, prompts(4), max_new_tokens=2, batch_size=1, context=context)
    assert StopsAfterTwo.told == [(1, 4), (2, 4)]
    assert tiny_handle.model.training
