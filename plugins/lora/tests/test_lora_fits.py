"""What a model does not have is refused by the plan, which knows the names and shapes of its stored tensors alone."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tunesmith import Context, RecipeError
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith_lora import LoraSettings
from tunesmith_lora.check import fits
from tunesmith_transformers.peft.adapted import linear_names, target_layers
from tunesmith_transformers.peft.layers import sides
from tunesmith_transformers.peft.stored import known, sizes
from tunesmith_transformers.sources import configuration, stored_shapes
from tunesmith_transformers.training.settings import ModelSettings

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}
KINDS = {
    "LlamaConfig": {"intermediate_size": 24, "tie_word_embeddings": True},
    "GPT2Config": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40},
    "StableLmConfig": {"intermediate_size": 24},
    "OPTConfig": {"ffn_dim": 24, "word_embed_proj_dim": 16},
    "Phi3Config": {"intermediate_size": 24, "pad_token_id": 0},
    "BertConfig": {"intermediate_size": 24},
}


@pytest.fixture
def planned(house):
    return lambda *sets: make_plan(read(house.folder / "recipe.toml", sets), house.make_registry())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('target_modules=["q_proj","v_porj"]', "the model has no linear layer called 'v_porj'"),
        ('target_modules=["model.layers.7.self_attn.q_proj"]', "no linear layer called 'model.layers.7"),
        ('target_modules=["embed_tokens"]', "no linear layer called 'embed_tokens'"),
        ('target_modules=["input_layernorm"]', "no linear layer called 'input_layernorm'"),
        ("rank_pattern={q_porj=2}", "no linear layer called 'q_porj'"),
        ("alpha_pattern={q_porj=2}", "no linear layer called 'q_porj'"),
        ('modules_to_save=["nrom"]', "no module called 'nrom'"),
        ('target_parameters=["experts.down_proj"]', "no fused weights called 'experts.down_proj'"),
    ],
)
def test_what_is_not_in_the_model_the_plan_refuses(planned, more, said):
    with pytest.raises(RecipeError) as error:
        planned(f'adapter={{use="lora",rank=4,{more}}}')
    assert said in error.value.what
    assert error.value.fix
    assert error.value.where
    assert error.value.setting[0] in more


@pytest.mark.parametrize(
    "more",
    [
        'target_modules=["layers.0.self_attn.q_proj","*.mlp.*"]',
        'target_modules=["q_proj","lm_head"]',
        'modules_to_save=["norm","layers.1.mlp"]',
        'rank_pattern={"*.layers.0.*"=2}',
    ],
)
def test_what_is_in_the_model_is_planned(planned, more):
    planned(f'adapter={{use="lora",rank=4,{more}}}')


@pytest.mark.parametrize("name", KINDS)
def test_names_and_sizes_are_those_of_the_model_itself(name, tmp_path):
    given = KINDS[name] if name == "GPT2Config" else SMALL | KINDS[name]
    kind = AutoModelForSequenceClassification if name == "BertConfig" else AutoModelForCausalLM
    model = kind.from_config(getattr(transformers, name)(**given))
    model.save_pretrained(tmp_path)
    settings, context = ModelSettings(source=str(tmp_path)), Context(folder=tmp_path)
    config, shapes = configuration.directory(settings, context), stored_shapes.directory(settings, context)
    assert known(config, shapes) == {key: tuple(value.shape) for key, value in _stored(tmp_path).items()}
    for target in linear_names(model):
        fits(LoraSettings(target_modules=(target,), rank=1), config, "causal-lm", shapes)
    blocks = {key: sides(layer) for key, layer in target_layers(model, "all-linear").items() if ".0." in key}
    found = {key: value for key, value in sizes(config, "all-linear", shapes).items() if ".0." in key}
    assert {key.split(".0.")[1]: value for key, value in blocks.items()} == {
        key.split(".0.")[1]: value for key, value in found.items()
    }
    smallest = min(min(value) for value in blocks.values())
    fits(LoraSettings(rank=smallest), config, "causal-lm", shapes)
    with pytest.raises(RecipeError, match=f"rank = {smallest + 1} is over the size of"):
        fits(LoraSettings(rank=smallest + 1), config, "causal-lm", shapes)


def _stored(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_of_a_model_that_is_fused_while_it_is_loaded_nothing_is_said(planned, experts_folder, house):
    source = f"model.source={experts_folder}"
    plan = planned(source, 'adapter={use="lora",rank=4,target_modules=["w1"],target_parameters=["experts.nothing"]}')
    notes = plan.stages[0].main_role.model.notes
    assert any("experts' weights" in note and "target_parameters" in note for note in notes)
    plan = planned(source, "model.router_aux_loss_coef=0.5")
    assert plan.stages[0].main_role.model.settings.router_aux_loss_coef == 0.5


def test_a_balancing_loss_of_a_dense_model_is_refused_by_the_plan(planned):
    with pytest.raises(RecipeError) as error:
        planned("model.router_aux_loss_coef=0.5")
    assert "llama has no loss that balances experts" in error.value.what
    assert error.value.where


@pytest.mark.parametrize("damage", ["cut", "gone", "no length", "packed"])
def test_tensors_that_cannot_be_read_are_left_to_the_run(tmp_path, damage):
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    path = tmp_path / "model.safetensors"
    tensor = torch.zeros(2, 2, dtype=torch.uint8 if damage == "packed" else torch.float32)
    save_file({"model.layers.0.mlp.up_proj.weight": tensor}, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:20])
    elif damage == "no length":
        path.write_bytes(b"\xff" * 20)
    elif damage == "gone":
        path.unlink()
    assert stored_shapes.of_folder(tmp_path) is None


def test_the_files_of_an_index_are_read_together(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for number in (1, 2):
        save_file({f"a{number}.weight": torch.zeros(number, 2)}, tmp_path / f"model-{number}.safetensors")
    places = {f"a{number}.weight": f"model-{number}.safetensors" for number in (1, 2)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert stored_shapes.of_folder(tmp_path) == {"a1.weight": (1, 2), "a2.weight": (2, 2)}


def test_a_measure_that_no_evaluator_gives_is_refused_by_the_plan(planned):
    with pytest.raises(RecipeError) as error:
        planned("trainer.eval_steps=2", "trainer.metric_for_best_model=perplexty")
    assert "metric_for_best_model = 'perplexty'" in error.value.what
    planned("trainer.eval_steps=2", "trainer.metric_for_best_model=perplexity")
