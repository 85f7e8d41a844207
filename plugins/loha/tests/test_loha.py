"""LoHa and LoKr are what they say: rank over r, Kronecker products, parameters, PEFT's own layout."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel

import tunesmith_loha
from tunesmith import RecipeError
from tunesmith_loha import LohaSettings, LokrSettings, adapters

IDS = torch.arange(3, 40).view(1, -1)
# hidden 32, keys and values 16, inner 64, two blocks
SHAPES = 2 * [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]


def trained(adapted, steps=3):
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.05)
    for _ in range(steps):
        adapted.model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.model.eval()
    return adapted


def layer_of(adapted, name="model.layers.1.mlp.down_proj"):
    return adapted.model.base_model.model.get_submodule(name)


def count(adapted):
    return sum(p.numel() for p in adapted.trainable().values())


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_loha)


@pytest.mark.parametrize("rank", [2, 3])
def test_the_rank_of_lohas_update_is_the_square_of_r(tiny_handle, context, rank):
    adapted = trained(adapters.loha(tiny_handle, LohaSettings(rank=rank), context))
    update = layer_of(adapted).get_delta_weight("default").detach()
    assert torch.linalg.matrix_rank(update / update.abs().max(), atol=1e-6) == rank**2


def test_loha_has_twice_the_parameters_of_lora(tiny_handle, context):
    adapted = adapters.loha(tiny_handle, LohaSettings(rank=4), context)
    assert count(adapted) == 2 * sum(4 * (a + b) for a, b in SHAPES)


@pytest.mark.parametrize("settings", [LokrSettings(rank=2), LokrSettings(rank=1, decompose_both=True, alpha=4)])
def test_lokrs_update_is_a_kronecker_product(tiny_handle, context, settings):
    base = copy.deepcopy(tiny_handle.model).get_parameter("model.layers.1.mlp.down_proj.weight")
    adapted = trained(adapters.lokr(tiny_handle, settings, context))
    kept = {
        name.split("lokr_")[1].split(".")[0]: p for name, p in layer_of(adapted).named_parameters() if "lokr" in name
    }
    small = kept["w1"] if "w1" in kept else kept["w1_a"] @ kept["w1_b"]
    large = kept["w2"] if "w2" in kept else kept["w2_a"] @ kept["w2_b"]
    assert ("w1_a" in kept) == settings.decompose_both
    update = torch.kron(small, large).detach() * settings.alpha / settings.rank
    assert update.abs().max() > 0
    merged = adapted.merge().get_parameter("model.layers.1.mlp.down_proj.weight")
    torch.testing.assert_close(merged - base, update, rtol=1e-4, atol=1e-5)


def test_lokrs_parameters_by_hand(tiny_handle, context):
    # 64 = 8 x 8 and 32 = 4 x 8: C is 4 x 8 whole, D is 8 x 8 as a product of rank 2
    settings = LokrSettings(rank=2, target_modules=("down_proj",))
    assert count(adapters.lokr(tiny_handle, settings, context)) == 2 * (4 * 8 + 2 * (8 + 8))


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [(256, None, (16, 16)), (128, None, (8, 16)), (127, None, (1, 127)), (128, 4, (4, 32)), (30, 4, (3, 10))],
)
def test_factors(size, wanted, expected):
    assert adapters.factors(size, wanted) == expected


@pytest.mark.parametrize("name", ["loha", "lokr"])
def test_peft_reads_the_artifact(tiny_handle, context, tmp_path, name):
    base = copy.deepcopy(tiny_handle.model)
    settings = LohaSettings(rank=2) if name == "loha" else LokrSettings(rank=2)
    adapted = trained(getattr(adapters, name)(tiny_handle, settings, context))
    adapted.save(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(loaded(IDS).logits, adapted.model(IDS).logits, rtol=0, atol=0)


@pytest.mark.parametrize(("apply", "settings"), [(adapters.loha, LohaSettings), (adapters.lokr, LokrSettings)])
def test_what_does_not_fit_is_refused(tiny_handle, context, apply, settings):
    with pytest.raises(RecipeError, match="no linear layer called 'c_attn'") as error:
        apply(tiny_handle, settings(target_modules=("c_attn",)), context)
    assert "q_proj" in str(error.value)
    with pytest.raises(RecipeError, match="rank = 17 is over the size of .*k_proj"):
        apply(tiny_handle, settings(rank=17), context)


@pytest.mark.parametrize("name", ["loha", "lokr"])
def test_a_run_keeps_the_adapter(house, name):
    run = house.run(f'adapter={{use="{name}",rank=2,module_dropout=0.1}}', "trainer.max_steps=2")
    assert (run.folder / "artifact" / "adapter_model.safetensors").is_file()
