"""The conformance kit on the adapter of the tutorial, sound and with one defect at a time."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunesmith import Registry
from tunesmith.testing import CheckResult, check_plugin
from tunesmith.testing.scaffold import write_package

INIT, ADAPTER = "__init__.py", "adapter.py"
SCALE = "layer.scale = torch.nn.Parameter(torch.zeros(layer.in_features, device=layer.weight.device))"
HOOK = "lambda m, x: (x[0] * (1 + m.scale).to(x[0].dtype),)"
MERGE = "            layer.weight.data.mul_(1 + layer.scale.data)\n"
TAIL = "        return self.model\n"


@dataclass(frozen=True)
class Defect:
    """What is changed in the sound plugin, which checks must fail, and what the first of them must mention."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    fails: tuple[str, ...]
    says: str = ""


def method(code: str) -> tuple[str, str, str]:
    """An edit that adds a method to the adapter's class."""
    return (ADAPTER, TAIL, TAIL + "\n" + code)


DEFECTS = [
    # --- what a listing shows
    Defect(
        "heavy import",
        ((INIT, "from dataclasses", "import torch\nfrom dataclasses"),),
        ("listing-light",),
        "__init__.py:3",
    ),
    Defect("misspelt hook", ((INIT, "tunesmith_adapters", "tunesmith_adaptors"),), ("hooks-known",), "did you mean"),
    Defect("unmarked hook", ((INIT, "@hookimpl\n", ""),), ("hooks-known",), "@tunesmith.hookimpl"),
    Defect("newer API", ((INIT, "\n\n@hookimpl", "\ntunesmith_api_level = 99\n\n@hookimpl"),), ("api-level",), "99"),
    Defect("no record", ((INIT, "return [Adapter(", "return [dict("),), ("registers",), "yielded dict"),
    Defect("bad name", ((INIT, 'name="', 'name="Bad '),), ("registers",), "kebab-case"),
    Defect("factory of nothing", ((INIT, ":ChannelScaling", ":Scaling"),), ("factories-resolve",), "Scaling"),
    Defect("factory of nowhere", ((ADAPTER, "import torch", "import torchy"),), ("factories-resolve",), "torchy"),
    Defect(
        "factory with other arguments",
        ((ADAPTER, ", context: Context) -> None", ") -> None"),),
        ("factories-resolve",),
        "(handle, settings, context)",
    ),
    # --- settings
    Defect(
        "unread setting",
        ((INIT, "    targets:", '    bias: bool = False\n    """Scale the bias too."""\n    targets:'),),
        ("settings-read",),
        "bias",
    ),
    Defect(
        "undocumented setting",
        ((INIT, '    """Names of the linear layers to scale."""\n', ""),),
        ("settings-documented",),
        "Settings.targets",
    ),
    Defect(
        "refused default",
        (
            (
                INIT,
                "from dataclasses import dataclass",
                "from dataclasses import dataclass\nfrom typing import Annotated",
            ),
            (INIT, "import Adapter,", "import Adapter, MinLen,"),
            (INIT, "tuple[str, ...]", "Annotated[tuple[str, ...], MinLen(3)]"),
        ),
        ("settings-defaults",),
        "at least 3",
    ),
    # --- before training
    Defect("factory that fails", ((ADAPTER, "in_features", "in_feature"),), ("adapts",), "adapter.py:"),
    Defect("nothing to train", ((ADAPTER, "name.endswith", "name.startswith"),), ("adapts",), "nothing to train"),
    Defect(
        "no identity at the start",
        ((ADAPTER, "torch.zeros(layer.in_features", "torch.full((layer.in_features,), 0.001"),),
        ("identity-at-start", "disabled-equals-base"),
    ),
    Defect(
        "wrong formula",
        ((INIT, "factory=factory)", "factory=factory, formula=lambda model, settings: 100)"),),
        ("parameter-formula",),
        "100 trainable parameters, but there are 128",
    ),
    Defect(
        "undeclared parameter",
        (
            (
                ADAPTER,
                "        super().__init__",
                "        handle.model.lm_head.requires_grad_(True)\n        super().__init__",
            ),
            method(
                "    def trainable(self) -> dict:\n"
                "        return {n: p for n, p in super().trainable().items() if n.endswith('scale')}\n"
            ),
        ),
        ("gradients-declared", "base-unchanged", "save-load-equal", "resume-equal", "disabled-equals-base"),
        "lm_head.weight",
    ),
    Defect(
        "parameter without effect",
        (
            (ADAPTER, SCALE, f"{SCALE}\n            layer.idle = torch.nn.Parameter(torch.zeros(1))"),
            (ADAPTER, "del layer.scale", "del layer.scale, layer.idle"),
        ),
        ("gradients-declared",),
        "q_proj.idle",
    ),
    Defect(
        "gradient that depends on the batch size",
        ((ADAPTER, HOOK, "lambda m, x: (x[0] * (1 + m.scale * len(x[0]) / 4),)"),),
        ("accumulation",),
        "v_proj.scale",
    ),
    Defect(
        "dropout from a generator of its own",
        (
            (ADAPTER, "import torch", "import random\n\nimport torch"),
            (ADAPTER, HOOK, "lambda m, x: (x[0] * (1 + m.scale * (random.random() if m.training else 1)),)"),
        ),
        ("checkpointing", "resume-equal"),
    ),
    Defect(
        "checkpointing neither taken nor refused",
        ((INIT, "return [Adapter(", "return [Adapter(checkpointing=False, "),),
        ("checkpointing",),
        "begin() does not refuse",
    ),
    # --- after training
    Defect(
        "training that fails",
        (method("    def after_step(self, step: int, total_steps: int) -> None:\n        1 / (step - 3)\n"),),
        ("trains",),
        "ZeroDivisionError",
    ),
    Defect(
        "loss that rises",
        ((ADAPTER, SCALE, f"{SCALE}\n            layer.scale.register_hook(lambda gradient: -gradient)"),),
        ("loss-falls",),
    ),
    Defect(
        "base changed where it stands",
        ((ADAPTER, SCALE, f"{SCALE}\n            layer.weight.data.mul_(0.5)\n            layer.scale.data.fill_(1)"),),
        ("shares-base",),
        "give frozen weights new storage",
    ),
    Defect(
        "base changed in passing",
        (
            method(
                "    def after_step(self, step: int, total_steps: int) -> None:\n"
                "        self.model.model.norm.weight.data.mul_(0.99)\n"
            ),
        ),
        ("base-unchanged", "save-load-equal", "resume-equal", "disabled-equals-base"),
        "model.norm.weight",
    ),
    Defect(
        "save that loses a tensor",
        (
            method(
                "    def save(self, folder) -> None:\n"
                "        save_file(dict(list(self.state().items())[1:]), folder / 'kept.safetensors')\n\n"
                "    def load(self, folder) -> None:\n"
                "        for name, tensor in load_file(folder / 'kept.safetensors').items():\n"
                "            self.trainable()[name].data.copy_(tensor)\n"
            ),
            (ADAPTER, "import torch", "import torch\nfrom safetensors.torch import load_file, save_file"),
        ),
        ("save-load-equal",),
        "layers.0.self_attn.q_proj.scale",
    ),
    Defect(
        "pickled artifact",
        (
            method(
                "    def save(self, folder) -> None:\n"
                "        torch.save(self.state(), folder / 'adapter.pt')\n\n"
                "    def load(self, folder) -> None:\n"
                "        self.load_state(torch.load(folder / 'adapter.pt'))\n"
            ),
        ),
        ("save-load-equal",),
        "adapter.pt",
    ),
    Defect(
        "random buffer that is not saved",
        (
            (ADAPTER, SCALE, f"{SCALE}\n            layer.mix = torch.rand(layer.in_features)"),
            (ADAPTER, HOOK, "lambda m, x: (x[0] * (1 + m.scale * m.mix),)"),
            (ADAPTER, MERGE, "            layer.weight.data.mul_(1 + layer.scale.data * layer.mix)\n"),
        ),
        ("save-load-equal",),
        "not a trained tensor",
    ),
    Defect(
        "state that a checkpoint does not hold",
        (
            method(
                "    steps = 0\n\n"
                "    def after_step(self, step: int, total_steps: int) -> None:\n"
                "        self.steps += 1\n\n"
                "    def extra_loss(self) -> torch.Tensor:\n"
                "        return self.steps * sum(layer.scale.square().sum() for layer in self.layers)\n"
            ),
        ),
        ("resume-equal",),
        "q_proj.scale",
    ),
    Defect(
        "disabling without effect",
        (
            (ADAPTER, "import torch", "from contextlib import contextmanager\n\nimport torch"),
            method("    @contextmanager\n    def disabled(self):\n        yield self.model\n"),
        ),
        ("disabled-equals-base",),
    ),
    Defect("wrong merge", ((ADAPTER, "mul_(1 + layer", "mul_(1 - layer"),), ("merge-equal",), "logits differ"),
    Defect(
        "merge that leaves a part",
        ((ADAPTER, "            del layer.scale\n", ""),),
        ("merge-equal",),
        "layers.0.self_attn.q_proj.scale",
    ),
]


