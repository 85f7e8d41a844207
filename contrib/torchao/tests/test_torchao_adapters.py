"""Every adapter that is installed here trains over int4 weights, or says why it cannot."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tunesmith import Context, ModelHandle, Registry, TunesmithError
from tunesmith.artifact import adapt
from tunesmith.plan import Use
from tunesmith.recipe import Recipe, check_settings
from tunesmith.registry import Entry
from tunesmith.testing import trial
from tunesmith.testing.checks_listing import module_of
from tunesmith_torchao import Int4Settings, Int8Settings
from tunesmith_torchao.quantizer import int4, int8

#: They train the weights of the base themselves; the example of `regex` names quantized ones.
NEED_DENSE = ("full", "last-layers", "regex", "qat")
QUANTIZERS = {"torchao-int4": (int4, Int4Settings(group_size=16)), "torchao-int8": (int8, Int8Settings())}


def adapters() -> Iterator[Any]:
    """Each adapter that is installed, with each of the settings that its plugin gives to the conformance kit."""
    registry = Registry.discover()
    for entry in registry.entries("adapter"):
        found = getattr(module_of(entry.plugin, registry), "tunesmith_examples", {}).get(entry.component.name, {})
        for number, example in enumerate(found if isinstance(found, list) else [found]):
            yield pytest.param(entry, example, id=f"{entry.component.name}-{number}")


def leaves(tensor: Any) -> list[torch.Tensor]:
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor.detach()]
    return [leaf for name in tensor.__tensor_flatten__()[0] for leaf in leaves(getattr(tensor, name))]


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize(("entry", "example"), adapters())
def test_an_adapter_trains_over_quantized_weights_or_says_why_not(
    entry: Entry, example: dict[str, Any], quantizer: str, tiny_handle: ModelHandle, context: Context
) -> None:
    factory, chosen = QUANTIZERS[quantizer]
    handle = factory(chosen, context).after_load(tiny_handle)
    handle.quantized = quantizer
    before = {name: [leaf.clone() for leaf in leaves(p.data)] for name, p in handle.model.named_parameters()}
    originals = dict(handle.model.named_parameters())
    settings = check_settings(entry.component.settings, example, Recipe({}, None), ("adapter",))
    use = Use(entry.component, entry.qualified, "here", "0.1.0", settings)
    if entry.component.name in NEED_DENSE or example.get("init") in ("pissa", "olora"):
        with pytest.raises(TunesmithError, match=f"quantized.*{quantizer}") as caught:
            adapt(handle, use, context)
        assert caught.value.fix
        return
    adapted = adapt(handle, use, context)
    batch = trial.make_batch()
    batch |= trial.columns(adapted, len(batch["input_ids"]))
    optimizer = trial.make_optimizer(adapted)
    adapted.begin(4)
    adapted.model.train()
    trial.total_loss(adapted, batch).backward()
    assert all(parameter.grad is not None for parameter in adapted.trainable().values())
    optimizer.step()
    adapted.after_step(1, 4)
    moved = {id(parameter) for parameter in adapted.trainable().values()}
    for name, parameter in originals.items():
        if id(parameter) not in moved:
            assert all(map(torch.equal, leaves(parameter.data), before[name])), name


@pytest.mark.parametrize("use", ["lora", "loha"])
def test_merging_into_quantized_weights_is_refused_with_a_way_out(
    use: str, tiny_handle: ModelHandle, context: Context
) -> None:
    handle = int8(Int8Settings(), context).after_load(tiny_handle)
    handle.quantized = "torchao-int8"
    registry = Registry()
    registry.add(importlib.import_module(f"tunesmith_{use}"))
    entry = registry.find("adapter", use)
    adapted = adapt(handle, Use(entry.component, entry.qualified, "here", "0.1.0", entry.component.settings()), context)
    with pytest.raises(
        TunesmithError, match=r"cannot be merged into a base that is quantized \(torchao-int8\)"
    ) as caught:
        adapted.merge()
    assert "--use merge" in str(caught.value.fix)


def test_loftq_says_that_it_needs_another_quantizer(tiny_handle: ModelHandle, context: Context) -> None:
    from tunesmith_lora import LoraSettings
    from tunesmith_lora.adapter import apply

    handle = int4(Int4Settings(group_size=16), context).after_load(tiny_handle)
    handle.quantized = "torchao-int4"
    with pytest.raises(TunesmithError, match=r"\(torchao-int4\) is in nf4 or fp4"):
        apply(handle, LoraSettings(rank=4, init="loftq"), context)
