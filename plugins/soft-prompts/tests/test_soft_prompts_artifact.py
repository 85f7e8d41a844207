"""What is saved loads back, in PEFT as well; and generation answers as the plain forward pass does."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from tunesmith import DataError
from tunesmith_soft_prompts import PrefixSettings, PromptSettings, PTuningSettings
from tunesmith_soft_prompts.adapters import p_tuning, prefix, prompt
from tunesmith_transformers.evaluation.generation import generate

METHODS = {
    "prompt": (prompt, PromptSettings(virtual_tokens=5)),
    "prefix": (prefix, PrefixSettings(virtual_tokens=5, init="random")),
    "projected": (prefix, PrefixSettings(virtual_tokens=5, projection=True, projection_size=6)),
    "p-tuning": (p_tuning, PTuningSettings(virtual_tokens=5)),
    "lstm": (p_tuning, PTuningSettings(virtual_tokens=5, encoder="lstm", lstm_dropout=0.5)),
}
ROW = torch.tensor([[5, 6, 7]])


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def trained(handle, method, context, steps=3):
    torch.manual_seed(1)
    adapted = method[0](handle, method[1], context)
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.05)
    ids = torch.arange(3, 40).view(1, -1)
    for _ in range(steps):
        adapted.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapted


def logits(model):
    model.eval()
    with torch.no_grad():
        return model(ROW).logits


def test_peft_reads_the_artifact(tiny_handle, context, tmp_path, method):
    from peft import PeftModel

    base = copy.deepcopy(tiny_handle.model)
    adapted = trained(tiny_handle, method, context)
    adapted.model.train()  # dropout must not reach what is saved
    adapted.save(tmp_path)
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(base, tmp_path)), logits(adapted.model), rtol=1e-5, atol=1e-5
    )


def test_training_goes_on_from_the_artifact(tiny_handle, context, tmp_path, method):
    other = copy.deepcopy(tiny_handle)
    adapted = trained(tiny_handle, method, context)
    adapted.save(tmp_path)
    loaded = method[0](other, method[1], context)
    loaded.load(tmp_path)
    torch.testing.assert_close(logits(loaded.model), logits(adapted.model), rtol=0, atol=0)
    assert loaded.trainable().keys() == adapted.trainable().keys()
    for name, tensor in adapted.trainable().items():
        torch.testing.assert_close(loaded.trainable()[name], tensor, rtol=0, atol=0)


def test_an_artifact_without_the_encoder_is_refused(tiny_handle, context, tmp_path):
    other = copy.deepcopy(tiny_handle)
    trained(tiny_handle, METHODS["p-tuning"], context).save(tmp_path)
    loaded = p_tuning(other, PTuningSettings(virtual_tokens=5), context)
    (tmp_path / "prompt_encoder.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="is damaged"):
        loaded.load(tmp_path)
    (tmp_path / "prompt_encoder.safetensors").unlink()
    with pytest.raises(DataError, match="not the network that computes them"):
        loaded.load(tmp_path)


def test_an_artifact_of_other_virtual_tokens_is_refused(tiny_handle, context, tmp_path):
    other = copy.deepcopy(tiny_handle)
    prompt(tiny_handle, PromptSettings(virtual_tokens=5), context).save(tmp_path)
    with pytest.raises(DataError, match="differ in name or shape"):
        prompt(other, PromptSettings(virtual_tokens=6), context).load(tmp_path)


def test_generation_takes_the_likeliest_tokens_of_the_forward_pass(tiny_handle, context, method):
    adapted = trained(tiny_handle, method, context)
    adapted.model.eval()
    prompt, ids = [72, 105, 33], []
    for _ in range(6):
        with torch.no_grad():
            ids.append(int(adapted.model(torch.tensor([prompt + ids])).logits[0, -1].argmax()))
        if ids[-1] == tiny_handle.tokenizer.eos_token_id:
            break
    expected = tiny_handle.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    handle = replace(adapted.handle, model=adapted.model)
    assert generate(handle, [prompt], max_new_tokens=6) == [expected]


def test_an_answer_does_not_depend_on_the_batch(tiny_handle, context, method):
    adapted = trained(tiny_handle, method, context)
    adapted.model.eval()
    handle = replace(adapted.handle, model=adapted.model)
    prompts = [[72, 105], list(range(40, 60)), [80, 81, 82, 83, 84]]
    alone = [generate(handle, [prompt], max_new_tokens=8)[0] for prompt in prompts]
    assert generate(handle, prompts, max_new_tokens=8) == alone
    padded = torch.tensor([[0] * 4 + [5, 6, 7]])
    mask = torch.tensor([[0] * 4 + [1] * 3])
    with torch.no_grad():
        shifted = adapted.model(padded, attention_mask=mask).logits[:, -3:]
    torch.testing.assert_close(shifted, logits(adapted.model)[:, -3:], rtol=1e-4, atol=1e-5)
