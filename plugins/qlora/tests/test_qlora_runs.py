"""Whole runs over a quantized base: the plan's word, exact resumes, artifacts, and bases that are quantized already."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from tunesmith import MissingError, RecipeError, Registry
from tunesmith.artifact import load_artifact
from tunesmith.context import Context
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.stage import evaluate, load_data

PRESET = ("preset=qlora", "run.device=cpu")
PAGED = "trainer sft: paged_adamw_32bit pages its state between GPU and host; on cpu adamw_torch is used instead"


def planned(house, *sets):
    return make_plan(read(house.folder / "recipe.toml", sets), house.make_registry())


def notes(plan):
    return [f"{note['kind']} {note['name']}: {note['note']}" for note in plan.stages[0].notes()]


def tensors(run):
    return load_file(run.folder / "artifact" / "adapter_model.safetensors")


# --- the plan ---------------------------------------------------------------------------------
def test_the_preset_plans_qlora_and_says_what_a_cpu_lacks(house):
    plan = planned(house, *PRESET)
    role = plan.stages[0].main_role
    assert role.quantizer.component.name == "nf4"
    assert role.quantizer.settings.double_quant
    assert (role.adapter.component.name, role.adapter.settings.target_modules) == ("lora", "all-linear")
    assert plan.stages[0].trainer.settings.optim == "paged_adamw_32bit"
    said = notes(plan)
    assert "quantizer nf4: computes in float32 on cpu" in said
    assert PAGED in said


def test_a_recipe_may_stop_where_an_optimizer_is_not_to_be_had(house):
    with pytest.raises(RecipeError, match="'paged_adamw_8bit' pages its state") as caught:
        planned(house, *PRESET, "trainer.optim=paged_adamw_8bit", "trainer.optim_unavailable=stop")
    assert caught.value.exit_code == 78
    assert caught.value.where == "--set trainer.optim=paged_adamw_8bit"
    assert 'Set optim = "adamw_8bit"' in caught.value.fix


def test_an_optimizer_of_bitsandbytes_needs_it(house, monkeypatch):
    monkeypatch.setattr("tunesmith_transformers.training.packages.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    with pytest.raises(MissingError, match="optim = 'adamw_8bit' needs bitsandbytes") as caught:
        planned(house, "trainer.optim=adamw_8bit")
    assert caught.value.exit_code == 69


def test_bitsandbytes_that_is_missing_is_named(house, monkeypatch):
    from tunesmith import registry

    found = registry.importable
    monkeypatch.setattr(registry, "importable", lambda name: name != "bitsandbytes" and found(name))
    with pytest.raises(MissingError, match="quantizer 'nf4' needs bitsandbytes, not installed here") as caught:
        planned(house, *PRESET)
    assert caught.value.exit_code == 69


# --- runs -------------------------------------------------------------------------------------
def test_a_run_keeps_the_adapter_alone_and_comes_back_to_the_bit(house):
    run = house.run(*PRESET)
    kept = run.folder / "artifact"
    card = json.loads((kept / "tunesmith.json").read_text())
    assert card["base"]["quantized"] == "nf4"
    assert card["line"]["quantizer"]["settings"]["double_quant"] is True
    assert all(".lora_" in name and tensor.dtype == torch.float32 for name, tensor in tensors(run).items())
    facts = run.results["main"].facts["quantization"]
    assert facts["quantizer"] == "nf4"
    assert facts["bits_a_parameter"] < 11  # tables of 1,092 bytes a layer weigh heavily on so small a model
    assert "bits a parameter" in (run.folder / "report.html").read_text()

    registry = house.make_registry()
    context = Context(device="cpu", folder=house.folder, seed=run.plan.run.seed)
    adapted = load_artifact(kept, registry, context)
    stage = run.plan.stages[0]
    again = evaluate(stage.evaluators, adapted.handle, load_data(stage, context), context)
    assert again["measures"] == run.results["main"].after["measures"]


@pytest.mark.parametrize("optim", ["paged_adamw_32bit", "paged_adamw_8bit"])
def test_a_stopped_run_ends_in_the_same_bits(house, optim):
    sets = (*PRESET, f"trainer.optim={optim}")
    whole = tensors(house.run(*sets))
    resumed = tensors(house.resume(house.stopped(3, *sets)))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_an_adapter_that_is_not_of_peft_trains_over_four_bits(house):
    run = house.run("quantizer.use=nf4", "adapter={use='regex', pattern='norm'}")
    result = run.results["main"]
    assert result.after["measures"]["perplexity"]["value"] < result.before["measures"]["perplexity"]["value"]


def test_all_weights_cannot_be_trained_over_four_bits(house):
    with pytest.raises(RecipeError, match="the adapter full needs dense weights, and .* is quantized \\(nf4\\)"):
        house.run("quantizer.use=nf4", "adapter={use='full'}")


# --- bases that are quantized already ---------------------------------------------------------
@pytest.fixture
def packed(house, tiny_folder):
    """A folder that holds the tiny model in NF4, as bitsandbytes saves it."""
    import transformers

    config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder, quantization_config=config)
    folder = house.folder / "packed"
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder


def test_a_folder_of_bitsandbytes_is_used_as_it_is(house, packed):
    sets = (f"model.source={packed}",)
    used = "model directory: the base is stored quantized (nf4) and is used as it is; adapters are trained over it"
    assert used in notes(planned(house, *sets))
    run = house.run(*sets)
    assert json.loads((run.folder / "artifact" / "tunesmith.json").read_text())["base"]["quantized"] == "nf4"
    result = run.results["main"]
    assert result.after["measures"]["perplexity"]["value"] < result.before["measures"]["perplexity"]["value"]


def test_what_is_quantized_already_is_not_quantized_again(house, packed):
    with pytest.raises(RecipeError, match="stored quantized \\(nf4\\) already, and int8 cannot quantize it") as caught:
        planned(house, f"model.source={packed}", "quantizer.use=int8")
    assert caught.value.exit_code == 78
    assert "recipe.toml" in caught.value.where or "--set" in caught.value.where


@pytest.mark.parametrize(("method", "needs"), [("gptq", "gptqmodel, optimum"), ("awq", "gptqmodel"), ("hqq", "hqq")])
def test_a_method_that_cannot_be_loaded_here_is_refused_with_the_reason(house, tiny_folder, method, needs):
    import shutil

    folder = house.folder / method
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": method, "bits": 4}})
    )
    with pytest.raises(MissingError, match=f"stored quantized \\({method}\\), which needs {needs}") as caught:
        planned(house, f"model.source={folder}")
    assert caught.value.exit_code == 69


def test_the_plan_says_what_of_the_preset_does_not_apply_under_another_trainer(house):
    recipe = read(house.folder / "recipe.toml", (*PRESET, "trainer.use=cpo", "trainer.save_steps=2"))
    said = notes(make_plan(recipe, Registry.discover()))
    assert any("preset qlora sets optim = 'paged_adamw_32bit' for 'sft' only, so not here" in note for note in said)


def test_a_module_to_skip_that_is_not_there_is_refused(house):
    with pytest.raises(RecipeError, match="skip_modules names 'k_prj'") as caught:
        house.run("quantizer.use=nf4", 'quantizer.skip_modules=["k_prj"]')
    assert "k_proj" in str(caught.value.details)
