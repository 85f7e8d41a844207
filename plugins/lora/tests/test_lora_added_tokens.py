"""Tokens that a recipe adds: new rows that begin as the mean, are trained with LoRA, saved, merged and loaded again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tunesmith import Context, RecipeError
from tunesmith.artifact import load_artifact
from tunesmith.testing import tiny_folder as make_folder
from tunesmith.testing.tiny import tiny_model, tiny_tokenizer
from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply
from tunesmith_transformers.sources import claims, shapes_only
from tunesmith_transformers.sources.factories import directory
from tunesmith_transformers.training.settings import ModelSettings

TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|im_end|>", "gizmo")
IDS = torch.tensor([[5, 260, 263, 262, 7]])


@pytest.fixture(params=[False, True], ids=["apart", "tied"])
def source(request, tmp_path):
    """A folder of the tiny model, with head and embedding apart or tied."""
    folder, model = make_folder(tmp_path / "model"), tiny_model()
    model.config.tie_word_embeddings = request.param
    model.tie_weights()
    model.save_pretrained(folder)
    return folder


def loaded(folder: Path, **settings):
    wanted = {"chat_template": Path("phi"), "add_tokens": TOKENS, **settings}
    handle = directory(
        ModelSettings(source=str(folder), **wanted), Context(folder=folder, device="cpu"), "causal-lm", {}
    )
    for parameter in handle.model.parameters():
        parameter.requires_grad_(False)
    return handle


def test_new_rows_are_the_mean_of_the_old_and_old_ones_stay(source):
    plain, handle = loaded(source, chat_template=None, add_tokens=()), loaded(source)
    assert handle.added == (259, 260, 261, 262, 263)
    assert "the vocabulary has <|im_end|> already" in handle.notes
    assert any("new rows begin as the mean of the others" in note for note in handle.notes)
    for part in ("get_input_embeddings", "get_output_embeddings"):
        before, after = getattr(plain.model, part)().weight, getattr(handle.model, part)().weight
        assert torch.equal(after[:259], before)
        for token in handle.added:
            assert torch.allclose(after[token], before.mean(dim=0), atol=1e-6)
    special = [handle.tokenizer.added_tokens_decoder[token].special for token in handle.added]
    assert special == [True, True, True, True, False]  # an ordinary word is shown in answers
    assert handle.tokenizer.tokenize("a gizmo<|end|>")[-2:] == ["gizmo", "<|end|>"]
    assert set(handle.model.generation_config.eos_token_id) == {257, 262}
    shapes = shapes_only.directory(
        ModelSettings(source=str(source), add_tokens=TOKENS), Context(folder=source, device="cpu"), "causal-lm"
    )
    assert shapes.model.get_input_embeddings().weight.shape == handle.model.get_input_embeddings().weight.shape


def test_room_that_the_embedding_has_is_used(tmp_path):
    """Published models pad their embedding: rows that no token had are no part of the mean."""
    model = tiny_model()
    mean = model.get_input_embeddings().weight[:259].mean(dim=0)
    model.resize_token_embeddings(320, mean_resizing=False)
    model.save_pretrained(tmp_path / "padded")
    tiny_tokenizer().save_pretrained(tmp_path / "padded")
    handle = loaded(tmp_path / "padded")
    weights = handle.model.get_input_embeddings().weight
    assert weights.shape[0] == 320
    assert torch.allclose(weights[260], mean, atol=1e-6)


def test_they_are_trained_saved_merged_and_loaded_again(source, tmp_path):
    handle = loaded(source)
    adapted = apply(handle, LoraSettings(rank=2), Context(folder=tmp_path))
    rows = [parameter for name, parameter in adapted.trainable().items() if "trainable_tokens" in name]
    tied = handle.model.config.tie_word_embeddings
    assert [tuple(row.shape) for row in rows] == [(5, 32)] * (1 if tied else 2)
    base = handle.model.get_input_embeddings().weight[:259].clone()
    optimizer = torch.optim.SGD(adapted.trainable().values(), lr=0.5)
    adapted.model(IDS, labels=IDS).loss.backward()
    assert all(row.grad.any() for row in rows)
    optimizer.step()
    adapted.model.eval()
    expected = adapted.model(IDS).logits
    adapted.save(tmp_path / "adapter")

    again = apply(loaded(source), LoraSettings(rank=2), Context(folder=tmp_path))
    again.load(tmp_path / "adapter")
    again.model.eval()
    assert torch.equal(again.model(IDS).logits, expected)
    merged = again.merge()
    assert torch.allclose(merged(IDS).logits, expected, atol=1e-4)
    assert torch.equal(merged.get_input_embeddings().weight[:259], base)  # only the new rows have moved
    merged.save_pretrained(tmp_path / "merged")
    again.handle.tokenizer.save_pretrained(tmp_path / "merged")
    served = loaded(tmp_path / "merged", chat_template=None, add_tokens=())
    assert torch.allclose(served.model(IDS).logits, expected, atol=1e-4)
    assert served.tokenizer.chat_template == handle.tokenizer.chat_template
    assert served.tokenizer.convert_tokens_to_ids("<|end|>") == 262
    assert set(served.model.generation_config.eos_token_id) == {257, 262}


def test_a_run_resumes_to_the_same_bits_and_its_artifact_has_the_vocabulary(house):
    sets = (
        'model.chat_template="phi"',
        'model.add_tokens=["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]',
        'export=[{use="merge"}]',
    )
    import tunesmith_export

    make = house.make_registry

    def with_export():
        registry = make()
        registry.add(tunesmith_export, distribution="tunesmith-export", version="0.1.0")
        return registry

    house.make_registry = with_export
    whole = house.run(*sets)
    told = whole.results["main"].facts["tokens"]
    assert told["rows"] == told["ends_with_eos"] == 36
    part = house.stopped(3, *sets)
    house.resume(part)
    weights = [(folder / "artifact" / "adapter_model.safetensors").read_bytes() for folder in (whole.folder, part)]
    assert weights[0] == weights[1]
    adapted = load_artifact(whole.folder / "artifact", with_export(), Context(device="cpu"))
    assert adapted.handle.added == (259, 260, 261, 262)
    (merged,) = [Path(place) for place in whole.results["main"].exports]
    plain = loaded(merged, chat_template=None, add_tokens=())
    ids = torch.tensor([[5, 260, 261, 262]])
    assert torch.allclose(plain.model(ids).logits, adapted.model(ids).logits, atol=1e-4)


def test_a_plan_says_what_is_added_and_refuses_an_adapter_that_would_not_train_it(house, tmp_path):
    import tunesmith_ia3
    from tunesmith.plan import make_plan
    from tunesmith.recipe import read

    registry = house.make_registry()
    registry.add(tunesmith_ia3, distribution="tunesmith-ia3", version="0.1.0")
    added = 'model.add_tokens=["<|end|>"]'
    (stage,) = make_plan(read(house.folder / "recipe.toml", [added]), registry).stages
    assert any("<|end|>; they begin as the mean" in note["note"] for note in stage.notes())
    with pytest.raises(RecipeError, match="adapter 'ia3' does not train the tokens that add_tokens adds"):
        make_plan(read(house.folder / "recipe.toml", [added, 'adapter={use="ia3"}']), registry)
    assert claims.added(ModelSettings(source="a/b")) == []