def results_of(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, defect: Defect | None) -> list[CheckResult]:
    """Write the tutorial's plugin under a name of its own, plant the defect, and check it."""
    write_package(folder, name, "adapter")
    module = name.replace("-", "_")
    for file, old, new in defect.edits if defect else ():
        path = folder / module / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"the template no longer holds {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    registry = Registry()
    registry.add(importlib.import_module(module))
    return check_plugin(module, registry)


def test_the_sound_plugin_passes_every_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = results_of(tmp_path / "sound", "tunesmith-sound", monkeypatch, None)
    assert [result for result in results if not result.ok] == []
    assert {result.name for result in results} == {
        "api-level",
        "hooks-known",
        "registers",
        "listing-light",
        "factories-resolve",
        "settings-defaults",
        "settings-documented",
        "settings-read",
        "adapts",
        "identity-at-start",
        "parameter-formula",
        "gradients-declared",
        "accumulation",
        "checkpointing",
        "shares-base",
        "trains",
        "loss-falls",
        "base-unchanged",
        "save-load-equal",
        "resume-equal",
        "disabled-equals-base",
        "merge-equal",
    }


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.name for defect in DEFECTS])
def test_a_planted_defect_is_reported_by_name(defect: Defect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = DEFECTS.index(defect)
    results = results_of(tmp_path / "defect", f"tunesmith-defect-{number}", monkeypatch, defect)
    failed = {result.name: result.detail for result in results if not result.ok}
    assert set(failed) == set(defect.fails), failed
    assert defect.says in failed[defect.fails[0]]
