"""An adapter on the head is trained by the model's own loss, also where the head is tied to the embedding."""

from __future__ import annotations

import pytest
import torch

from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply
from tunesmith_sft import SftSettings
from tunesmith_sft.trainer import SupervisedPositions


@pytest.mark.parametrize("tie", [False, True])
def test_the_loss_and_the_gradient_are_transformers_own(tiny_handle, context, tmp_path, tie):
    from trl import SFTConfig

    model = tiny_handle.model
    if tie:
        model.config.tie_word_embeddings = True
        model.lm_head.weight = model.model.embed_tokens.weight
    settings = LoraSettings(rank=4, target_modules=("lm_head",), init="gaussian")
    adapted = apply(tiny_handle, settings, context)
    arguments = SFTConfig(output_dir=str(tmp_path), report_to=[], bf16=False, use_cpu=True, max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True})  # fmt: skip
    from datasets import Dataset

    rows = Dataset.from_list([{"input_ids": list(range(3, 15)), "labels": list(range(3, 15))}])
    trainer = SupervisedPositions(
        model=adapted.model,
        settings=SftSettings(),
        args=arguments,
        train_dataset=rows,
        processing_class=tiny_handle.tokenizer,
    )
    ids = torch.arange(3, 27).view(2, -1)
    labels = torch.where(ids % 3 == 0, -100, ids)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    loss = trainer.compute_loss(adapted.model, dict(inputs))
    theirs = adapted.model(**inputs).loss
    torch.testing.assert_close(loss, theirs)
    own = torch.autograd.grad(loss, list(adapted.trainable().values()))
    expected = torch.autograd.grad(theirs, list(adapted.trainable().values()))
    assert any(gradient.abs().max() > 1e-4 for gradient in own)
    for one, other in zip(own, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert "get_output_embeddings" not in vars(adapted.model)
