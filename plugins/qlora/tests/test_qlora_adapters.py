"""Every installed adapter over a 4-bit base, and the plugin's own records."""

from __future__ import annotations

import importlib

import pytest

from tunesmith import Registry
from tunesmith.testing import check_plugin, checks_quantized
from tunesmith.testing import trial as tiny
from tunesmith.testing.check import failures
from tunesmith.testing.checks_listing import module_of
from tunesmith.testing.checks_settings import build
from tunesmith.testing.trial import Trial

SHELF = ("transformers", "qlora", "full", "lora")

#: What stands in the way of some of them; all others must train.
REFUSED = {
    "full": "the adapter full needs dense weights",
    "last-layers": "the adapter last-layers needs dense weights",
    "regex": "training what pattern = 'mlp' matches needs dense weights",
    "pissa": "init = 'pissa', which takes its start out of the weights, needs dense weights",
    "qat": "the base is quantized already (nf4), and [adapter] needs its dense weights",
    "olora": "init = 'olora', which takes its start out of the weights, needs dense weights",
}


def shelf() -> Registry:
    registry = Registry()
    for name in SHELF:
        module = importlib.import_module(f"tunesmith_{name}")
        registry.add(module, distribution=f"tunesmith-{name}".replace("_", "-"), version="0.1.0")
    assert not registry.problems
    return registry


def trials():
    """Each installed adapter with each of the settings that its plugin gives to the conformance kit."""
    registry = Registry.discover()
    for entry in registry.entries("adapter"):
        given = getattr(module_of(entry.plugin, registry), "tunesmith_examples", {}).get(entry.component.name)
        tables = given if isinstance(given, list) else [given or {}]
        for number, table in enumerate(tables):
            yield pytest.param(entry, table, id=f"{entry.component.name}-{number}")


@pytest.fixture(scope="module")
def four_bit(tmp_path_factory):
    bases = checks_quantized.bases(shelf(), tmp_path_factory.mktemp("base"))
    assert [base.name for base in bases] == ["nf4", "fp4", "int8"]
    return bases[0]


@pytest.mark.parametrize(("entry", "table"), trials())
def test_an_adapter_works_over_four_bits_or_says_why_not(entry, table, four_bit, tmp_path):
    [(settings, _)] = build(entry.component, [table])[0]
    expected = REFUSED.get(table.get("init", ""), REFUSED.get(entry.component.name))
    with tiny.steady():
        found = checks_quantized.works(Trial(entry, settings, set(), tmp_path), four_bit)
    assert found.startswith(f"refused: {expected}" if expected else "loss ")
    assert expected or "base unchanged, saved and loaded bit-equal" in found


def test_the_kit_tries_adapters_over_every_quantizer(tmp_path):
    results = check_plugin("head", shelf())
    over = [result for result in results if result.name == "over-quantized-base"]
    assert [result.component for result in over] == [f"adapter head over {name}" for name in ("nf4", "fp4", "int8")]
    assert all(result.ok for result in over)


def test_dora_over_int8_is_refused_on_a_cpu(tmp_path, monkeypatch):
    registry = shelf()
    [base] = [base for base in checks_quantized.bases(registry, tmp_path) if base.name == "int8"]
    entry = registry.find("adapter", "lora", where="")
    [(settings, _)] = build(entry.component, [{"rank": 4, "use_dora": True}])[0]
    with tiny.steady():
        assert "loses the scales of int8 weights on a CPU" in checks_quantized.works(
            Trial(entry, settings, set(), tmp_path), base
        )


def test_the_plugin_keeps_the_contract():
    assert failures(check_plugin("tunesmith-qlora", shelf())) == []
